#include "gateway/sse_marks.hpp"

#include <algorithm>
#include <utility>

#include "gateway/whole_events.hpp"

namespace tidemill::gateway {

namespace {

constexpr std::string_view prefix = ": tidemill ";

}  // namespace

void clear_and_shrink(std::string& buffer) {
  constexpr size_t usual = size_t{64} << 10;
  if (buffer.capacity() > usual) {
    buffer = std::string();
  } else {
    buffer.clear();
  }
}

base::Result<void> SseMarks::add(std::string_view bytes) {
  if (begin_ == held_.size()) {
    clear_and_shrink(held_);
  } else {
    held_.erase(0, begin_);
  }
  line_ -= begin_;
  scan_ -= begin_;
  begin_ = 0;
  if (held_.size() >= max_held_) {
    return base::Error(base::ErrorCode::too_large,
                       "the stream has an event, or a group of events that belong together, of more than " +
                           std::to_string(max_held_) + " bytes");
  }
  held_ += bytes;
  if (kind_ == Kind::undecided) decide();
  return {};
}

void SseMarks::decide() {
  const std::string_view start = std::string_view(held_).substr(0, prefix.size());
  if (start == prefix) {
    kind_ = Kind::marked;
  } else if (!prefix.starts_with(start)) {
    kind_ = Kind::foreign;
  }
}

void SseMarks::release(std::string& out, size_t to) {
  out.append(held_, begin_, to - begin_);
  begin_ = to;
  has_fields_ = false;
}

// Up to behind the last blank line; lines end with LF, CR LF or CR.
void SseMarks::release_whole_events(std::string& out) {
  const size_t from = std::max(begin_, scan_ < 3 ? 0 : scan_ - 3);
  const std::string_view fresh = std::string_view(held_).substr(from);
  size_t end = 0;
  for (const std::string_view blank : {"\n\n", "\n\r\n", "\r\r"}) {
    const size_t at = fresh.rfind(blank);
    if (at != std::string_view::npos) end = std::max(end, at + blank.size());
  }
  if (end != 0) release(out, from + end);
  line_ = begin_;
  scan_ = held_.size();
}

bool SseMarks::holds_event() const {
  if (has_fields_) return true;
  // Of a foreign stream `line_` is where the lines begin that make no whole event yet.
  for (size_t line = line_; line < held_.size();) {
    const char first = held_[line];
    if (first != ':' && first != '\n' && first != '\r') return true;
    const size_t end = held_.find_first_of("\r\n", line);
    if (end == std::string::npos) return false;
    line = end + 1;
  }
  return false;
}

void SseMarks::finish(std::string& out) {
  if (kind_ == Kind::marked) return;
  append_whole_events(out, std::string_view(held_).substr(begin_));
  begin_ = line_ = scan_ = held_.size();
}

void SseMarks::finish_unread(std::string& out) {
  if (kind_ == Kind::marked) return;
  release(out, held_.size());
  line_ = scan_ = begin_;
}

std::optional<std::string_view> SseMarks::next(std::string& out) {
  if (kind_ == Kind::undecided) return std::nullopt;
  if (kind_ == Kind::foreign) {
    release_whole_events(out);
    return std::nullopt;
  }
  while (true) {
    const size_t end = held_.find('\n', scan_);
    if (end == std::string::npos) {
      scan_ = held_.size();
      return std::nullopt;
    }
    const std::string_view line = std::string_view(held_).substr(line_, end - line_);
    const size_t next_line = end + 1;
    scan_ = next_line;
    if (line.starts_with(prefix)) {
      release(out, line_);
      begin_ = line_ = next_line;  // the mark is for us alone
      behind_mark_ = true;
      return line.substr(prefix.size());
    }
    if (line.empty() && std::exchange(behind_mark_, false)) {
      begin_ = line_ = next_line;  // so is the blank line behind it
      continue;
    }
    behind_mark_ = false;
    line_ = next_line;
    if (line.empty() && !has_fields_) {
      release(out, next_line);  // a comment between two groups, which keeps the connection awake
    } else if (!line.empty() && line.front() != ':') {
      has_fields_ = true;
    }
  }
}

}  // namespace tidemill::gateway
