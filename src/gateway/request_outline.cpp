#include "gateway/request_outline.hpp"

#include <algorithm>
#include <array>
#include <bitset>

#include <fmt/core.h>

#include "base/json.hpp"
#include "gateway/json_members.hpp"
#include "gateway/resumption.hpp"
#include "wire/json_fields.hpp"

namespace tidemill::gateway {

using base::Error;
using base::ErrorCode;
using base::Result;

Dialect dialect_of(std::string_view path) {
  if (path == "/v1/chat/completions") return Dialect::chat;
  if (path == "/v1/completions") return Dialect::completions;
  if (path == "/v1/responses") return Dialect::responses;
  if (path == "/v1/messages") return Dialect::messages;
  return Dialect::other;
}

bool ranks(std::string_view path) {
  return path == "/rerank" || path == "/v1/rerank" || path == "/v2/rerank";
}

bool embeds(std::string_view path) {
  return path == "/v1/embeddings" || ranks(path);
}

bool counts_tokens(std::string_view path) {
  return path == "/v1/messages/count_tokens" || path == "/tokenize" || path == "/detokenize";
}

namespace {

// A shorter prompt is not searched for images: its bytes tell enough.
constexpr size_t searched_for_images = size_t{8} << 10;

enum Key : uint8_t {
  model,
  stream,
  n,
  best_of,
  max_tokens,
  max_completion_tokens,
  max_output_tokens,
  tools,
  system,
  instructions,
  messages,
  prompt,
  input,
  store,
  previous_response_id,
  conversation,
  prompt_cache_key,
  safety_identifier,
  user,
  metadata,
  resume,
  query,
  documents,
  texts,
  key_count,
};

constexpr std::array<std::string_view, key_count> keys = {"model",
                                                          "stream",
                                                          "n",
                                                          "best_of",
                                                          "max_tokens",
                                                          "max_completion_tokens",
                                                          "max_output_tokens",
                                                          "tools",
                                                          "system",
                                                          "instructions",
                                                          "messages",
                                                          "prompt",
                                                          "input",
                                                          "store",
                                                          "previous_response_id",
                                                          "conversation",
                                                          "prompt_cache_key",
                                                          "safety_identifier",
                                                          "user",
                                                          "metadata",
                                                          resume_member,
                                                          "query",
                                                          "documents",
                                                          "texts"};

std::optional<Key> find_key(std::string_view name) {
  for (uint8_t i = 0; i < key_count; ++i) {
    if (keys[i] == name) return static_cast<Key>(i);
  }
  return std::nullopt;
}

Error wrong(std::string_view param, std::string message) {
  return Error(ErrorCode::invalid_argument, std::move(message)).with_param(std::string(param));
}

// The key of a member, its escapes read.
std::optional<Key> key_of(std::string_view raw) {
  if (raw.find('\\') == std::string_view::npos) return find_key(raw);
  const auto text = json_text(fmt::format("\"{}\"", raw));
  return text ? find_key(*text) : std::nullopt;
}

// What a request that ranks documents has of them. `texts` are text-embeddings-inference's.
struct Ranked {
  std::string_view query;
  std::string_view documents;
  std::string_view texts;

