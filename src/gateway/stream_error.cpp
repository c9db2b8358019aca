#include "gateway/stream_error.hpp"

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
