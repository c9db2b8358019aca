// The tokenizer and the chat template of a Hugging Face folder, in GGUF's terms.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/result.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/json_file.hpp"

namespace tidemill::model {

// The files that say how a model reads and writes text. All but the first may be absent.
struct TokenizerFiles {
  JsonMembers tokenizer;   // tokenizer.json: pieces, merges, added tokens, and what is done to text before
  JsonMembers names;       // tokenizer_config.json: special tokens by name, whether bos and eos go around a text
  JsonMembers generation;  // generation_config.json: the tokens that end a generation, as config.json has them too
  // Of chat_template.jinja, else of tokenizer_config.json; empty: none.
  std::string chat_template;
};

// Errors: `not_found` for tokenizer.json, `too_large`, `corrupt` for what is no JSON, `io`.
base::Result<TokenizerFiles> read_tokenizer_files(const std::filesystem::path& folder);

// Adds tokenizer.ggml.* and tokenizer.chat_template to `metadata`. Byte-level BPE becomes the model "gpt2", if its
// pre-tokenizer is known, and SentencePiece's BPE "llama". Ids up to `vocabulary`, the rows of the embedding, that no
// token has become unused ones. What GGUF has no word for is left out: normalising to NFC; that SentencePiece's
// Metaspace puts a space before a text's beginning alone ("first"), and not also after each special token in it; that
// an added token takes the white space before it ("lstrip") or is a word by itself ("single_word"). "rstrip" is taken
// as most added tokens have it (kStripAfterSpecialKey). Tokens that end a generation are those of
// generation_config.json, or of config.json where that names none, and the tokenizer's own. Errors name the file and
// the member or token: `corrupt`, and `unsupported` for other models, steps and merges.
base::Result<void> translate_tokenizer(TokenizerFiles files, const JsonMembers& config, int64_t vocabulary,
                                       GgufWriter& metadata);

}  // namespace tidemill::model
