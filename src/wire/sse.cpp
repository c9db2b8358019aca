#include "wire/sse.hpp"

#include <charconv>
#include <utility>

namespace tidemill::wire {

namespace {

// Calls `take` with each line of `text`, which LF, CR or CRLF separate.
template <typename Take>
void for_each_line(std::string_view text, Take take) {
  while (true) {
    const size_t end = text.find_first_of("\r\n");
    take(text.substr(0, end));
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + (text.substr(end, 2) == "\r\n" ? 2 : 1));
  }
}

}  // namespace

void append_sse(std::string& out, std::string_view data, std::string_view event) {
  if (!event.empty()) {
    out += "event: ";
    for_each_line(event, [&](std::string_view line) { out += line; });
    out += '\n';
  }
  for_each_line(data, [&](std::string_view line) {
    out += "data: ";
    out += line;
    out += '\n';
  });
  out += '\n';
}

std::string sse_event(std::string_view data, std::string_view event) {
  std::string out;
  append_sse(out, data, event);
  return out;
}

std::string sse_comment(std::string_view text) {
  std::string out;
  for_each_line(text, [&](std::string_view line) {
    out += ": ";
    out += line;
    out += '\n';
  });
  out += '\n';
  return out;
}

base::Result<std::vector<SseEvent>> SseParser::feed(std::string_view bytes) {
  const auto too_large = [&] {
    failed_ = true;
    return base::Error(base::ErrorCode::too_large, "a server-sent event is longer than the limit of " +
                                                       std::to_string(max_event_bytes_) + " bytes");
  };
  if (failed_) return too_large();
  std::vector<SseEvent> events;
  while (!bytes.empty()) {
    if (std::exchange(skip_lf_, false) && bytes.front() == '\n') {
      bytes.remove_prefix(1);
      continue;
    }
    const size_t end = bytes.find_first_of("\r\n");
    const std::string_view piece = bytes.substr(0, end);
    if (line_.size() + data_.size() + piece.size() > max_event_bytes_) return too_large();
    line_ += piece;
    if (end == std::string_view::npos) break;
    skip_lf_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    std::string_view line = line_;
    if (std::exchange(first_line_, false) && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
    take_line(line, events);
    line_.clear();
  }
  return events;
}

void SseParser::take_line(std::string_view line, std::vector<SseEvent>& events) {
  if (line.empty()) {
    if (has_data_) {
      data_.pop_back();  // the '\n' after the last line
      events.push_back({event_.empty() ? "message" : std::move(event_), std::move(data_), id_});
    }
    has_data_ = false;
    data_.clear();
    event_.clear();
    return;
  }
  const size_t colon = line.find(':');
  const std::string_view field = line.substr(0, colon);
  std::string_view value = colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "data") {
    has_data_ = true;
    data_ += value;
    data_ += '\n';
  } else if (field == "event") {
    event_ = value;
  } else if (field == "id") {
    if (value.find('\0') == std::string_view::npos) id_ = value;
  } else if (field == "retry") {
    int milliseconds = 0;
    const auto [stop, error] = std::from_chars(value.data(), value.data() + value.size(), milliseconds);
    if (error == std::errc() && stop == value.data() + value.size() && milliseconds >= 0) retry_ms_ = milliseconds;
  }
}

}  // namespace tidemill::wire
