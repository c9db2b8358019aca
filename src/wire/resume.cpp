#include "wire/resume.hpp"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "wire/json_fields.hpp"
#include "wire/sse.hpp"

namespace tidemill::wire {

using base::Result;
namespace json = base::json;

namespace {

constexpr int64_t version = 1;                      // of what "open" and "state" hold
constexpr int64_t max_integer = int64_t{1} << 53U;  // that every reader of JSON keeps
constexpr int64_t latest_time = 9'000'000'000;      // seconds: in nanoseconds it still fits
constexpr size_t max_id = 100;

void append_mark(json::object mark, std::string& out) {
  out += sse_comment("tidemill " + json::serialize(mark));
}

// An id is repeated in every event, and responses are kept under theirs.
bool is_plain(std::string_view id) {
  const auto plain = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-' || c == '_';
  };
  return !id.empty() && id.size() <= max_id && std::all_of(id.begin(), id.end(), plain);
}

Result<int64_t> required_integer(const JsonFields& fields, std::string_view name, int64_t most = max_integer) {
  TM_TRY(const auto value, fields.integer(name, 0, most));
  if (!value) return fields.invalid(name, fmt::format("'{}' is required: an integer", fields.path(name)));
  return *value;
}

Result<StreamOrigin> parse_origin(const JsonFields& resume) {
  TM_TRY(const json::object* object, resume.object("open"));
  if (object == nullptr) return resume.invalid("open", fmt::format("'{}' is required", resume.path("open")));
  const JsonFields fields(*object, resume.path("open"));
  TM_TRY(const int64_t v, required_integer(fields, "v"));
  if (v != version) {
    return fields.invalid(
        "v", fmt::format("'{}' is {}: this server resumes streams of version {}", fields.path("v"), v, version));
  }
  StreamOrigin origin;
  TM_TRY(origin.id, fields.required_string("id"));
  if (!is_plain(origin.id)) return fields.invalid("id", fmt::format("'{}' is no id of an answer", fields.path("id")));
  TM_TRY(origin.created, required_integer(fields, "created", latest_time));
  TM_TRY(origin.seed, fields.integer("seed", 0, max_integer));
  TM_TRY(origin.model, fields.required_string("model"));
  TM_TRY(origin.prompt, fields.required_string("prompt"));
  return origin;
}

Result<int32_t> id_in(const JsonFields& fields, std::string_view name, const json::value& item) {
  const int64_t* number = item.if_int64();
  if (number == nullptr || *number < 0 || *number > max_int) {
    return fields.mismatch(name, "a number from 0 on", item);
  }
  return static_cast<int32_t>(*number);
}

Result<std::optional<StreamState>> parse_state(const JsonFields& resume) {
  TM_TRY(const json::object* object, resume.object("state"));
  if (object == nullptr) return std::optional<StreamState>();
  const JsonFields fields(*object, resume.path("state"));
  StreamState state;
  TM_TRY(const auto sequence, fields.integer("sequence", 0, max_integer));
  state.sequence = sequence.value_or(0);
  TM_TRY(state.cached_tokens, required_integer(fields, "cached"));
  TM_TRY(const json::array* ended, fields.array("ended"));
  for (size_t i = 0; ended != nullptr && i < ended->size(); ++i) {
    TM_TRY(const int32_t choice, id_in(fields, fmt::format("ended[{}]", i), (*ended)[i]));
    state.ended.push_back(choice);
  }
  return std::optional(std::move(state));
}

Result<std::vector<TokenIds>> parse_tokens(const JsonFields& resume) {
  TM_TRY(const json::array* choices, resume.array("tokens"));
  if (choices == nullptr) {
    return resume.invalid(
        "tokens", fmt::format("'{}' is required: an array of token ids for each choice", resume.path("tokens")));
  }
  std::vector<TokenIds> tokens;
  for (size_t c = 0; c < choices->size(); ++c) {
    const std::string place = fmt::format("tokens[{}]", c);
    const json::array* ids = (*choices)[c].if_array();
    if (ids == nullptr) return resume.mismatch(place, "an array of token ids", (*choices)[c]);
    TokenIds& list = tokens.emplace_back();
    list.reserve(ids->size());
    for (const json::value& id : *ids) {
      TM_TRY(const int32_t token, id_in(resume, place, id));
      list.push_back(token);
    }
  }
  return tokens;
}

}  // namespace

Result<std::optional<Resume>> parse_resume(std::string_view body) {
  // Most bodies have none, and are not read twice for it.
  if (body.find(resume_member) == std::string_view::npos) return std::optional<Resume>();
  TM_TRY(const json::object object, parse_body(body));
  TM_TRY(const json::object* member, JsonFields(object).object(resume_member));
  if (member == nullptr) return std::optional<Resume>();
  const JsonFields fields(*member, std::string(resume_member));
  Resume resume;
  TM_TRY(resume.origin, parse_origin(fields));
  TM_TRY(resume.state, parse_state(fields));
  TM_TRY(resume.tokens, parse_tokens(fields));
  const auto any = [](const TokenIds& ids) { return !ids.empty(); };
  if (!resume.state && std::any_of(resume.tokens.begin(), resume.tokens.end(), any)) {
    return fields.invalid("state",
                          fmt::format("'{}' is missing: every mark with tokens has one", fields.path("state")));
  }
  return std::optional(std::move(resume));
}

void append_open_mark(const StreamOrigin& origin, std::string& out) {
  json::object open{{"v", version}, {"id", origin.id}, {"created", origin.created}};
  if (origin.seed) open["seed"] = *origin.seed;
  open["model"] = origin.model;
  open["prompt"] = origin.prompt;
  append_mark({{"open", std::move(open)}}, out);
}

void append_choice_mark(int choice, const TokenIds& tokens, const StreamState& state, std::string& out) {
  json::object shown{{"cached", state.cached_tokens}};
  if (state.sequence > 0) shown["sequence"] = state.sequence;
  if (!state.ended.empty()) shown["ended"] = json::array(state.ended.begin(), state.ended.end());
  append_mark({{"choice", choice}, {"tokens", json::array(tokens.begin(), tokens.end())}, {"state", std::move(shown)}},
              out);
}

void append_end_mark(std::string& out) {
  append_mark({{"end", true}}, out);
}

}  // namespace tidemill::wire
