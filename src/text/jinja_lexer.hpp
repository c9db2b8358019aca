// Splits a Jinja template into tokens, with Jinja's whitespace rules already applied to the text between the tags.
// Syntax after the documentation of Jinja 3.1 ("Template Designer Documentation: Whitespace Control").
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_value.hpp"

namespace tidemill::text::jinja {

enum class TokenKind : uint8_t {
  data,            // text between tags, whitespace control applied
  variable_begin,  // {{
  variable_end,
  block_begin,  // {%
  block_end,
  name,
  string,  // escapes already resolved
  integer,
  floating,
  op,  // `text` is the operator
  end,
};

struct Token {
  TokenKind kind;
  int line;
  std::string text;
};

// Throws Fault with the line of an unclosed tag, an unbalanced bracket or a character that means nothing.
// The last token is `end`. `source` must be valid UTF-8.
std::vector<Token> tokenize(std::string_view source, bool trim_blocks, bool lstrip_blocks);

}  // namespace tidemill::text::jinja
