// Which of GGUF's tokenizers a tokenizer.json is, by its model and by what it does to text before.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "model/hugging_face/tokenizer_files.hpp"

namespace tidemill::model {

struct TokenizerModel {
  enum class Kind : uint8_t { byte_level, sentence_piece, unigram, word_piece };

  Kind kind = Kind::byte_level;
  std::string_view pre = "default";  // byte_level: GGUF's name for how text is cut into words
  bool ignore_merges = false;        // byte_level: words that are pieces become tokens whatever the merges say
  bool byte_fallback = false;        // sentence_piece, unigram: pieces like <0x0A> are bytes
  bool space_prefix = false;         // sentence_piece, unigram: a space goes before text
  bool single_spaces = false;        // unigram: several become one
  std::string characters_map;        // unigram: SentencePiece's map of characters; empty: none
  bool lower_case = false;           // word_piece: text loses its capitals and accents
};

// Errors name the file and the member: `corrupt`, and `unsupported` for other models and steps.
base::Result<TokenizerModel> read_tokenizer_model(const TokenizerFiles& files);

}  // namespace tidemill::model
