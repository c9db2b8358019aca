// The head of an HTTP/1.x message, read strictly (RFC 9112): lines end in CR LF, no folded lines, no blank before a
// colon, no control characters. What two programs might read differently is refused, not mended.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "wire/http_message.hpp"

namespace tidemill::wire {

// "!#$%&'*+-.^_`|~", digits and letters (RFC 9110, section 5.6.2).
bool is_token_character(unsigned char c);
// What a field's value may hold: no control characters but the tab.
bool is_field_character(unsigned char c);

// Finds the end of a head among bytes that come in pieces.
class HeadScanner {
 public:
  enum class Found : uint8_t { nothing, head, bare_line_feed, too_long };
  // `bytes` begin with the head and have grown since the last call. Looks at new ones alone.
  Found scan(std::string_view bytes, size_t limit);
  // After `head`: its length, with the blank line.
  size_t length() const { return length_; }
  void reset() { *this = HeadScanner(); }

 private:
  size_t searched_ = 0;
  size_t length_ = 0;
};

struct RequestLine {
  std::string_view method;
  std::string_view target;
  bool http_1_0 = false;
};
struct StatusLine {
  int status = 0;
  bool http_1_0 = false;
};

// `head` is a whole head with its blank line. nullptr if it is good; what is wrong with it otherwise ("a folded line").
const char* read_request_head(std::string_view head, RequestLine& line, Headers& headers);
const char* read_answer_head(std::string_view head, StatusLine& line, Headers& headers);

// How long a message's body says it is, from Content-Length and Transfer-Encoding.
struct BodyLength {
  enum class Kind : uint8_t { none, length, chunked };
  Kind kind = Kind::none;
  uint64_t bytes = 0;
};
// nullptr, or what is wrong: both fields, differing or repeated lengths, no number, a coding other than "chunked".
const char* read_body_length(const Headers& headers, bool http_1_0, BodyLength& length);

}  // namespace tidemill::wire
