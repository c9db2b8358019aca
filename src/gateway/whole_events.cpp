#include "gateway/whole_events.hpp"

#include <cstring>
#include <utility>

#include "gateway/json_members.hpp"

namespace tidemill::gateway {

namespace {

constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

}  // namespace

std::string_view WholeEvent::type() const {
  if (!name.empty()) return name;
  JsonMembers members(data);
  while (const auto member = members.next()) {
    if (member->key != "type") continue;
    if (!member->value.starts_with('"')) break;
    return member->value.substr(1, member->value.size() - 2);
  }
  return {};
}

bool WholeEvent::carries_object() const {
  JsonMembers members(data);
  while (members.next()) {
  }
  return members.whole();
}

WholeEvents::WholeEvents(std::string_view events) : rest_(events) {
  if (rest_.starts_with(byte_order_mark)) rest_.remove_prefix(byte_order_mark.size());
}

std::optional<WholeEvent> WholeEvents::next() {
  if (rest_.empty()) return std::nullopt;
  WholeEvent event;
  size_t at = 0;
  bool ended = false;
  while (!ended && at < rest_.size()) {
    const size_t end = end_of_line(at);
    const std::string_view line = rest_.substr(at, end - at);
    at = end == rest_.size() ? end : end + (rest_.substr(end).starts_with("\r\n") ? 2 : 1);
    ended = line.empty();
    if (!ended) take_field(line, event);
  }
  event.text = rest_.substr(0, at);
  rest_.remove_prefix(at);
  return event;
}

// Of the line that begins at `at`: where its CR or LF stands, or the end of all. Streams are walked piece by piece, and
// a search for either character at once looks at each byte by itself.
size_t WholeEvents::end_of_line(size_t at) {
  const char* const begin = rest_.data() + at;
  const char* const end = rest_.data() + rest_.size();
  if (line_feed_ == nullptr || line_feed_ < begin) {
    const void* const found = std::memchr(begin, '\n', static_cast<size_t>(end - begin));
    line_feed_ = found == nullptr ? end : static_cast<const char*>(found);
  }
  const void* const carriage_return = std::memchr(begin, '\r', static_cast<size_t>(line_feed_ - begin));
  const char* const stop = carriage_return == nullptr ? line_feed_ : static_cast<const char*>(carriage_return);
  return static_cast<size_t>(stop - rest_.data());
}

void WholeEvents::take_field(std::string_view line, WholeEvent& event) {
  const size_t colon = line.find(':');
  const std::string_view field = line.substr(0, colon);
  std::string_view value = colon == std::string_view::npos ? std::string_view() : line.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "event") {
    event.name = value;
  } else if (field == "data" && !event.has_data) {
    event.has_data = true;
    event.data = value;
  } else if (field == "data") {
    std::string joined(event.data);
    joined += '\n';
    joined += value;
    joined_ = std::move(joined);
    event.data = joined_;
  }
}

namespace {

// Takes one end of a line off the end.
bool strip_line_end(std::string_view& text) {
  for (const std::string_view end : {"\r\n", "\n", "\r"}) {
    if (!text.ends_with(end)) continue;
    text.remove_suffix(end.size());
    return true;
  }
  return false;
}

// What `text` lacks of a blank line at its end. A carriage return there may be half of an end of a line.
std::string_view missing_blank_line(std::string_view text) {
  std::string_view before = text;
  if (strip_line_end(before) && (before.ends_with('\n') || before.ends_with('\r'))) return "";
  return text.ends_with('\n') ? "\n" : "\n\n";
}

// Whether its last line may be all of that line: it has an end, or is of data, which tell by themselves whether they
// are whole.
bool ends_with_whole_line(std::string_view text) {
  if (text.ends_with('\n') || text.ends_with('\r')) return true;
  const std::string_view line = text.substr(text.find_last_of("\r\n") + 1);  // npos + 1 is 0
  return line.starts_with("data:");
}

}  // namespace

void append_whole_events(std::string& out, std::string_view rest) {
  WholeEvents walk(rest);
  while (const auto event = walk.next()) {
    const std::string_view missing = missing_blank_line(event->text);
    if (!event->has_data && !missing.empty()) continue;
    const bool whole = event->data.starts_with("[DONE]") || event->carries_object();
    if (event->has_data && !(whole && ends_with_whole_line(event->text))) return;
    out += event->text;
    out += missing;
  }
}

}  // namespace tidemill::gateway
