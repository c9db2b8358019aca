// Server-sent events, written and read (WHATWG HTML Living Standard, section 9.2).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace tidemill::wire {

// The Content-Type of an event stream.
inline constexpr std::string_view sse_content_type = "text/event-stream";

// Appends one event: "event: NAME\n" if there is a name, one "data:" line for each line of `data`, and the blank line.
// A name must not hold line breaks (they are left out).
void append_sse(std::string& out, std::string_view data, std::string_view event = {});
std::string sse_event(std::string_view data, std::string_view event = {});

// ": TEXT\n\n", which clients ignore: keeps connections and proxies awake through a long prefill.
std::string sse_comment(std::string_view text);

struct SseEvent {
  std::string event;  // "message" unless the stream named one
  std::string data;   // lines joined by '\n'
  std::string id;     // the last id the stream gave, which later events inherit
  bool operator==(const SseEvent&) const = default;
};

// Reads a stream that arrives in pieces of any size, cut anywhere, with lines ended by LF, CR or CRLF. Not thread-safe.
class SseParser {
 public:
  // An event longer than `max_event_bytes` is an error: too_large.
  explicit SseParser(size_t max_event_bytes = size_t{8} << 20) : max_event_bytes_(max_event_bytes) {}

  // The events that `bytes` completed. After an error the parser stays in error.
  base::Result<std::vector<SseEvent>> feed(std::string_view bytes);

  // The last `retry:` the stream gave, in milliseconds.
  std::optional<int> retry_ms() const { return retry_ms_; }

 private:
  void take_line(std::string_view line, std::vector<SseEvent>& events);

  size_t max_event_bytes_;
  std::string line_;  // the unfinished line
  std::string event_;
  std::string data_;
  std::string id_;
  bool has_data_ = false;
  bool skip_lf_ = false;    // the last byte was CR: an LF right after belongs to it
  bool first_line_ = true;  // a byte order mark may open the stream
  bool failed_ = false;
  std::optional<int> retry_ms_;
};

}  // namespace tidemill::wire
