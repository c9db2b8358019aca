#include "gateway/stream_error.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/utf8.hpp"
#include "gateway/json_members.hpp"
#include "wire/error_body.hpp"
#include "wire/sse.hpp"

namespace tidemill::gateway {

namespace json = base::json;

void ResponseSoFar::take(std::string_view events) {
  constexpr std::string_view field = "data:";
  while (dialect_ == Dialect::responses && !events.empty()) {
    const size_t end = events.find('\n');
    std::string_view line = events.substr(0, end);
    events.remove_prefix(end == std::string_view::npos ? events.size() : end + 1);
    if (!line.starts_with(field)) continue;
    line.remove_prefix(field.size());
    take_data(line);
  }
}

void ResponseSoFar::take_data(std::string_view data) {
  while (data.starts_with(' '))
    data.remove_prefix(1);
  JsonMembers members(data);
  while (const auto member = members.next()) {
    if (member->key == "sequence_number") {
      if (const auto number = json_integer(member->value)) next_number_ = *number + 1;
    } else if (member->key == "response" && member->value.starts_with('{')) {
      response_ = member->value;
    }
  }
}

namespace {

// As Tidemill's own servers end them (wire/responses_answer.cpp).
std::string responses_error_events(const base::Error& error, const ResponseSoFar& so_far) {
  const json::object told{{"code", "server_error"}, {"message", base::utf8::sanitize(error.to_string())}};
  std::string events;
  int64_t number = so_far.next_number();
  auto begun = base::parse_json(so_far.response());
  if (begun && begun->is_object()) {
    json::object& response = begun->get_object();
    response["status"] = "failed";
    response["error"] = told;
    const json::object event{
        {"type", "response.failed"}, {"response", std::move(response)}, {"sequence_number", number++}};
    events = wire::sse_event(json::serialize(event), "response.failed");
  }
  json::object event{{"type", "error"}};
  event.insert(told.begin(), told.end());
  event["param"] = nullptr;
  event["sequence_number"] = number;
  return events + wire::sse_event(json::serialize(event), "error");
}

}  // namespace

std::string error_event(Dialect dialect, const base::Error& error, const ResponseSoFar& so_far) {
  if (dialect == Dialect::messages) {
    return wire::sse_event(json::serialize(wire::anthropic_error_body(error, "")), "error");
  }
  if (dialect == Dialect::responses) return responses_error_events(error, so_far);
  return wire::sse_event(json::serialize(wire::error_body(error)));
}

namespace {

// As OpenAI, Anthropic, vLLM, llama.cpp and Tidemill name errors of which the server is not the cause.
constexpr std::string_view callers_errors[] = {
    "invalid_request_error", "BadRequestError",  "invalid_prompt",      "context_length_exceeded",
    "request_too_large",     "not_found_error",  "NotFoundError",       "authentication_error",
    "permission_error",      "rate_limit_error", "rate_limit_exceeded", "overloaded_error",
    "unavailable_error",     "unavailable",      "cancelled_error",
};

bool is_callers(const json::object& error) {
  for (const char* key : {"code", "type"}) {
    const json::value* said = error.if_contains(key);
    if (said == nullptr) continue;
    if (said->is_int64()) return (said->get_int64() >= 400 && said->get_int64() < 500) || said->get_int64() == 503;
    const bool named = said->is_string() && std::ranges::find(callers_errors, std::string_view(said->get_string())) !=
                                                std::ranges::end(callers_errors);
    if (named) return true;
  }
  return false;
}

// Of an event's data; nullptr: it is none.
const json::value* error_in(const json::object& event) {
  const json::value* type = event.if_contains("type");
  const json::value* error = event.if_contains("error");
  if (error != nullptr && !error->is_null()) return error;
  if (type != nullptr && *type == "error") return type;
  if (type == nullptr || *type != "response.failed") return nullptr;
  const json::value* response = event.if_contains("response");
  error = response != nullptr && response->is_object() ? response->get_object().if_contains("error") : nullptr;
  return error != nullptr && !error->is_null() ? error : type;
}

Beginning beginning_of_data(std::string_view data) {
  if (data.find("\"error\"") == std::string_view::npos && data.find("\"response.failed\"") == std::string_view::npos) {
    return Beginning::content;
  }
  const auto parsed = base::parse_json(data);
  const json::object* event = parsed ? parsed->if_object() : nullptr;
  const json::value* error = event == nullptr ? nullptr : error_in(*event);
  if (error == nullptr) return Beginning::content;
  // Responses tell an error in the event itself.
  return is_callers(error->is_object() ? error->get_object() : *event) ? Beginning::decline : Beginning::fault;
}

}  // namespace

Beginning beginning_of(Dialect dialect, std::string_view events) {
  constexpr std::string_view field = "data:";
  if (dialect == Dialect::other) return events.empty() ? Beginning::nothing : Beginning::content;
  while (!events.empty()) {
    const size_t end = events.find('\n');
    const std::string_view line = events.substr(0, end);
    if (line.starts_with(field)) return beginning_of_data(line.substr(field.size()));
    if (end == std::string_view::npos) break;
    events.remove_prefix(end + 1);
  }
  return Beginning::nothing;
}

namespace {

// Lines that only the last event of a stream has, or an error's.
bool ends(Dialect dialect, std::string_view line) {
  switch (dialect) {
    case Dialect::chat:
    case Dialect::completions:
      return line.starts_with("data: [DONE]") || line.starts_with("data:[DONE]") ||
             line.starts_with("data: {\"error\"");
    case Dialect::messages:
      return line.starts_with("event: message_stop") || line.starts_with("event: error");
    case Dialect::responses:
      return line.starts_with("event: response.completed") || line.starts_with("event: response.incomplete") ||
             line.starts_with("event: response.failed") || line.starts_with("event: error");
    case Dialect::other:
      break;
  }
  return false;
}

}  // namespace

void StreamEnd::take(std::string_view events) {
  while (!events.empty()) {
    const size_t end = events.find('\n');
    const std::string_view line = events.substr(0, end);
    if (line.starts_with("data:")) ++events_;
    seen_ = seen_ || ends(dialect_, line);
    if (end == std::string_view::npos) break;
    events.remove_prefix(end + 1);
  }
}

}  // namespace tidemill::gateway
