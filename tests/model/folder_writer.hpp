// Hugging Face folders written for tests, without the code under test: what transformers would have saved of a model
// that the tests have as GGUF.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "model/gguf.hpp"
#include "text/vocabulary.hpp"

namespace tidemill::test {

struct FolderTensor {
  std::string dtype;
  std::vector<int64_t> shape;  // outermost first
  std::string bytes;
};

// The content of a folder; tests damage it in one place.
struct FolderDraft {
  base::json::object config;
  std::optional<base::json::value> tokenizer;
  base::json::object tokenizer_config;
  std::optional<base::json::object> generation_config;
  std::string chat_template;  // empty: no such file
  std::map<std::string, FolderTensor> tensors;

  // `shards` above 1: so many files of weights and their index.
  void write(const std::filesystem::path& folder, int shards = 1) const;
};

// The model in `file`, of any decoder's architecture, F32, F16 or BF16; gpt-oss's experts may be MXFP4.
FolderDraft draft_of(const model::GgufFile& file);

// The matrix that makes keys and values of latents in one, as folders and older GGUF files have it, of the two that
// newer ones have: attn_v_b, which is `values`, and attn_k_b of the same layer.
std::string latent_expansion(const model::GgufFile& file, const model::GgufTensor& values);

// tokenizer.json of a vocabulary: byte-level with one of the pre-tokenizers gpt-2, starcoder, falcon, llama-bpe, qwen2,
// gpt-4o, tekken and deepseek-coder, SentencePiece's, or as encoder_writer.hpp has it.
base::json::value tokenizer_json(const text::Vocabulary& vocabulary);

}  // namespace tidemill::test
