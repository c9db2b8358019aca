// A model that learns: the border between what trains and the library that it is trained with. What stands behind it is
// a module of its own (torch/), built where libtorch is installed and loaded when it is wanted: the program itself
// links none of it. No type of libtorch crosses.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "distill/shape.hpp"

namespace tidemill::distill {

enum class Precision : uint8_t {
  f32,
  bf16,  // matrices are multiplied in bf16 and summed in F32; all else is F32
};

struct StudentPlan {
  StudentShape shape;
  int64_t vocabulary = 0;
  int64_t window = 256;  // most tokens of one window
  float rms_epsilon = 1e-5F;
  double rope_base = 10000;
  Precision precision = Precision::f32;
  int threads = 1;
  uint64_t seed = 1;  // of the first weights

  // The optimiser's. Matrices inside the layers go by Muon (https://kellerjordan.github.io/posts/muon): momentum,
  // Nesterov's, made orthogonal by five Newton-Schulz steps. Embeddings and norms go by AdamW.
  double matrix_rate = 0.02;
  double matrix_momentum = 0.95;
  double matrix_decay = 0.01;
  double vector_rate = 0.004;
  // Of the loss, the share that the text's next token makes up; what the teacher says has the rest.
  double hard_share = 0.3;
};

// An array of the student's, by GGUF's name of the weight. Of the optimiser's state, the name goes on with "/momentum",
// "/mean" or "/square".
struct NamedArray {
  std::string name;
  std::vector<int64_t> shape;  // innermost first, as in GGUF: a matrix is {cols, rows}
  std::vector<float> values;
};

// Windows that are read side by side: `rows` = windows * length.
struct Exercise {
  int64_t windows = 0;
  int64_t length = 0;
  std::span<const int32_t> tokens;  // [rows], what is read
  std::span<const int32_t> next;    // [rows], the token that follows each in the text
  // What a teacher expects: of each row the `kept` most likely tokens, each once, and their probabilities. The others
  // share what is missing to 1. Empty without a teacher.
  int64_t kept = 0;
  std::span<const int32_t> expected;     // [rows][kept]
  std::span<const float> probabilities;  // [rows][kept]
};

struct Score {
  int64_t rows = 0;
  double nats = 0;        // of the text's next tokens, summed
  double divergence = 0;  // KL(teacher || student), over the tokens that were kept and all others as one; summed, nats
  int64_t right = 0;      // rows whose most likely token is the next one; counted by judge() alone
};

// Not thread-safe. The arithmetic depends on the plan and what it is given alone, and not on the number of threads.
// Errors: `internal` with libtorch's words, `exhausted` for memory.
class Student {
 public:
  virtual ~Student() = default;

  // One step of the optimiser, on the mean over the exercise's rows; `rate` (0 .. 1) scales the plan's rates. Gives
  // what the rows were worth before it. Where a sum is not finite (the score's), nothing has changed.
  virtual base::Result<Score> step(const Exercise& exercise, double rate) = 0;
  virtual base::Result<Score> judge(const Exercise& exercise) = 0;

  // The weights, in the order in which a file has them: tensors of a "llama" GGUF file.
  virtual base::Result<std::vector<NamedArray>> weights() const = 0;
  // These and the optimiser's.
  virtual base::Result<std::vector<NamedArray>> state() const = 0;
  // Takes the arrays that are given; `corrupt` for one that it has not, or of another shape.
  virtual base::Result<void> restore(std::span<const NamedArray> arrays) = 0;
};

// A new student with random weights. `unsupported` where this program was built without libtorch, or the module is of
// another build, saying what to install and how to build; `internal` where it does not start.
base::Result<std::unique_ptr<Student>> make_student(const StudentPlan& plan);

// What trains, for people: "libtorch 1.13.0". Errors: as of make_student.
base::Result<std::string> trainer_version();

// Whether the module lies beside the program, without loading it, which takes a second.
bool trainer_is_there();

// What the module exports (torch/module.cpp). The number changes with anything above.
inline constexpr int kStudentInterface = 1;
struct StudentModule {
  int interface = 0;
  const char* program_version = nullptr;
  const char* library = nullptr;
  base::Result<std::unique_ptr<Student>> (*make)(const StudentPlan&) = nullptr;
};
inline constexpr const char* kStudentModuleSymbol = "tidemill_student_module";

}  // namespace tidemill::distill
