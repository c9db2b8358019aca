// A model that is judged: on a device, with its tokenizer, read one sequence at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "model/model.hpp"
#include "tensor/device.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::evaluate {

using model::Token;

struct SubjectOptions {
  int64_t context = 0;  // as of LoadOptions: tokens of the longest sequence that will be read, or 0
  int threads = 1;      // as of LoadOptions
  tensor::KvType kv_type = tensor::KvType::f16;
  // Weights become F32, and so do keys and values, whatever kv_type says: the plain arithmetic that everything else is
  // judged against, at up to eight times the memory.
  bool plain = false;
  std::function<void(size_t done, size_t total)> on_progress;  // bytes of tensors loaded
  std::function<bool()> cancelled;
  std::function<void(std::string_view tensor, const tensor::Weight& weight)> on_matrix = {};  // as of LoadOptions
};

// How a model that is judged, or looked into, takes texts.
struct SubjectText {
  std::unique_ptr<text::Tokenizer> tokenizer;
  // What stands before a text: the beginning-of-sequence token, where the vocabulary asks for it.
  std::vector<Token> lead;

  // Errors: those of the tokenizer, with the file's name; `unsupported` for an encoder, `corrupt` where there are more
  // tokens than the model predicts.
  static base::Result<SubjectText> load(const model::Checkpoint& file);
};

// Reads one sequence. Not thread-safe; the model that it reads with has one reader at a time.
class Reader {
 public:
  // Room for `context` tokens. Both must outlive the reader. `exhausted` when memory is short.
  static base::Result<Reader> create(model::Model& model, tensor::Device& device, int64_t context,
                                     tensor::KvType kv_type, int64_t step_rows);

  // Most tokens of one read(): so few that their logits take at most 64 MiB, or a little more.
  int64_t step_rows() const { return step_rows_; }

  // Reads up to step_rows() tokens at `position` and on. All positions before it were read: earlier, or by the calls
  // before; what was read at `position` and on is forgotten. Gives the logits behind tokens[first_wanted] and those
  // after it, a row each; they hold until the next call.
  tensor::ConstMatrix read(std::span<const Token> tokens, int64_t position, int64_t first_wanted);

 private:
  Reader(model::Model& model, std::unique_ptr<tensor::KvCache> cache, int64_t step_rows);

  model::Model* model_;
  std::unique_ptr<tensor::KvCache> cache_;
  int64_t step_rows_;
  std::vector<int32_t> blocks_;
  std::vector<int32_t> sequences_;  // zeros
};

// Movable. Not thread-safe.
class Subject {
 public:
  // `device` must outlive the subject. Errors: those of load_model and of the tokenizer, with the file's name;
  // `unsupported` for an encoder, and for a packed file that is to be plain.
  static base::Result<Subject> load(const model::Checkpoint& file, tensor::Device& device,
                                    const SubjectOptions& options);

  const std::string& name() const { return name_; }  // of its file, for errors and tables
  bool plain() const { return plain_; }
  tensor::KvType kv_type() const { return kv_type_; }
  size_t file_bytes() const { return file_bytes_; }
  const model::Model& model() const { return *model_; }
  model::Model& model() { return *model_; }  // for who runs it on a cache of their own: one at a time, as readers do
  const text::Tokenizer& tokenizer() const { return *text_.tokenizer; }
  int64_t context() const { return model_->hyper_parameters().context; }

  std::span<const Token> lead() const { return text_.lead; }  // as of SubjectText

  base::Result<Reader> make_reader(int64_t context);

  // An error that this model's logits, somewhere, are not a distribution.
  base::Error no_distribution(std::string_view where) const;

 private:
  Subject() = default;

  std::string name_;
  bool plain_ = false;
  tensor::KvType kv_type_ = tensor::KvType::f16;
  size_t file_bytes_ = 0;
  int64_t step_rows_ = 0;
  tensor::Device* device_ = nullptr;
  std::unique_ptr<model::Model> model_;
  SubjectText text_;
};

// That a token means the same to both, so that their predictions can be compared. The error, `invalid_argument`, says
// where they differ first.
base::Result<void> check_same_vocabulary(const Subject& subject, const Subject& reference);

}  // namespace tidemill::evaluate
