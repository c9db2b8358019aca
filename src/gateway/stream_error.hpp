// The end of a stream that could not be brought to a good one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "gateway/request_outline.hpp"

namespace tidemill::gateway {

// What the client of a stream of Responses has read: its events are numbered, and its failure is told as a response
// that has failed. Of other dialects nothing is noted.
class ResponseSoFar {
 public:
  explicit ResponseSoFar(Dialect dialect) : dialect_(dialect) {}
  // What was sent to the client: whole events, in order.
  void take(std::string_view events);

  int64_t next_number() const { return next_number_; }
  // The response as the last event that carried it told it, as JSON; empty: none did.
  const std::string& response() const { return response_; }

 private:
  void take_data(std::string_view data);

  Dialect dialect_;
  int64_t next_number_ = 0;
  std::string response_;
};

// What a dialect's clients learn by that the stream has failed; nothing follows it, no "[DONE]" either. One event, but
// for Responses: `response.failed`, with the response that was begun if one was, and then `error`, which clients raise.
std::string error_event(Dialect dialect, const base::Error& error, const ResponseSoFar& so_far);

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
