// Turns a stream of tokens into text, a token at a time.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "text/tokenizer.hpp"

namespace tidemill::text {

// Every string that comes out is whole, valid UTF-8: a character of which only some bytes have come waits for the rest,
// and bytes that are no UTF-8 come out as U+FFFD. Of one thread at a time; the tokenizer must outlive it.
class Detokenizer {
 public:
  // `previous` is what comes before the stream, as a rule the prompt: it decides whether a leading space belongs to the
  // text.
  explicit Detokenizer(const Tokenizer& tokenizer, std::span<const Token> previous = {}, bool show_special = false);

  // The text that this token completes, often empty.
  std::string push(Token token);
  // The bytes that push would take for this token: all of the text's are some token's.
  std::string_view shown_bytes(Token token) const;

  // Whether a character has begun of which bytes are still to come.
  bool within_character() const { return !pending_.empty(); }

  // What is left when no token follows: U+FFFD for an unfinished character, else nothing.
  std::string flush();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;  // the first bytes of a character
  bool show_special_;
  bool prefixed_;  // the next text starts with a space to be dropped
};

}  // namespace tidemill::text
