#include "wire/anthropic_messages.hpp"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/utf8.hpp"
#include "wire/request_limits.hpp"
#include "wire/text_lines.hpp"

namespace tidemill::wire {

using base::Error;
using base::Result;
namespace json = base::json;

namespace {

Error unsupported_block(const JsonFields& block, std::string_view type, std::string_view wanted) {
  return block.unsupported("type", fmt::format("blocks of type \"{}\" are not supported here, only {}",
                                               base::utf8::prefix(base::utf8::sanitize(type), 40), wanted));
}

// Calls `visit(block, type)` for each block of the array under `name`.
template <typename Visit>
Result<void> for_each_block(const JsonFields& fields, std::string_view name, const json::array& blocks,
                            const Visit& visit) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string place = fmt::format("{}[{}]", name, i);
    const json::object* object = blocks[i].if_object();
    if (object == nullptr) return fields.mismatch(place, "an object with 'type'", blocks[i]);
    const JsonFields block(*object, fields.path(place));
    TM_TRY(const std::string type, block.required_string("type"));
    TM_CHECK(check_cache_control(block));
    TM_CHECK(visit(block, type));
  }
  return {};
}

// Of a block of the type "text". Its citations are not kept.
Result<std::string> text_of_block(const JsonFields& block) {
  TM_CHECK(block.array("citations"));
  return block.required_string("text");
}

// A string, or text blocks, joined by line feeds.
Result<std::string> parse_text(const JsonFields& fields, std::string_view name, const json::value& value) {
  if (value.is_string()) return std::string(value.get_string());
  const json::array* blocks = value.if_array();
  if (blocks == nullptr) return fields.mismatch(name, "a string or an array of blocks", value);
  std::string text;
  TM_CHECK(for_each_block(fields, name, *blocks, [&](const JsonFields& block, const std::string& type) -> Result<void> {
    if (type != "text") return unsupported_block(block, type, "\"text\"");
    TM_TRY(const std::string words, text_of_block(block));
    add_line(text, words);
    return {};
  }));
  return text;
}

// Takes turn after turn.
class Conversation {
 public:
  Result<void> add_system(const JsonFields& fields, std::string_view name, const json::value& value) {
    TM_TRY(std::string text, parse_text(fields, name, value));
    push({{"role", "system"}, {"content", std::move(text)}}, fields.path().empty() ? fields.path(name) : fields.path());
    return {};
  }

  Result<void> add_user(const JsonFields& turn, const json::value& content) {
    if (content.is_string()) return add_user_text(content.get_string(), turn.path());
    const json::array* blocks = content.if_array();
    if (blocks == nullptr) return turn.mismatch("content", "a string or an array of blocks", content);
    if (blocks->empty()) return turn.invalid("content", fmt::format("'{}' must not be empty", turn.path("content")));
    const auto take = [this](const JsonFields& block, const std::string& type) -> Result<void> {
      if (type == "tool_result") return add_result(block);
      if (type != "text") return unsupported_block(block, type, "\"text\" and \"tool_result\"");
      TM_TRY(const std::string text, text_of_block(block));
      return add_user_text(text, block.path());
    };
    return for_each_block(turn, "content", *blocks, take);
  }

  Result<void> add_assistant(const JsonFields& turn, const json::value& content) {
    const bool goes_on = !messages_.empty() && messages_.back().at("role") == "assistant";
    if (!goes_on) {
      TM_CHECK(check_answered());
      calls_.clear();
      push({{"role", "assistant"}, {"content", nullptr}}, turn.path());
    }
    json::object& message = messages_.back().get_object();
    if (content.is_string()) return append(message, "content", content.get_string());
    const json::array* blocks = content.if_array();
    if (blocks == nullptr) return turn.mismatch("content", "a string or an array of blocks", content);
    const auto take = [&](const JsonFields& block, const std::string& type) -> Result<void> {
      if (type == "redacted_thinking") {
        TM_CHECK(block.string("data"));
        return {};
      }
      if (type == "tool_use") return add_call(message, block);
      const bool thinking = type == "thinking";
      if (!thinking && type != "text") {
        return unsupported_block(block, type, "\"text\", \"thinking\", \"redacted_thinking\" and \"tool_use\"");
      }
      if (thinking) TM_CHECK(block.string("signature"));  // that it is one is not checked
      TM_TRY(const std::string text, thinking ? block.required_string("thinking") : text_of_block(block));
      return append(message, thinking ? "reasoning_content" : "content", text);
    };
    return for_each_block(turn, "content", *blocks, take);
  }

  // That every tool_use so far has its tool_result.
  Result<void> check_answered() const {
    if (unanswered_.empty()) return {};
    const auto& [id, place] = *unanswered_.begin();
    return Error(base::ErrorCode::invalid_argument,
                 fmt::format("'{}' is a tool_use (\"{}\") without a tool_result in the user's turn behind it", place,
                             base::utf8::prefix(id, 80)))
        .with_param(place);
  }

  json::array take() { return std::move(messages_); }
  std::vector<std::string> take_places() { return std::move(places_); }

 private:
  void push(json::object message, const std::string& place) {
    messages_.push_back(std::move(message));
    places_.push_back(place);
  }

  static Result<void> append(json::object& message, std::string_view name, std::string_view text) {
    json::value& member = message[name];
    std::string whole = member.is_string() ? std::string(member.get_string()) : std::string();
    add_line(whole, text);
    member = json::string(whole);
    return {};
  }

