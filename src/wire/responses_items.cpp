#include "wire/responses_items.hpp"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/utf8.hpp"
#include "wire/json_fields.hpp"
#include "wire/text_lines.hpp"

namespace tidemill::wire {

using base::Result;
namespace json = base::json;

namespace {

// A string, or an array of parts of text, joined by line feeds.
Result<std::string> parse_text(const JsonFields& fields, std::string_view name, const json::value& value) {
  if (value.is_string()) return std::string(value.get_string());
  const json::array* parts = value.if_array();
  if (parts == nullptr) return fields.mismatch(name, "a string or an array of parts", value);
  std::string text;
  for (size_t i = 0; i < parts->size(); ++i) {
    const std::string place = fmt::format("{}[{}]", name, i);
    const json::object* object = (*parts)[i].if_object();
    if (object == nullptr) return fields.mismatch(place, "an object with 'type'", (*parts)[i]);
    const JsonFields part(*object, fields.path(place));
    TM_TRY(const std::string type, part.required_string("type"));
    const bool refusal = type == "refusal";
    const bool plain = type == "input_text" || type == "output_text" || type == "text" || type == "reasoning_text" ||
                       type == "summary_text";
    if (!refusal && !plain) {
      return part.unsupported("type", fmt::format("parts of type \"{}\" are not supported, only text is",
                                                  base::utf8::prefix(base::utf8::sanitize(type), 40)));
    }
    for (const char* beside : {"annotations", "logprobs"})  // of what the assistant said; nothing comes of them
      TM_CHECK(part.array(beside));
    TM_TRY(const std::string words, part.required_string(refusal ? "refusal" : "text"));
    add_line(text, words);
  }
  return text;
}

// Takes item after item.
class Conversation {
 public:
  explicit Conversation(std::string_view instructions) {
    if (!instructions.empty()) push({{"role", "system"}, {"content", instructions}}, "instructions");
  }

  Result<void> add(const JsonFields& item) {
    TM_TRY(const auto type, item.string("type"));
    TM_CHECK(item.string("id"));
    TM_CHECK(item.string("status"));
    if (!type || *type == "message") return add_message(item);
    if (*type == "function_call") return add_call(item);
    if (*type == "function_call_output") return add_result(item);
    if (*type == "reasoning") return add_reasoning(item);
    return item.unsupported("type",
                            fmt::format("items of type \"{}\" are not supported, only \"message\", \"function_call\", "
                                        "\"function_call_output\", \"reasoning\" and \"item_reference\"",
                                        base::utf8::prefix(base::utf8::sanitize(*type), 40)));
  }

  // A call that was made elsewhere, which may be answered here.
  void add_earlier_call(const std::string& id) { calls_[id] = unanswered_[id] = ""; }

  // After the last item.
  Result<json::array> finish(std::vector<std::string>& places) {
    places = std::move(places_);
    if (unanswered_.empty()) return std::move(messages_);
    const auto& [id, place] = *unanswered_.begin();
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("'{}' is a function_call without its function_call_output: none has the call_id "
                                   "\"{}\"",
                                   place, base::utf8::prefix(id, 80)))
        .with_param("input");
  }

 private:
  void push(json::object message, const std::string& place) {
    messages_.push_back(std::move(message));
    places_.push_back(place);
  }

  // The assistant's message that is being put together; `item` is its next.
  json::object& assistant(const JsonFields& item) {
    const bool goes_on = !messages_.empty() && messages_.back().at("role") == "assistant";
    if (!goes_on) push({{"role", "assistant"}, {"content", nullptr}}, item.path());
    return messages_.back().get_object();
  }

  static void append(json::object& message, std::string_view name, std::string_view text) {
    json::value& member = message[name];
    std::string whole = member.is_string() ? std::string(member.get_string()) : std::string();
    add_line(whole, text);
    member = json::string(whole);
  }

  Result<void> add_message(const JsonFields& item) {
    TM_TRY(const auto role, item.string("role"));
    if (role != "user" && role != "assistant" && role != "system" && role != "developer") {
      if (item.is_null("type"))
        return item.invalid("type",
                            fmt::format("'{}' is null: it must be a string, as \"message\"", item.path("type")));
      return item.invalid(
          "role", fmt::format("'{}' must be \"user\", \"assistant\", \"system\" or \"developer\"", item.path("role")));
    }
    const json::value* content = item.find("content");
    if (content == nullptr) {
      return item.invalid("content",
                          fmt::format("'{}' is required: a string or an array of parts", item.path("content")));
    }
    TM_TRY(std::string text, parse_text(item, "content", *content));
    if (*role == "assistant") {
      append(assistant(item), "content", text);
    } else {
      push({{"role", *role}, {"content", std::move(text)}}, item.path());
    }
    return {};
  }

