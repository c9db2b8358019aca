// The members of a JSON object, found in one pass over its text without building anything: a request's body is looked
// at, not parsed, and goes on as it came.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tidemill::gateway {

// Walks over the members of the object that `text` is, in order. This is no validation: what it walks over may still be
// wrong inside a value, which the backend will say. But any text that is valid JSON is read as every parser reads it.
//
//   JsonMembers members(text);
//   while (const auto member = members.next()) ...
//   if (!members.whole()) ...   // no object, or cut off
class JsonMembers {
 public:
  struct Member {
    std::string_view key;    // between its quotes, escapes as they stand
    std::string_view value;  // from its first byte to its last
  };

  // `text` must stay where it is.
  explicit JsonMembers(std::string_view text) : text_(text) {}

  std::optional<Member> next();
  // After `next` has given nullopt: the text was one object with nothing but blanks behind it.
  bool whole() const { return state_ == State::whole; }
  // Where it stopped: the first byte that belongs to no object, or that begins a value without an end.
  size_t stopped_at() const { return at_; }
  // Where the object's closing brace stands. Only when whole.
  size_t closing_brace() const { return closing_brace_; }

 private:
  enum class State { start, inside, whole, broken };

  void skip_blanks();
  // From an opening quote to behind the closing one. False: there is none.
  bool skip_string();
  bool skip_value();
  bool skip_nested();
  std::optional<Member> fail();

  std::string_view text_;
  size_t at_ = 0;
  size_t closing_brace_ = 0;
  State state_ = State::start;
};

// The text of a JSON string, given with its quotes; nullopt if `value` is no string.
std::optional<std::string> json_text(std::string_view value);

// Calls `take` with each element of the array that `text` is; with none if it is no array.
template <typename Take>
void each_element(std::string_view text, const Take& take) {
  if (!text.starts_with('[')) return;
  int depth = 0;
  bool quoted = false;
  size_t begin = 1;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') ++at;
      if (c == '"') quoted = false;
      continue;
    }
    const bool ends = depth == 1 && (c == ',' || c == ']');
    if (c == '"') quoted = true;
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (!ends) continue;
    std::string_view element = text.substr(begin, at - begin);
    element.remove_prefix(std::min(element.size(), element.find_first_not_of(" \t\r\n")));
    if (!element.empty()) take(element);
    begin = at + 1;
    if (depth == 0) return;
  }
}
size_t count_elements(std::string_view text);

// A whole number that fits; nullopt for anything else.
std::optional<long long> json_integer(std::string_view value);

// A number as a count: nullopt for what is none, or is below 0. A fraction is rounded up, and more than `most_counted`
// is that.
inline constexpr int64_t most_counted = 1'000'000'000'000;
std::optional<int64_t> json_count(std::string_view value);

// `object` with one more member. `object` must be whole, with its closing brace at `closing_brace`.
std::string with_member(std::string_view object, size_t closing_brace, std::string_view key, std::string_view value);

}  // namespace tidemill::gateway