  Result<void> add_user_text(std::string_view text, const std::string& place) {
    const bool goes_on = !messages_.empty() && messages_.back().at("role") == "user";
    if (!goes_on) push({{"role", "user"}, {"content", ""}}, place);
    return append(messages_.back().get_object(), "content", text);
  }

  Result<void> add_result(const JsonFields& block) {
    TM_TRY(const std::string id, block.required_string("tool_use_id"));
    const auto call = calls_.find(id);
    if (call == calls_.end()) {
      return block.invalid("tool_use_id", fmt::format("'{}' answers no tool_use of the turn before: there is none with "
                                                      "the id \"{}\"",
                                                      block.path("tool_use_id"), base::utf8::prefix(id, 80)));
    }
    if (unanswered_.erase(id) == 0) {
      return block.invalid("tool_use_id",
                           fmt::format("'{}' answers the tool_use \"{}\", which has a tool_result already",
                                       block.path("tool_use_id"), base::utf8::prefix(id, 80)));
    }
    std::string text;
    if (const json::value* content = block.find("content")) {
      TM_TRY(text, parse_text(block, "content", *content));
    }
    TM_TRY(const auto failed, block.boolean("is_error"));
    if (failed.value_or(false)) text = "Error: " + text;  // templates know no failed results
    push({{"role", "tool"}, {"tool_call_id", id}, {"name", call->second}, {"content", std::move(text)}}, block.path());
    return {};
  }

  Result<void> add_call(json::object& message, const JsonFields& block) {
    TM_TRY(const std::string id, block.required_string("id"));
    if (calls_.contains(id)) {
      return block.invalid("id", fmt::format("'{}' is \"{}\", the id of another tool_use of the same turn",
                                             block.path("id"), base::utf8::prefix(id, 80)));
    }
    TM_TRY(const std::string name, block.required_string("name"));
    TM_TRY(const json::object* input, block.object("input"));
    json::value& calls = message["tool_calls"];
    if (!calls.is_array()) calls = json::array();
    json::object function{{"name", name}, {"arguments", input == nullptr ? json::object() : *input}};
    calls.get_array().push_back(json::object{{"id", id}, {"type", "function"}, {"function", std::move(function)}});
    calls_[id] = name;
    unanswered_[id] = block.path();
    return {};
  }

  json::array messages_;
  std::vector<std::string> places_;                // of each
  std::map<std::string, std::string> calls_;       // of the assistant's last turn: id to tool
  std::map<std::string, std::string> unanswered_;  // of these: id, and where the block stands
};

}  // namespace

namespace {

// The last message, if the assistant's, is what the answer begins with.
Result<std::string> take_beginning(const JsonFields& fields, size_t last, json::array& messages) {
  const json::object message = messages.back().get_object();
  const std::string place = fmt::format("messages[{}]", last);
  if (message.contains("tool_calls")) {
    return fields.invalid(place,
                          fmt::format("'{}' uses tools, whose results must follow in a message of the user", place));
  }
  const json::value& content = message.at("content");
  messages.pop_back();
  if (messages.empty()) return fields.invalid("messages", "'messages' must hold a message of the user");
  return content.is_string() ? std::string(content.get_string()) : std::string();
}

}  // namespace

Result<void> check_cache_control(const JsonFields& fields) {
  TM_TRY(const json::object* object, fields.object("cache_control"));
  if (object == nullptr) return {};
  const JsonFields control(*object, fields.path("cache_control"));
  TM_CHECK(control.required_string("type"));
  TM_CHECK(control.string("ttl"));
  return {};
}

Result<json::array> parse_conversation(const JsonFields& fields, std::string& beginning,
                                       std::vector<std::string>& places) {
  Conversation conversation;
  if (const json::value* system = fields.find("system")) {
    TM_CHECK(conversation.add_system(fields, "system", *system));
  }
  TM_TRY(const json::array* turns, fields.array("messages", max_messages));
  if (turns == nullptr) return fields.invalid("messages", "'messages' is required: an array of messages");
  if (turns->empty()) return fields.invalid("messages", "'messages' must hold at least one message");
  std::string role;
  PartCount parts;
  for (size_t i = 0; i < turns->size(); ++i) {
    const std::string place = fmt::format("messages[{}]", i);
    const json::object* object = (*turns)[i].if_object();
    if (object == nullptr) return fields.mismatch(place, "an object with 'role' and 'content'", (*turns)[i]);
    const JsonFields turn(*object, place);
    TM_CHECK(parts.add(turn, {"content"}));
    TM_TRY(role, turn.required_string("role"));
    const json::value* content = turn.find("content");
    if (content == nullptr) {
      return turn.invalid("content", fmt::format("'{}.content' is required: a string or an array of blocks", place));
    }
    if (role == "user") {
      TM_CHECK(conversation.add_user(turn, *content));
    } else if (role == "assistant") {
      TM_CHECK(conversation.add_assistant(turn, *content));
    } else if (role == "system") {
      TM_CHECK(conversation.add_system(turn, "content", *content));
    } else {
      return turn.invalid("role", fmt::format("'{}.role' must be \"user\", \"assistant\" or \"system\", not \"{}\"",
                                              place, base::utf8::prefix(base::utf8::sanitize(role), 40)));
    }
  }
  beginning.clear();
  if (role != "assistant") TM_CHECK(conversation.check_answered());
  json::array messages = conversation.take();
  places = conversation.take_places();
  if (role == "assistant") {
    TM_TRY(beginning, take_beginning(fields, turns->size() - 1, messages));
    places.pop_back();
  }
  return messages;
}

}  // namespace tidemill::wire
