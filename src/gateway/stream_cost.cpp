#include "gateway/stream_cost.hpp"

#include <algorithm>
#include <array>

#include <fmt/core.h>

#include "gateway/json_members.hpp"

namespace tidemill::gateway {

namespace {

constexpr std::array<std::string_view, 4> counts = {"prompt_tokens", "completion_tokens", "input_tokens",
                                                    "output_tokens"};

bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

// Where the closing brace stands of the object that `text` begins with, if that tells of tokens, and of no cost yet.
std::optional<size_t> end_of_usage(std::string_view text) {
  JsonMembers members(text);
  size_t end = 0;
  bool tells = false;
  while (const auto member = members.next()) {
    end = static_cast<size_t>(member->value.data() - text.data()) + member->value.size();
    tells = tells || std::find(counts.begin(), counts.end(), member->key) != counts.end();
    if (member->key == "cost") return std::nullopt;
  }
  while (end < text.size() && is_blank(text[end]))
    ++end;
  if (!tells || end >= text.size() || text[end] != '}') return std::nullopt;
  return end;
}

}  // namespace

std::string_view StreamCost::add(std::string_view events) {
  out_.clear();
  size_t copied = 0;
  size_t at = 0;
  while ((at = find_usage(events, at)) != std::string_view::npos) {
    const size_t begin = at;
    at += usage_key_length;
    while (at < events.size() && is_blank(events[at]))
      ++at;
    if (at >= events.size() || events[at] != '{') continue;
    const auto length = end_of_usage(events.substr(at));
    if (!length) continue;
    at += *length;
    usage_.take(events.substr(begin, at + 1 - begin));
    const auto cost = cost_of_(usage_);
    if (!cost) return events;
    out_ += events.substr(copied, at - copied);
    out_ += fmt::format(",\"cost\":{}", access::to_string(*cost));
    copied = at;
  }
  if (copied == 0) return events;
  out_ += events.substr(copied);
  return out_;
}

}  // namespace tidemill::gateway
