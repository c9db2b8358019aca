#include "wire/chunk_decoder.hpp"

#include <algorithm>

#include "wire/http_head.hpp"

namespace tidemill::wire {

namespace {

int hex_digit(unsigned char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const unsigned char lower = c | 0x20;
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool is_blank(unsigned char c) {
  return c == ' ' || c == '\t';
}

}  // namespace

ChunkDecoder::Step ChunkDecoder::next(std::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size() && state_ == State::more) {
    if (at_ == At::data) {
      const size_t length = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size() - at));
      left_ -= length;
      framing_ = 0;
      if (left_ == 0) at_ = At::data_cr;
      return {at + length, at, length};
    }
    state_ =
        ++framing_ > framing_limit_ ? State::framing_too_long : framing_byte(static_cast<unsigned char>(bytes[at]));
    ++at;
  }
  return {at, at, 0};
}

ChunkDecoder::State ChunkDecoder::begin_data() {
  digits_ = 0;
  if (left_ == 0) {
    at_ = At::trailer_first;
    return State::more;
  }
  at_ = At::data;
  return State::more;
}

// One byte of anything but data.
ChunkDecoder::State ChunkDecoder::framing_byte(unsigned char c) {
  const auto go = [this](At next) {
    at_ = next;
    return State::more;
  };
  switch (at_) {
    case At::size_first:
    case At::size: {
      const int digit = hex_digit(c);
      if (digit >= 0) {
        if (digits_ != 0 && left_ > (UINT64_MAX >> 4)) return State::malformed;
        left_ = (digits_ == 0 ? 0 : left_ << 4) | static_cast<uint64_t>(digit);
        digits_ = 1;
        return go(At::size);
      }
      if (at_ == At::size_first) return State::malformed;
      if (left_ > body_limit_) return State::body_too_long;
      body_limit_ -= left_;
      [[fallthrough]];
    }
    case At::before_extension:
      if (c == '\r') return go(At::line_end);
      if (c == ';') return go(At::extension_name_first);
      return is_blank(c) ? go(At::before_extension) : State::malformed;
    case At::extension_name_first:
      if (is_blank(c)) return State::more;
      return is_token_character(c) ? go(At::extension_name) : State::malformed;
    case At::extension_name:
      if (is_token_character(c)) return State::more;
      [[fallthrough]];
    case At::after_name:
      if (c == '=') return go(At::value_first);
      if (c == '\r') return go(At::line_end);
      if (c == ';') return go(At::extension_name_first);
      return is_blank(c) ? go(At::after_name) : State::malformed;
    case At::value_first:
      if (is_blank(c)) return State::more;
      if (c == '"') return go(At::quoted);
      return is_token_character(c) ? go(At::token) : State::malformed;
    case At::token:
      if (is_token_character(c)) return State::more;
      if (c == '\r') return go(At::line_end);
      if (c == ';') return go(At::extension_name_first);
      return is_blank(c) ? go(At::before_extension) : State::malformed;
    case At::quoted:
      if (c == '"') return go(At::before_extension);
      if (c == '\\') return go(At::quoted_pair);
      return is_field_character(c) ? State::more : State::malformed;
    case At::quoted_pair:
      return is_field_character(c) ? go(At::quoted) : State::malformed;
    case At::line_end:
      return c == '\n' ? begin_data() : State::malformed;
    case At::data_cr:
      return c == '\r' ? go(At::data_lf) : State::malformed;
    case At::data_lf:
      return c == '\n' ? go(At::size_first) : State::malformed;
    case At::trailer_first:
      if (c == '\r') return go(At::last_lf);
      return is_token_character(c) ? go(At::trailer_name) : State::malformed;
    case At::trailer_name:
      if (is_token_character(c)) return State::more;
      return c == ':' ? go(At::trailer_value) : State::malformed;
    case At::trailer_value:
      if (c == '\r') return go(At::trailer_lf);
      return is_field_character(c) ? State::more : State::malformed;
    case At::trailer_lf:
      return c == '\n' ? go(At::trailer_first) : State::malformed;
    case At::last_lf:
      return c == '\n' ? State::done : State::malformed;
    case At::data:
      break;
  }
  return State::malformed;
}

}  // namespace tidemill::wire
