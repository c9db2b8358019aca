// UTF-8 (RFC 3629): decoding, validity, and where an incomplete tail begins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tidemill::base::utf8 {

inline constexpr char32_t replacement = 0xFFFD;

struct Decoded {
  char32_t code_point;  // `replacement` where the bytes are not valid UTF-8
  uint8_t length;       // bytes consumed, 1 to 4; an invalid sequence consumes its maximal valid prefix, at least 1
  bool valid;
};

// Decodes the first code point of `text`, which must not be empty. Overlong forms, surrogates and values past U+10FFFF
// are invalid.
Decoded decode(std::string_view text);

void append(std::string& out, char32_t code_point);

bool is_valid(std::string_view text);

// Code points in `text`, which must be valid.
size_t length(std::string_view text);

// The first `count` characters of `text`, or all of it; never a part of one.
std::string_view prefix(std::string_view text, size_t count);

// `text` with every invalid sequence replaced by U+FFFD (one per maximal prefix, as the Unicode standard recommends).
std::string sanitize(std::string_view text);

// `text` made fit for one line of a terminal, whatever it holds: invalid sequences, control characters, and what breaks
// lines or turns the direction of writing are U+FFFD each. Of more than `limit` bytes only the characters within those
// are left, and "...".
std::string printable(std::string_view text, size_t limit = std::string_view::npos);

// Number of bytes at the end of `text` that begin a character which more bytes could complete: 0 to 3.
size_t incomplete_tail(std::string_view text);

}  // namespace tidemill::base::utf8
