// What WordPiece must keep where decoding cannot give the text back.
#pragma once

#include <vector>

#include "text/tokenizer.hpp"

namespace tidemill::test {

// The tokens of what `tokens` decode to, unknown ones written by their name: the same again.
inline std::vector<text::Token> encode_again(const text::Tokenizer& tokenizer, const std::vector<text::Token>& tokens) {
  return tokenizer.encode(tokenizer.decode(tokens, true), {.add_special = false, .parse_special = true}).value();
}

}  // namespace tidemill::test
