// From bytes to an HttpRequest, with no socket in sight: the grammar (http_head.hpp, chunk_decoder.hpp), the limits,
// the checks against request smuggling (RFC 9112, sections 6.1 and 6.3) and the decoding of the target.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "wire/chunk_decoder.hpp"
#include "wire/http_head.hpp"
#include "wire/http_message.hpp"

namespace tidemill::wire {

// Reads one request. Not thread-safe.
class RequestParser {
 public:
  struct Limits {
    size_t header_bytes;
    size_t body_bytes;
  };
  // Why the request cannot be served; the connection must be closed after saying so.
  struct Refusal {
    int status;
    std::string message;
  };

  explicit RequestParser(Limits limits) : limits_(limits), chunks_(limits.header_bytes, limits.body_bytes) {}

  // Takes what it can from the front of `bytes` and returns how much that was; the rest must come again, with more
  // behind it. Stops at the end of the request, and for good at a refusal. An unfinished head is never taken, so
  // `bytes` has to be able to hold `header_bytes`. How the bytes are cut into pieces changes neither what is read nor
  // what is refused, and why.
  size_t feed(std::string_view bytes);

  bool head_done() const { return head_done_; }
  bool done() const { return done_; }
  const std::optional<Refusal>& refusal() const { return refusal_; }
  // The head asks for "100 Continue" before it sends a body.
  bool expects_continue() const { return expects_continue_; }
  // The head says, or its version implies, that the connection ends after the answer.
  bool keep_alive() const { return keep_alive_; }

  // The request as far as it was read: all of it when `done`; method and target are empty before `head_done`, unless a
  // whole head was refused. Times, peer and route are not set.
  HttpRequest take();

 private:
  size_t skip_blank_lines(std::string_view bytes);
  void read_head(std::string_view head);
  void read_target();
  void check_host(std::string_view authority);
  void check_content_encoding();
  size_t read_body(std::string_view bytes);
  void refuse_chunk();
  void refuse(int status, std::string message);

  Limits limits_;
  HeadScanner scanner_;
  BodyLength length_;
  ChunkDecoder chunks_;
  HttpRequest request_;
  std::optional<Refusal> refusal_;
  bool head_done_ = false;
  bool done_ = false;
  bool expects_continue_ = false;
  bool keep_alive_ = false;
};

}  // namespace tidemill::wire
