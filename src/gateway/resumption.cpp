#include "gateway/resumption.hpp"

#include <algorithm>
#include <optional>

#include <fmt/core.h>

#include "gateway/json_members.hpp"

namespace tidemill::gateway {

using base::Error;
using base::ErrorCode;

namespace {

// More than any dialect's `n` allows.
constexpr long long max_choices = 1024;

Error no_mark(std::string_view what) {
  return {ErrorCode::corrupt, fmt::format("the backend's stream has a mark that {}", what)};
}

}  // namespace

base::Result<void> Resumption::take(std::string_view mark) {
  JsonMembers members(mark);
  std::string_view open;
  std::string_view state;
  std::string_view tokens;
  std::optional<long long> choice = 0;
  bool end = false;
  while (const auto member = members.next()) {
    if (member->key == "open") open = member->value;
    if (member->key == "state") state = member->value;
    if (member->key == "tokens") tokens = member->value;
    if (member->key == "choice") choice = json_integer(member->value);
    if (member->key == "end") end = member->value == "true";
  }
  if (!members.whole()) return no_mark("is no JSON object");
  if (!open.empty()) open_ = open;
  if (!state.empty()) state_ = state;
  ended_ = ended_ || end;
  if (tokens.empty()) return {};
  if (!choice || *choice < 0 || *choice >= max_choices) return no_mark("names no choice");
  return take_tokens(*choice, tokens);
}

base::Result<void> Resumption::take_tokens(long long choice, std::string_view list) {
  if (list.size() < 2 || list.front() != '[' || list.back() != ']') return no_mark("lists no tokens");
  list = list.substr(1, list.size() - 2);
  if (list.find_first_not_of("0123456789, \t") != std::string_view::npos) return no_mark("lists what are no tokens");
  const size_t first = list.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  const auto at = static_cast<size_t>(choice);
  if (tokens_.size() <= at) tokens_.resize(at + 1);
  std::string& all = tokens_[at];
  if (!all.empty()) all += ',';
  all += list;
  token_count_ += 1 + std::count(list.begin(), list.end(), ',');
  return {};
}

std::string Resumption::value() const {
  std::string out = "{\"open\":" + open_;
  if (!state_.empty()) out += ",\"state\":" + state_;
  out += ",\"tokens\":[";
  for (size_t i = 0; i < tokens_.size(); ++i)
    out += (i == 0 ? "[" : ",[") + tokens_[i] + "]";
  out += "]}";
  return out;
}

}  // namespace tidemill::gateway
