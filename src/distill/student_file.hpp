// A student as a GGUF file that Tidemill, and others, run.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "distill/student.hpp"
#include "model/checkpoint.hpp"
#include "model/metadata.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::distill {

struct StudentFacts {
  std::string name;
  std::string description;
  tensor::DType type = tensor::DType::f16;  // of the matrices: F32, F16 or BF16
};

// A "llama" with the tokenizer and the chat template of `vocabulary`, and a context of the plan's window: beyond that
// the student has seen nothing. Errors: those of GgufWriter, and `corrupt` where a weight is not finite in the type.
base::Result<void> write_student(const std::filesystem::path& path, const StudentPlan& plan,
                                 std::span<const NamedArray> weights, const model::Metadata& vocabulary,
                                 const StudentFacts& facts);

// The weights of a file that write_student() could have written for such a plan, whoever wrote it: for a student that
// goes on from there. `expected` are the arrays that it has (Student::weights()). `invalid_argument` where the model is
// another, saying in what; `corrupt` for a weight that is not finite; those of Checkpoint::read.
base::Result<std::vector<NamedArray>> read_student(const model::Checkpoint& file, const StudentPlan& plan,
                                                   std::span<const NamedArray> expected);

}  // namespace tidemill::distill
