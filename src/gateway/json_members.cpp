#include "gateway/json_members.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

#include <fmt/core.h>

#include "base/json.hpp"

namespace tidemill::gateway {

namespace {

bool is_blank(char c) {
  return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

// What matters inside a nested value: everything else is passed over.
constexpr std::array<bool, 256> make_marks() {
  std::array<bool, 256> marks{};
  for (const char c : {'"', '{', '}', '[', ']'})
    marks[static_cast<unsigned char>(c)] = true;
  return marks;
}
constexpr std::array<bool, 256> marks = make_marks();

}  // namespace

void JsonMembers::skip_blanks() {
  while (at_ < text_.size() && is_blank(text_[at_]))
    ++at_;
}

bool JsonMembers::skip_string() {
  size_t from = at_ + 1;
  while (from < text_.size()) {
    const void* found = std::memchr(text_.data() + from, '"', text_.size() - from);
    if (found == nullptr) return false;
    const auto quote = static_cast<size_t>(static_cast<const char*>(found) - text_.data());
    size_t backslashes = 0;
    while (quote - backslashes > at_ + 1 && text_[quote - backslashes - 1] == '\\')
      ++backslashes;
    from = quote + 1;
    if (backslashes % 2 == 0) {
      at_ = from;
      return true;
    }
  }
  return false;
}

bool JsonMembers::skip_nested() {
  size_t depth = 0;
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (!marks[static_cast<unsigned char>(c)]) {
      ++at_;
    } else if (c == '"') {
      if (!skip_string()) return false;
    } else {
      ++at_;
      if (c == '{' || c == '[') {
        ++depth;
      } else if (--depth == 0) {
        return true;
      }
    }
  }
  return false;
}

bool JsonMembers::skip_value() {
  if (at_ >= text_.size()) return false;
  const char first = text_[at_];
  if (first == '"') return skip_string();
  if (first == '{' || first == '[') return skip_nested();
  const size_t begin = at_;
  while (at_ < text_.size() && !is_blank(text_[at_]) && text_[at_] != ',' && text_[at_] != '}')
    ++at_;
  return at_ > begin;
}

std::optional<JsonMembers::Member> JsonMembers::fail() {
  state_ = State::broken;
  return std::nullopt;
}

std::optional<JsonMembers::Member> JsonMembers::next() {
  if (state_ == State::whole || state_ == State::broken) return std::nullopt;
  skip_blanks();
  const bool first = state_ == State::start;
  if (first) {
    if (at_ >= text_.size() || text_[at_] != '{') return fail();
    ++at_;
    state_ = State::inside;
    skip_blanks();
  }
  if (at_ >= text_.size()) return fail();
  if (text_[at_] == '}') {
    closing_brace_ = at_++;
    skip_blanks();
    if (at_ != text_.size()) return fail();
    state_ = State::whole;
    return std::nullopt;
  }
  if (!first) {
    if (text_[at_] != ',') return fail();
    ++at_;
    skip_blanks();
  }
  if (at_ >= text_.size() || text_[at_] != '"') return fail();
  const size_t key_begin = at_ + 1;
  if (!skip_string()) return fail();
  const std::string_view key = text_.substr(key_begin, at_ - 1 - key_begin);
  skip_blanks();
  if (at_ >= text_.size() || text_[at_] != ':') return fail();
  ++at_;
  skip_blanks();
  const size_t begin = at_;
  if (!skip_value()) return fail();
  return Member{key, text_.substr(begin, at_ - begin)};
}

std::optional<std::string> json_text(std::string_view value) {
  if (value.size() < 2 || value.front() != '"' || value.back() != '"') return std::nullopt;
  const std::string_view inside = value.substr(1, value.size() - 2);
  if (inside.find('\\') == std::string_view::npos) return std::string(inside);
  const auto parsed = base::parse_json(value);
  if (!parsed || !parsed->is_string()) return std::nullopt;
  return std::string(parsed->get_string());
}

size_t count_elements(std::string_view text) {
  size_t count = 0;
  each_element(text, [&count](std::string_view /*element*/) { ++count; });
  return count;
}

std::optional<long long> json_integer(std::string_view value) {
  long long number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size()) return std::nullopt;
  return number;
}

std::optional<int64_t> json_count(std::string_view value) {
  if (value.empty() || value.front() < '0' || value.front() > '9') return std::nullopt;
  double number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (end != value.data() + value.size()) return std::nullopt;
  constexpr auto most = static_cast<double>(most_counted);
  if (error != std::errc() || number >= most) return most_counted;
  return static_cast<int64_t>(std::ceil(number));
}

std::string with_member(std::string_view object, size_t closing_brace, std::string_view key, std::string_view value) {
  const std::string_view before = object.substr(0, closing_brace);
  const size_t last = before.find_last_not_of(" \n\t\r");
  const bool empty = before[last] == '{';
  std::string out;
  out.reserve(object.size() + key.size() + value.size() + 8);
  out += before;
  out += fmt::format("{}\"{}\":", empty ? "" : ",", key);
  out += value;
  out += object.substr(closing_brace);
  return out;
}

}  // namespace tidemill::gateway