  size_t bytes() const {
    return documents.size() + texts.size() + query.size() * (count_elements(documents) + count_elements(texts));
  }
};

bool is_of_ranking(Key key) {
  return key == query || key == documents || key == texts;
}

// Whether requests of that dialect have the member, one of those that say how much may be made.
bool limits_output(Dialect dialect, Key key) {
  switch (dialect) {
    case Dialect::chat:
      return key == n || key == max_tokens || key == max_completion_tokens;
    case Dialect::completions:
      return key == n || key == best_of || key == max_tokens;
    case Dialect::messages:
      return key == max_tokens;
    case Dialect::responses:
      return key == max_output_tokens;
    case Dialect::other:
      break;
  }
  return false;
}

bool is_of_output(Key key) {
  return key == n || key == best_of || key == max_tokens || key == max_completion_tokens || key == max_output_tokens;
}

// A completion's prompt is one text, or one list of tokens, or an array of either.
int64_t count_prompts(std::string_view value) {
  const size_t first = value.find_first_not_of(" \t\r\n", 1);
  const bool several =
      value.starts_with('[') && first != std::string_view::npos && (value[first] == '"' || value[first] == '[');
  return several ? std::max<int64_t>(1, static_cast<int64_t>(count_elements(value))) : 1;
}

// Whether it is a prompt, but in another dialect than that of `path`: what it is here is the backend's business
// (/v1/responses has a `prompt` that is a stored one). Paths that are not known may have any.
bool is_another_dialects_prompt(Key key, std::string_view path) {
  if (key != messages && key != prompt && key != input) return false;
  switch (dialect_of(path)) {
    case Dialect::chat:
    case Dialect::messages:
      return key != messages;
    case Dialect::completions:
      return key != prompt;
    case Dialect::responses:
      return key != input;
    case Dialect::other:
      break;
  }
  return false;
}

// Of Responses, what the gateway obeys itself: what is not of its type would be passed over in silence, since backends
// never see it. In the server's words.
Result<void> check_kept(Key key, std::string_view value) {
  const bool is_flag = key == store;
  if (!is_flag && key != previous_response_id) return {};
  if (value == "null" || (is_flag ? value == "true" || value == "false" : json_text(value).has_value())) return {};
  TM_TRY(const base::json::value found, base::parse_json(value));
  const base::json::object body;
  return wire::JsonFields(body).mismatch(keys[key], is_flag ? "a boolean" : "a string", found);
}

// What is not of the wanted type is left for the backend to refuse, which does it in its own words.
void take(RequestOutline& outline, Ranked& ranked, Key key, std::string_view value) {
  switch (key) {
    case model:
      outline.model = json_text(value).value_or("");
      outline.model_value = value;
      break;
    case stream:
      outline.stream = value == "true";
      break;
    case n:
      outline.choices = std::max<int64_t>(1, json_count(value).value_or(1));
      break;
    case best_of:
      outline.best_of = std::max<int64_t>(1, json_count(value).value_or(1));
      break;
    case max_tokens:
    case max_completion_tokens:
    case max_output_tokens:
      if (const auto count = json_count(value)) outline.max_tokens = std::max(*count, outline.max_tokens.value_or(0));
      break;
    case tools:
      outline.tools = value;
      outline.has_tools = value.size() > 2 && value.front() == '[';
      break;
    case system:
    case instructions:
      outline.system = value;
      break;
    case messages:
    case prompt:
    case input:
      if (value != "null") outline.prompt = value;
      break;
    case store:
      outline.store = value != "false";
      break;
    case previous_response_id:
      outline.previous_response_id = json_text(value).value_or("");
      break;
    case conversation:
      outline.conversation = value;
      break;
    case prompt_cache_key:
      outline.prompt_cache_key = value;
      break;
    case safety_identifier:
      outline.safety_identifier = value;
      break;
    case user:
      outline.user = value;
      break;
    case metadata:
      outline.metadata = value;
      break;
    case query:
      ranked.query = value;
      break;
    case documents:
      ranked.documents = value;
      break;
    case texts:
      ranked.texts = value;
      break;
    case resume:
    case key_count:
      break;
  }
}

Error no_object(std::string_view body, size_t at) {
  if (body.empty()) return {ErrorCode::invalid_argument, "the request body is empty: send a JSON object"};
  const std::string_view before = body.substr(0, at);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t column = at - (before.rfind('\n') + 1);  // npos + 1 is 0
  return {ErrorCode::invalid_argument,
          fmt::format("the body must be one JSON object, and is none from line {}, column {} on (byte {} of {})", line,
                      column + 1, at, body.size())};
}

}  // namespace

void RequestOutline::drop_views() {
  for (std::string_view* view : {&tools, &system, &prompt, &model_value, &conversation, &prompt_cache_key,
                                 &safety_identifier, &user, &metadata}) {
    *view = {};
  }
}

Result<RequestOutline> RequestOutline::read(std::string_view body, std::string_view path) {
  const Dialect dialect = dialect_of(path);
  RequestOutline outline;
  Ranked ranked;
  std::bitset<key_count> seen;
  JsonMembers members(body);
  while (const auto member = members.next()) {
    const std::optional<Key> key = key_of(member->key);
    if (!key || (is_of_ranking(*key) && !ranks(path))) continue;
    if (*key == resume) {
      return wrong(resume_member, fmt::format("'{}' is for gateways to set", resume_member));
    }
    // Two parsers may disagree on which of two counts, and then the gateway would check one and the backend obey the
    // other.
    if (seen.test(*key)) return wrong(keys[*key], fmt::format("'{}' stands in the body twice", keys[*key]));
    seen.set(*key);
    if (is_of_output(*key) && !limits_output(dialect, *key)) continue;
    if (dialect == Dialect::responses) TM_CHECK(check_kept(*key, member->value));
    if (is_another_dialects_prompt(*key, path)) continue;
    if (*key == Key::prompt && dialect == Dialect::completions) outline.prompts = count_prompts(member->value);
    take(outline, ranked, *key, member->value);
  }
  if (!members.whole()) return no_object(body, members.stopped_at());
  outline.closing_brace = members.closing_brace();
  outline.ranked_bytes = ranked.bytes();
  if (outline.prompt.size() >= searched_for_images) outline.images = inline_images(outline.prompt);
  return outline;
}

int64_t RequestOutline::most_output(int64_t usual) const {
  int64_t tokens = max_tokens.value_or(usual);
  for (const int64_t times : {std::max(choices, best_of), prompts})
    tokens = tokens > most_counted / times ? most_counted : tokens * times;
  return tokens;
}

std::string with_model(std::string_view body, RequestOutline& outline, std::string_view model) {
  const std::string value = base::json::serialize(base::json::string(model));
  std::string out;
  if (outline.model_value.empty()) {
    out = with_member(body, outline.closing_brace, "model", value);
  } else {
    const auto at = static_cast<size_t>(outline.model_value.data() - body.data());
    out.reserve(body.size() + value.size());
    out += body.substr(0, at);
    out += value;
    out += body.substr(at + outline.model_value.size());
  }
  outline.closing_brace += out.size() - body.size();
  outline.model = model;
  return out;
}

}  // namespace tidemill::gateway
