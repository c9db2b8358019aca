#include "hub/answer_headers.hpp"

#include <charconv>
#include <chrono>

namespace tidemill::hub {

namespace {

// Takes a number off the front; none where there is none.
std::optional<uint64_t> take_number(std::string_view& text) {
  uint64_t number = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (fault != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return number;
}

bool take(std::string_view& text, std::string_view what) {
  if (!text.starts_with(what)) return false;
  text.remove_prefix(what.size());
  return true;
}

void skip_spaces(std::string_view& text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
    text.remove_prefix(1);
}

constexpr uint64_t kMostSeconds = 1'000'000'000;

std::optional<base::Duration> seconds_of(std::optional<uint64_t> number) {
  if (!number || *number > kMostSeconds) return std::nullopt;
  return std::chrono::seconds(*number);
}

}  // namespace

std::optional<std::string> next_page(const wire::Headers& headers) {
  for (const auto& [name, value] : headers) {
    if (!wire::equal_ignoring_case(name, "link")) continue;
    std::string_view rest = value;
    // <target>; parameter; parameter, <target>; ...: commas may stand in targets.
    while (true) {
      const size_t open = rest.find('<');
      const size_t close = rest.find('>', open == std::string_view::npos ? rest.size() : open);
      if (close == std::string_view::npos) break;
      const std::string_view target = rest.substr(open + 1, close - open - 1);
      rest.remove_prefix(close + 1);
      const std::string_view parameters = rest.substr(0, rest.find('<'));
      if (parameters.find("rel=\"next\"") != std::string_view::npos) return std::string(target);
      if (parameters.find("rel=next") != std::string_view::npos) return std::string(target);
    }
  }
  return std::nullopt;
}

std::optional<base::Duration> asked_wait(const wire::Headers& headers) {
  if (const auto after = headers.find("retry-after")) {
    std::string_view rest = *after;
    const auto number = take_number(rest);
    skip_spaces(rest);
    // A date is passed over: the pauses between tries do as well.
    if (rest.empty()) return seconds_of(number);
  }
  if (const auto limit = headers.find("ratelimit")) {
    std::string_view rest = *limit;
    while (!rest.empty()) {
      const size_t semicolon = rest.find(';');
      if (semicolon == std::string_view::npos) break;
      rest.remove_prefix(semicolon + 1);
      skip_spaces(rest);
      if (take(rest, "t=")) return seconds_of(take_number(rest));
    }
  }
  return std::nullopt;
}

std::optional<ContentRange> parse_content_range(std::string_view text) {
  ContentRange range;
  if (!take(text, "bytes")) return std::nullopt;
  skip_spaces(text);
  const auto first = take_number(text);
  const bool dash = take(text, "-");
  const auto last = take_number(text);
  if (!first || !dash || !last || *last < *first || !take(text, "/")) return std::nullopt;
  range.first = *first;
  range.last = *last;
  if (text == "*") return range;
  range.total = take_number(text);
  if (!range.total || !text.empty() || range.last >= *range.total) return std::nullopt;
  return range;
}

std::optional<uint64_t> whole_size(int status, const wire::Headers& headers) {
  std::string_view text = headers.find(status == 200 ? "content-length" : "content-range").value_or("");
  if (status == 206) {
    const auto range = parse_content_range(text);
    return range ? range->total : std::nullopt;
  }
  if (status == 416 && !take(text, "bytes */")) return std::nullopt;
  if (status != 200 && status != 416) return std::nullopt;
  const auto size = take_number(text);
  return text.empty() ? size : std::nullopt;
}

std::string strong_tag(const wire::Headers& headers) {
  const std::string_view tag = headers.find("etag").value_or("");
  return tag.size() > 2 && tag.front() == '"' && tag.back() == '"' ? std::string(tag) : std::string();
}

}  // namespace tidemill::hub
