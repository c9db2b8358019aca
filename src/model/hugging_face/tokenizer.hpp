// The tokenizer and the chat template of a Hugging Face folder, in GGUF's terms.
#pragma once

#include <cstdint>

#include "base/result.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/json_file.hpp"
#include "model/hugging_face/tokenizer_files.hpp"

namespace tidemill::model {

// Adds tokenizer.ggml.* and tokenizer.chat_template to `metadata`. Byte-level BPE becomes the model "gpt2", if its
// pre-tokenizer is known, SentencePiece's BPE "llama" and its unigram model "t5", and BERT's WordPiece "bert". Ids up
// to `vocabulary`, the rows of the embedding, that no token has become unused ones. What GGUF has no word for is left
// out: normalising to NFC; that SentencePiece's Metaspace puts a space before a text's beginning alone ("first"), and
// not also after each special token in it; that an added token takes the white space before it ("lstrip"; a mask's,
// which no text has, is passed over) or is a word by itself ("single_word"). "rstrip" is taken as most added tokens
// have it (kStripAfterSpecialKey). Tokens that end a generation are those of generation_config.json, or of config.json
// where that names none, and the tokenizer's own. Errors name the file and the member or token: `corrupt`,
// also for merges of what is no token and where most ids have none, and `unsupported` for other models, steps and
// merges.
base::Result<void> translate_tokenizer(TokenizerFiles files, const JsonMembers& config, int64_t vocabulary,
                                       GgufWriter& metadata);

}  // namespace tidemill::model
