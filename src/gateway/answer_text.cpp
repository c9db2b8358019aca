#include "gateway/answer_text.hpp"

#include <algorithm>

#include "gateway/whole_events.hpp"

namespace tidemill::gateway {

namespace json = base::json;

namespace {

const json::object* object_in(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value == nullptr ? nullptr : value->if_object();
}

// Calls `take` for each object of the array under `key`.
template <typename Take>
void each_in(const json::object& object, std::string_view key, const Take& take) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_array()) return;
  for (const json::value& item : value->get_array()) {
    if (item.is_object()) take(item.get_object());
  }
}

}  // namespace

void AnswerText::add(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr || !value->is_string()) return;
  const std::string_view text = value->get_string();
  text_ += text.substr(0, most_bytes - std::min(most_bytes, text_.size()));
}

void AnswerText::take_events(std::string_view events) {
  WholeEvents walk(events);
  while (text_.size() < most_bytes) {
    const auto event = walk.next();
    if (!event) break;
    if (!event->has_data) continue;
    const auto parsed = base::parse_json(event->data);
    if (parsed && parsed->is_object()) take(parsed->get_object());
  }
}

void AnswerText::take_whole(std::string_view body) {
  const auto parsed = base::parse_json(body);
  if (parsed && parsed->is_object()) take(parsed->get_object());
}

// An event's object, or a body.
void AnswerText::take(const json::object& object) {
  switch (dialect_) {
    case Dialect::chat:
    case Dialect::completions:
      each_in(object, "choices", [this](const json::object& choice) { take_choice(choice); });
      break;
    case Dialect::messages:
      if (const json::object* delta = object_in(object, "delta")) take_item(*delta);
      if (const json::object* block = object_in(object, "content_block")) take_item(*block);
      each_in(object, "content", [this](const json::object& block) { take_item(block); });
      break;
    case Dialect::responses: {
      const json::value* type = object.if_contains("type");
      const bool delta = type != nullptr && type->is_string() && type->get_string().ends_with(".delta");
      if (delta) add(object, "delta");
      each_in(object, "output", [this](const json::object& item) { take_item(item); });
      break;
    }
    case Dialect::other:
      break;
  }
}

void AnswerText::take_choice(const json::object& choice) {
  add(choice, "text");
  for (const char* key : {"delta", "message"}) {
    if (const json::object* message = object_in(choice, key)) take_message(*message);
  }
}

void AnswerText::take_message(const json::object& message) {
  add(message, "content");
  each_in(message, "tool_calls", [this](const json::object& call) {
    const json::object* function = object_in(call, "function");
    if (function == nullptr) return;
    add(*function, "name");
    add(*function, "arguments");
  });
}

// A block of Anthropic's content, or an item of a response's output.
void AnswerText::take_item(const json::object& item) {
  add(item, "text");
  add(item, "name");
  add(item, "arguments");
  add(item, "partial_json");
  // A call's input stands there whole when the answer is no stream; a stream begins it as an empty object.
  const json::object* input = object_in(item, "input");
  if (input != nullptr && !input->empty()) {
    const json::object whole{{"input", json::serialize(*input)}};
    add(whole, "input");
  }
  each_in(item, "content", [this](const json::object& part) { add(part, "text"); });
}

}  // namespace tidemill::gateway