  Result<void> add_reasoning(const JsonFields& item) {
    // A summary stands in where there is no more; what is encrypted is another server's.
    TM_CHECK(item.string("encrypted_content"));
    bool told = false;
    for (const char* name : {"content", "summary"}) {
      TM_TRY(const json::array* parts, item.array(name));
      if (parts == nullptr || parts->empty()) continue;
      TM_TRY(const std::string text, parse_text(item, name, *parts));
      if (!std::exchange(told, true)) append(assistant(item), "reasoning_content", text);
    }
    return {};
  }

  Result<void> add_call(const JsonFields& item) {
    TM_TRY(const std::string id, item.required_string("call_id"));
    TM_TRY(const std::string name, item.required_string("name"));
    TM_TRY(const std::string text, item.required_string("arguments"));
    // Templates iterate over arguments as a mapping.
    json::value arguments = json::string(text);
    if (auto parsed = base::parse_json(text); parsed && parsed->is_object()) arguments = std::move(*parsed);
    if (const auto open = unanswered_.find(id); open != unanswered_.end()) {
      return item.invalid("call_id", fmt::format("'{}' is \"{}\", which is that of '{}' too, and no "
                                                 "function_call_output stands between the two",
                                                 item.path("call_id"), base::utf8::prefix(id, 80), open->second));
    }
    json::value& calls = assistant(item)["tool_calls"];
    if (!calls.is_array()) calls = json::array();
    json::object function{{"name", name}, {"arguments", std::move(arguments)}};
    calls.get_array().push_back(json::object{{"id", id}, {"type", "function"}, {"function", std::move(function)}});
    calls_[id] = name;
    unanswered_[id] = item.path();
    return {};
  }

  Result<void> add_result(const JsonFields& item) {
    TM_TRY(const std::string id, item.required_string("call_id"));
    const auto call = calls_.find(id);
    if (call == calls_.end()) {
      return item.invalid("call_id", fmt::format("'{}' answers no function_call before it: there is none with the "
                                                 "call_id \"{}\"",
                                                 item.path("call_id"), base::utf8::prefix(id, 80)));
    }
    if (unanswered_.erase(id) == 0) {
      return item.invalid("call_id", fmt::format("'{}' is \"{}\", of a function_call that has an output already",
                                                 item.path("call_id"), base::utf8::prefix(id, 80)));
    }
    const json::value* output = item.find("output");
    if (output == nullptr) return item.invalid("output", fmt::format("'{}' is required", item.path("output")));
    TM_TRY(std::string text, parse_text(item, "output", *output));
    push({{"role", "tool"}, {"tool_call_id", id}, {"name", call->second}, {"content", std::move(text)}}, item.path());
    return {};
  }

  json::array messages_;
  std::vector<std::string> places_;                // of each
  std::map<std::string, std::string> calls_;       // call_id to name
  std::map<std::string, std::string> unanswered_;  // call_id, and where the call stands
};

}  // namespace

Result<json::array> messages_of_items(const json::array& items, std::string_view instructions, const KnownItems& known,
                                      std::vector<std::string>& places) {
  Conversation conversation(instructions);
  for (size_t i = 0; i < items.size(); ++i) {
    const std::string place =
        i < known.count ? fmt::format("{}[{}]", known.from, i) : fmt::format("input[{}]", i - known.count);
    const json::object* object = items[i].if_object();
    if (object == nullptr) {
      return base::Error(base::ErrorCode::invalid_argument,
                         fmt::format("'{}' must be an object, not {}", place, kind_of(items[i])))
          .with_param(place);
    }
    TM_CHECK(conversation.add(JsonFields(*object, place)));
  }
  return conversation.finish(places);
}

Result<void> check_item(const JsonFields& item) {
  Conversation alone({});
  // What it answers may stand before it.
  const json::value* type = item.find("type");
  const json::value* call_id = item.find("call_id");
  if (type != nullptr && *type == "function_call_output" && call_id != nullptr && call_id->is_string()) {
    alone.add_earlier_call(std::string(call_id->get_string()));
  }
  return alone.add(item);
}

}  // namespace tidemill::wire
