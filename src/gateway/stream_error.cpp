#include "gateway/stream_error.hpp"

#include <utility>

#include "base/json.hpp"
#include "base/utf8.hpp"
#include "gateway/json_members.hpp"
#include "gateway/whole_events.hpp"
#include "wire/error_body.hpp"
#include "wire/sse.hpp"

namespace tidemill::gateway {

namespace json = base::json;

void ResponseSoFar::take(std::string_view events) {
  if (dialect_ != Dialect::responses) return;
  WholeEvents walk(events);
  while (const auto event = walk.next()) {
    if (event->has_data) take_data(event->data);
  }
}

void ResponseSoFar::take_data(std::string_view data) {
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

bool tells_error(std::string_view data) {
  if (data.find("\"error\"") == std::string_view::npos) return false;
  JsonMembers members(data);
  while (const auto member = members.next()) {
    if (member->key == "error") return member->value != "null";
  }
  return false;
}

// Only the last event of a stream does, or an error's. A name alone, before data that cannot be read, does not.
bool ends(Dialect dialect, const WholeEvent& event) {
  switch (dialect) {
    case Dialect::chat:
    case Dialect::completions:
      return event.data.starts_with("[DONE]") || tells_error(event.data);
    case Dialect::messages: {
      const std::string_view type = event.type();
      return (type == "message_stop" || type == "error") && event.carries_object();
    }
    case Dialect::responses: {
      const std::string_view type = event.type();
      const bool last =
          type == "response.completed" || type == "response.incomplete" || type == "response.failed" || type == "error";
      return last && event.carries_object();
    }
    case Dialect::other:
      break;
  }
  return false;
}

}  // namespace

void StreamEnd::take(std::string_view events) {
  WholeEvents walk(events);
  while (const auto event = walk.next()) {
    if (!event->has_data) continue;
    ++events_;
    seen_ = seen_ || ends(dialect_, *event);
  }
}

}  // namespace tidemill::gateway
