// What a gateway must know to take a broken stream up on another server: gathered from the marks (sse_marks.hpp) of all
// the servers that have worked on it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace tidemill::gateway {

// The member of a request's body in which a server is told how far a stream had come. Clients may not send it.
inline constexpr std::string_view resume_member = "tidemill_resume";

// One request. Everything is kept as the text in which it came: {"open": ..., "state": ..., "tokens": [[...], ...]}.
class Resumption {
 public:
  // `mark` is the JSON of one mark. `corrupt` for what is none.
  base::Result<void> take(std::string_view mark);

  // A server has said who it is and how it understood the request: from here on there is something to resume.
  bool opened() const { return !open_.empty(); }
  // The stream is complete: nothing may be asked for any more.
  bool ended() const { return ended_; }
  // Tokens of all choices that the client has been sent.
  int64_t tokens() const { return token_count_; }

  // The value of `tidemill_resume`.
  std::string value() const;

 private:
  base::Result<void> take_tokens(long long choice, std::string_view list);

  std::string open_;
  std::string state_;
  std::vector<std::string> tokens_;  // of each choice: "1,2,3"
  int64_t token_count_ = 0;
  bool ended_ = false;
};

}  // namespace tidemill::gateway
