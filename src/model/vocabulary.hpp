// The tokenizer's data and the chat template in a model file.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "model/metadata.hpp"
#include "text/vocabulary.hpp"

namespace tidemill::model {

// Whether special tokens swallow the white space after them (text::Vocabulary::strip_after_special). GGUF has no key
// for it, and its readers go by the model's name; a folder says it, and this key of our own then says it in its place.
inline constexpr std::string_view kStripAfterSpecialKey = "tidemill.tokenizer.strip_after_special";

// Likewise whether words that are pieces become tokens whatever the merges say (text::Vocabulary::ignore_merges), where
// a folder says otherwise than what the name of the pre-tokenizer stands for.
inline constexpr std::string_view kIgnoreMergesKey = "tidemill.tokenizer.ignore_merges";

// Whether WordPiece's text loses its capitals and accents; where it is absent, what the vocabulary can spell says it.
inline constexpr std::string_view kLowerCaseKey = "tokenizer.ggml.normalizer.lowercase";

// tokenizer.ggml.* as the text room wants it, ready for Tokenizer::create. `not_found` where the file has no vocabulary
// (a model without one still runs on token ids), `unsupported` for another tokenizer, else the errors of Metadata's
// getters.
base::Result<text::Vocabulary> read_vocabulary(const Metadata& file);

// tokenizer.chat_template; empty where the file has none.
base::Result<std::string> read_chat_template(const Metadata& file);

}  // namespace tidemill::model
