// The end of a stream that could not be brought to a good one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "gateway/request_outline.hpp"

namespace tidemill::gateway {

// The event by which a dialect's clients learn that the stream has failed; nothing follows it, no "[DONE]" either.
// `sequence_number` is for Responses, whose events are numbered.
std::string error_event(Dialect dialect, const base::Error& error, int64_t sequence_number);

// Watches a stream of a backend without marks for the words with which its dialect ends, by which a stream that was cut
// off is told from one that is complete. Fed with whole events.
class StreamEnd {
 public:
  explicit StreamEnd(Dialect dialect) : dialect_(dialect) {}
  void take(std::string_view events);
  // Dialects that are not known end however they like.
  bool seen() const { return seen_ || dialect_ == Dialect::other; }
  int64_t events() const { return events_; }

 private:
  Dialect dialect_;
  bool seen_ = false;
  int64_t events_ = 0;
};

}  // namespace tidemill::gateway
