// A student as a GGUF file that Tidemill, and others, run.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "base/result.hpp"
#include "distill/student.hpp"
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

}  // namespace tidemill::distill
