// The tokenizer and the chat template of a Hugging Face folder, in GGUF's terms.
#pragma once

#include <filesystem>

#include "base/result.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/json_file.hpp"

namespace tidemill::model {

// Adds tokenizer.ggml.* and tokenizer.chat_template to `metadata`, from
//
//   tokenizer.json            pieces, merges, added tokens, and what is done to text before: byte-level BPE ("gpt2")
//   with
//                             a pre-tokenizer that is known, or SentencePiece's BPE ("llama")
//   tokenizer_config.json     special tokens by name, whether bos and eos go around a text, the chat template
//   generation_config.json    the tokens that end a generation, as config.json has them too
//   chat_template.jinja       the chat template, before that of tokenizer_config.json
//
// all but the first optional. Ids up to `vocabulary`, the rows of the embedding, that no token has become unused ones.
// Normalising to NFC is left out, as GGUF has no word for it. Errors name the file and the member or token:
// `not_found`, `corrupt`, `too_large`, and `unsupported` for other models, steps and merges than those above.
base::Result<void> translate_tokenizer(const std::filesystem::path& folder, const JsonMembers& config,
                                       int64_t vocabulary, GgufWriter& metadata);

}  // namespace tidemill::model
