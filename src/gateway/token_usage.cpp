#include "gateway/token_usage.hpp"

#include "gateway/json_members.hpp"

namespace tidemill::gateway {

namespace {

constexpr std::string_view usage_key = "\"usage\":";
static_assert(usage_key.size() == usage_key_length);
constexpr size_t rare = usage_key.find('g');

// Of tokens in one answer. What is below 0, or beyond this, is no count, and as good as not said.
constexpr int64_t most_told = 1'000'000'000;

std::optional<int64_t> told_count(std::string_view value) {
  const auto number = json_integer(value);
  return number && *number >= 0 && *number <= most_told ? std::optional<int64_t>(*number) : std::nullopt;
}

}  // namespace

size_t find_usage(std::string_view text, size_t from) {
  size_t at = from + rare;
  while ((at = text.find(usage_key[rare], at)) != std::string_view::npos) {
    if (text.substr(at - rare, usage_key.size()) == usage_key) return at - rare;
    ++at;
  }
  return at;
}

void TokenUsage::take(std::string_view text) {
  size_t at = 0;
  while ((at = find_usage(text, at)) != std::string_view::npos) {
    at += usage_key.size();
    while (at < text.size() && text[at] == ' ')
      ++at;
    if (at < text.size() && text[at] == '{') take_object(text.substr(at));
  }
}

// `object` begins with one, and goes on with whatever comes behind it.
void TokenUsage::take_object(std::string_view object) {
  JsonMembers members(object);
  while (const auto member = members.next()) {
    const auto number = told_count(member->value);
    if (member->key == "prompt_tokens" || member->key == "input_tokens") {
      if (number) prompt_tokens = *number;
    } else if (member->key == "completion_tokens" || member->key == "output_tokens") {
      if (number) output_tokens = *number;
    } else if (member->key == "cache_read_input_tokens") {
      if (number) cached_tokens = *number;
    } else if (member->key == "prompt_tokens_details" || member->key == "input_tokens_details") {
      JsonMembers details(member->value);
      while (const auto detail = details.next()) {
        const auto cached = told_count(detail->value);
        if (detail->key == "cached_tokens" && cached) cached_tokens = *cached;
      }
    }
  }
}

}  // namespace tidemill::gateway
