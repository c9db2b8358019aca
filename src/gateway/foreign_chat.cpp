#include "gateway/foreign_chat.hpp"

#include <algorithm>
#include <utility>

namespace tidemill::gateway {

namespace json = base::json;

namespace {

// What all chunks of a stream have in common.
constexpr std::string_view shared_keys[] = {"id", "created", "model", "system_fingerprint"};

const json::value* find(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

}  // namespace

void ForeignChat::take(std::string_view events) {
  auto parsed = parser_.feed(events);
  if (!parsed) {
    plain_ = false;
    return;
  }
  for (const wire::SseEvent& event : *parsed) {
    if (event.data == "[DONE]") {
      done_ = true;
      continue;
    }
    const auto chunk = base::parse_json(event.data);
    if (chunk && chunk->is_object()) {
      take_chunk(chunk->get_object());
    } else {
      plain_ = false;
    }
  }
}

void ForeignChat::take_chunk(const json::object& chunk) {
  for (const std::string_view key : shared_keys) {
    if (const json::value* value = find(chunk, key); value != nullptr && !head_.contains(key)) head_[key] = *value;
  }
  if (find(chunk, "error") != nullptr) plain_ = false;
  const json::value* choices = find(chunk, "choices");
  if (choices == nullptr || !choices->is_array()) return;
  for (const json::value& item : choices->get_array()) {
    const json::object* choice = item.if_object();
    const json::value* index = choice == nullptr ? nullptr : find(*choice, "index");
    const json::value* delta = choice == nullptr ? nullptr : find(*choice, "delta");
    if (choice == nullptr || (index != nullptr && *index != 0)) {
      plain_ = false;
      continue;
    }
    if (find(*choice, "finish_reason") != nullptr) finished_ = true;
    if (delta == nullptr || !delta->is_object()) continue;
    for (const auto& [key, value] : delta->get_object()) {
      if (key == "role" || value.is_null()) continue;
      if (key != "content" || !value.is_string()) {
        plain_ = plain_ &&
                 ((value.is_string() && value.get_string().empty()) || (value.is_array() && value.get_array().empty()));
        continue;
      }
      content_ += value.get_string();
      if (!value.get_string().empty()) ++chunks_;
    }
  }
}

base::Result<std::string> ForeignChat::resume_body(std::string_view body) {
  TM_TRY(json::value parsed, base::parse_json(body));
  json::object* request = parsed.if_object();
  json::value* messages = request == nullptr ? nullptr : request->if_contains("messages");
  if (messages == nullptr || !messages->is_array()) {
    return base::Error(base::ErrorCode::invalid_argument, "the request has no 'messages' to go on with");
  }
  shown_ = chunks_;
  if (content_.empty()) return std::string(body);
  json::array& turns = messages->get_array();
  // The client may have begun the assistant's message itself.
  json::object* last = turns.empty() ? nullptr : turns.back().if_object();
  json::value* begun = last == nullptr || last->if_contains("role") == nullptr || last->at("role") != "assistant"
                           ? nullptr
                           : last->if_contains("content");
  if (begun != nullptr && begun->is_string()) {
    begun->get_string() += content_;
  } else {
    turns.push_back(json::object{{"role", "assistant"}, {"content", content_}});
  }
  (*request)["continue_final_message"] = true;
  (*request)["add_generation_prompt"] = false;
  for (const std::string_view key : {"max_tokens", "max_completion_tokens"}) {
    json::value* limit = request->if_contains(key);
    if (limit != nullptr && limit->is_int64()) *limit = std::max<int64_t>(1, limit->get_int64() - chunks_);
  }
  return json::serialize(parsed);
}

// The sum stays as it is. A prompt has a token at least, whatever the backend has taken the text for.
void ForeignChat::count_as_output(json::object& usage) const {
  const auto count_of = [](json::object& object, std::string_view key) {
    json::value* count = object.if_contains(key);
    return count != nullptr && count->is_int64() && count->get_int64() >= 0 ? count : nullptr;
  };
  json::value* output = count_of(usage, "completion_tokens");
  json::value* prompt = count_of(usage, "prompt_tokens");
  if (output == nullptr || prompt == nullptr) return;
  const int64_t moved = std::clamp<int64_t>(prompt->get_int64() - 1, 0, shown_);
  *output = output->get_int64() + moved;
  *prompt = prompt->get_int64() - moved;
  json::value* details = usage.if_contains("prompt_tokens_details");
  json::value* cached =
      details == nullptr || !details->is_object() ? nullptr : count_of(details->get_object(), "cached_tokens");
  if (cached != nullptr) *cached = std::min(cached->get_int64(), prompt->get_int64());
}

void ForeignChat::adopt(std::string_view events, std::string& out) const {
  wire::SseParser parser(SIZE_MAX);
  const auto parsed = parser.feed(events);
  if (!parsed) return;
  for (const wire::SseEvent& event : *parsed) {
    auto chunk = event.data == "[DONE]" ? base::Result<json::value>(nullptr) : base::parse_json(event.data);
    if (chunk && chunk->is_object()) {
      json::object& object = chunk->get_object();
      for (const auto& [key, value] : head_)
        object[key] = value;
      if (json::value* usage = object.if_contains("usage"); usage != nullptr && usage->is_object())
        count_as_output(usage->get_object());
      if (json::value* choices = object.if_contains("choices"); choices != nullptr && choices->is_array()) {
        for (json::value& choice : choices->get_array()) {
          json::value* delta = choice.is_object() ? choice.get_object().if_contains("delta") : nullptr;
          if (delta != nullptr && delta->is_object()) delta->get_object().erase("role");
        }
      }
      wire::append_sse(out, json::serialize(object));
    } else {
      wire::append_sse(out, event.data);
    }
  }
}

}  // namespace tidemill::gateway
