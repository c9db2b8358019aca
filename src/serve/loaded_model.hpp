// Everything that is needed to run one model, a decoder or an encoder: weights on a device, tokenizer, chat template.
// Free of HTTP, so that the command line's chat, complete, bench and tokenize load models in the same way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "model/encoder.hpp"
#include "model/model.hpp"
#include "serve/chat_prompt.hpp"
#include "serve/grammar_cache.hpp"
#include "tensor/device.hpp"
#include "tensor/isa.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::serve {

struct ModelOptions {
  std::filesystem::path path;           // a GGUF file or a Hugging Face folder; empty: `embedded`
  std::span<const std::byte> embedded;  // the bytes of one; must outlive the model
  std::string embedded_name;            // what `embedded` is called, without ".gguf"

  std::string name;                          // served under this, printable; empty: the stem, or embedded_name
  std::string isa = "auto";                  // tensor::to_string of one; "auto": tensor::choose_isa()
  int threads = 0;                           // that compute; 0: base::cpu_budget()
  std::filesystem::path chat_template_file;  // in place of the model's own template; empty: none
  std::string tool_format;                   // chat::to_string of one; empty: what the template shows
  std::string reasoning_format;              // as chat::set_reasoning; empty: what the template shows
  int64_t max_batch_rows = 2048;             // most rows of one forward(): the engine's token budget of a step
  int64_t max_context = 0;                   // tokens of the longest sequence there will be; 0: the model's context
  tensor::ActivationScheme activations = tensor::ActivationScheme::dynamic;
};

// Thread-safe except for model(), encoder() and device(), which one thread at a time may use (the engine's).
class LoadedModel {
 public:
  using OnProgress = std::function<void(size_t done, size_t total)>;  // bytes of tensors

  // Errors: those of the file, the model and the tokenizer, each naming the file and what was found; `not_found` and
  // `invalid_argument` for the template's file. A template inside the model that this build cannot read is no error:
  // it is said in the log, and chat requests get the reason. `cancelled`, if `cancelled` says so between two tensors.
  static base::Result<std::unique_ptr<LoadedModel>> load(const ModelOptions& options, OnProgress on_progress = {},
                                                         std::function<bool()> cancelled = {});
  ~LoadedModel();

  // What clients call it, and the other name they may use: the file's stem, made printable (often the same).
  const std::string& name() const { return name_; }
  const std::string& stem() const { return stem_; }
  bool answers_to(std::string_view name) const { return name.empty() || name == name_ || name == stem_; }

  // Whether there is a model that generates; else there is an encoder. Of the other there is none to be asked for.
  bool generates() const { return model_ != nullptr; }
  model::Model& model() const { return *model_; }
  model::Encoder& encoder() const { return *encoder_; }
  // Whether that is a reranker, which scores pairs of texts and makes no embeddings.
  bool ranks() const { return encoder_ != nullptr && encoder_->ranks(); }
  const model::HyperParameters& hyper_parameters() const {
    return generates() ? model_->hyper_parameters() : encoder_->hyper_parameters();
  }
  size_t weight_bytes() const { return generates() ? model_->weight_bytes() : encoder_->weight_bytes(); }
  tensor::Device& device() const { return *device_; }
  const text::Tokenizer& tokenizer() const { return *tokenizer_; }
  const ChatPrompt& chat() const { return *chat_; }
  GrammarCache& grammars() const { return *grammars_; }
  // What it computes with.
  tensor::Isa isa() const { return isa_; }
  int threads() const { return threads_; }
  const std::string& threads_source() const { return threads_source_; }  // where that number comes from, in words

  size_t file_bytes() const { return file_bytes_; }
  // Of the file's bytes, those that stay mapped as weights. The kernel counts them as memory that it could give away.
  size_t mapped_bytes() const { return mapped_bytes_; }
  base::Duration load_time() const { return load_time_; }

  // Of the model's bytes, as base::PiecewiseChecksum. Reads all of them. Errors: those of opening the file, which must
  // still be there.
  base::Result<uint64_t> content_checksum() const;

  // Of the sizes of the model's files and of a spread of each one's bytes: tells files apart that were not made to be
  // taken for each other.
  uint64_t content_sample() const { return content_sample_; }

  // The tokens of a prompt that is text as it is (Completions): control tokens written out in it are read as such, and
  // the beginning-of-sequence token is put before it where the vocabulary asks for one, unless it is there already.
  base::Result<std::vector<text::Token>> encode_prompt(std::string_view text) const;

 private:
  LoadedModel() = default;

  std::vector<std::filesystem::path> paths_;  // the model's files; none: embedded_
  std::span<const std::byte> embedded_;
  std::string name_;
  std::string stem_;
  size_t file_bytes_ = 0;
  uint64_t content_sample_ = 0;
  size_t mapped_bytes_ = 0;
  base::Duration load_time_{};
  tensor::Isa isa_ = tensor::Isa::scalar;
  int threads_ = 1;
  std::string threads_source_;
  std::unique_ptr<tensor::Device> device_;
  std::unique_ptr<model::Model> model_;
  std::unique_ptr<model::Encoder> encoder_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::unique_ptr<ChatPrompt> chat_;
  std::unique_ptr<GrammarCache> grammars_;
};

}  // namespace tidemill::serve
