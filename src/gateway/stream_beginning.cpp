#include "gateway/stream_beginning.hpp"

#include <algorithm>
#include <initializer_list>

#include "base/json.hpp"

namespace tidemill::gateway {

namespace json = base::json;

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

bool is_empty(const json::value* value) {
  if (value == nullptr || value->is_null()) return true;
  if (value->is_string()) return value->get_string().empty();
  if (value->is_array()) return value->get_array().empty();
  return value->is_object() && value->get_object().empty();
}

// Whether `part` says nothing beside the members of these names.
bool is_silent(const json::value* part, std::initializer_list<std::string_view> beside) {
  const json::object* object = part == nullptr ? nullptr : part->if_object();
  if (object == nullptr) return is_empty(part);
  return std::ranges::all_of(*object, [&](const auto& member) {
    return is_empty(&member.value()) ||
           std::ranges::find(beside, std::string_view(member.key())) != std::ranges::end(beside);
  });
}

bool announces_choices(const json::object& chunk) {
  const json::value* choices = chunk.if_contains("choices");
  if (choices == nullptr || !choices->is_array()) return false;
  return std::ranges::all_of(choices->get_array(), [](const json::value& item) {
    const json::object* choice = item.if_object();
    return choice != nullptr && is_empty(choice->if_contains("finish_reason")) &&
           is_empty(choice->if_contains("text")) && is_silent(choice->if_contains("delta"), {"role"});
  });
}

bool announces_message(std::string_view type, const json::object& event) {
  if (type == "content_block_start") return is_silent(event.if_contains("content_block"), {"type", "id"});
  if (type == "content_block_delta") return is_silent(event.if_contains("delta"), {"type"});
  return type == "message_start" || type == "content_block_stop" || type == "ping";
}

bool announces_response(std::string_view type, const json::object& event) {
  if (type.ends_with(".delta")) return is_empty(event.if_contains("delta"));
  if (type == "response.output_item.added") {
    return is_silent(event.if_contains("item"), {"id", "type", "status", "role", "phase"});
  }
  if (type == "response.content_part.added" || type == "response.reasoning_summary_part.added") {
    return is_silent(event.if_contains("part"), {"type"});
  }
  return type == "response.created" || type == "response.queued" || type == "response.in_progress";
}

bool announces(Dialect dialect, std::string_view type, const json::object& event) {
  switch (dialect) {
    case Dialect::chat:
    case Dialect::completions:
      return announces_choices(event);
    case Dialect::messages:
      return announces_message(type, event);
    case Dialect::responses:
      return announces_response(type, event);
    case Dialect::other:
      break;
  }
  return false;
}

}  // namespace

Beginning beginning_of(Dialect dialect, const WholeEvent& event) {
  if (dialect == Dialect::other) return Beginning::content;
  if (!event.has_data) return Beginning::nothing;
  const auto parsed = base::parse_json(event.data);
  const json::object* object = parsed ? parsed->if_object() : nullptr;
  if (object == nullptr) return Beginning::content;
  if (const json::value* error = error_in(*object)) {
    // Responses tell an error in the event itself.
    return is_callers(error->is_object() ? error->get_object() : *object) ? Beginning::decline : Beginning::fault;
  }
  return announces(dialect, event.type(), *object) ? Beginning::nothing : Beginning::content;
}

Beginning beginning_of(Dialect dialect, std::string_view events) {
  Beginning beginning = Beginning::nothing;
  WholeEvents walk(events);
  while (const auto event = walk.next()) {
    beginning = beginning_of(dialect, *event);
    if (beginning != Beginning::nothing) break;
  }
  return beginning;
}

namespace {

bool says_nothing(Dialect dialect, const WholeEvent& event) {
  return !event.has_data || (dialect == Dialect::messages && event.type() == "ping");
}

}  // namespace

bool keeps_awake(Dialect dialect, const WholeEvent& event) {
  return dialect != Dialect::other && says_nothing(dialect, event);
}

bool only_keep_awake(Dialect dialect, std::string_view events) {
  const bool has_data = events.starts_with("data:") || events.find("\ndata:") != std::string_view::npos;
  if (has_data && dialect != Dialect::messages) return false;  // nearly always
  WholeEvents walk(events);
  while (const auto event = walk.next()) {
    if (!says_nothing(dialect, *event)) return false;
  }
  return true;
}

}  // namespace tidemill::gateway
