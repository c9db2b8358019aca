// A chat that streams from a backend without marks, and how to take it up elsewhere as well as can be: the other
// backend is shown what was generated as the beginning of the assistant's message, and asked to go on with it. Text cut
// inside a token, or sampling, may make it go on differently than the first would have.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"
#include "wire/sse.hpp"

namespace tidemill::gateway {

// One request for one choice. Fed with what the client was sent.
class ForeignChat {
 public:
  // Whole events.
  void take(std::string_view events);

  // The stream has said why it ended: only its last words are missing.
  bool finished() const { return finished_; }
  // "[DONE]" has come.
  bool done() const { return done_; }
  // False once there is more in it than plain text: tool calls, reasoning, several choices, or what could not be read.
  bool resumable() const { return plain_; }

  // The request that asks another backend to go on.
  base::Result<std::string> resume_body(std::string_view body);

  // The events of the backend that goes on, as if they were the first one's: appends them under the first one's id, and
  // without a second role. In a usage, what that backend was shown of the answer counts as output, as which the client
  // has got it, and not as prompt. Whole events.
  void adopt(std::string_view events, std::string& out) const;

 private:
  void take_chunk(const base::json::object& chunk);
  void count_as_output(base::json::object& usage) const;

  wire::SseParser parser_{SIZE_MAX};  // whole events, which gateway.max_event has let through
  base::json::object head_;           // id, created, model of the first chunk
  std::string content_;
  int64_t chunks_ = 0;  // that brought content: as many tokens, with most backends
  int64_t shown_ = 0;   // of them, to the backend that was asked last to go on
  bool plain_ = true;
  bool finished_ = false;
  bool done_ = false;
};

}  // namespace tidemill::gateway
