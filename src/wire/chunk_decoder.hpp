// The chunked transfer coding (RFC 9112, section 7.1), read byte by byte: what is refused, and where, does not depend
// on how the bytes were cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tidemill::wire {

// Strict: lines end in CR LF, sizes are hexadecimal digits, extensions and trailers follow the grammar (and are
// dropped).
class ChunkDecoder {
 public:
  enum class State : uint8_t { more, done, malformed, framing_too_long, body_too_long };

  // `framing_limit`: bytes of chunk headers and trailers without a byte of data in between. `body_limit`: of data.
  ChunkDecoder(size_t framing_limit, uint64_t body_limit) : framing_limit_(framing_limit), body_limit_(body_limit) {}

  struct Step {
    size_t taken;   // bytes used up from the front; fewer than given only at the end or at a fault
    size_t offset;  // where the data lies among them
    size_t length;  // how much data; 0: framing alone
  };
  // Takes framing up to and with one stretch of data. Call again with the rest while `state()` is `more`.
  Step next(std::string_view bytes);

  State state() const { return state_; }

 private:
  enum class At : uint8_t {
    size_first,  // the first digit
    size,
    before_extension,  // blanks between the size or an extension and ';' or the end of the line
    extension_name_first,
    extension_name,
    after_name,
    value_first,
    token,
    quoted,
    quoted_pair,
    line_end,  // the LF of a chunk's header
    data,
    data_cr,
    data_lf,
    trailer_first,
    trailer_name,
    trailer_value,
    trailer_lf,
    last_lf,
  };
  State framing_byte(unsigned char c);
  State begin_data();

  size_t framing_limit_;
  uint64_t body_limit_;  // what is left of it
  uint64_t left_ = 0;    // of the chunk
  size_t framing_ = 0;
  int digits_ = 0;
  At at_ = At::size_first;
  State state_ = State::more;
};

}  // namespace tidemill::wire
