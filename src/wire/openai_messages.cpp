#include "wire/openai_messages.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "base/utf8.hpp"
#include "wire/openai_functions.hpp"
#include "wire/request_limits.hpp"

namespace tidemill::wire {

using base::Result;
namespace json = base::json;

namespace {

constexpr std::array<std::string_view, 6> roles = {"system", "developer", "user", "assistant", "tool", "function"};

// The text of one message: a string, null, or the text parts of an array.
Result<json::value> parse_content(const JsonFields& message) {
  const json::value* content = message.find("content");
  if (content == nullptr) return json::value(nullptr);
  if (content->is_string()) return *content;
  const json::array* parts = content->if_array();
  if (parts == nullptr) return message.mismatch("content", "a string or an array of content parts", *content);
  std::string text;
  for (size_t i = 0; i < parts->size(); ++i) {
    const std::string place = fmt::format("content[{}]", i);
    const json::object* object = (*parts)[i].if_object();
    if (object == nullptr) return message.mismatch(place, "an object", (*parts)[i]);
    const JsonFields part(*object, message.path(place));
    TM_TRY(const auto type, part.string("type"));
    if (type && *type != "text" && *type != "refusal") {
      return part.unsupported(
          "type", fmt::format("parts of type \"{}\" are not supported, only \"text\" is", type->substr(0, 40)));
    }
    TM_TRY(const auto words, part.string(type == "refusal" ? "refusal" : "text"));
    if (!words) return part.invalid("text", fmt::format("'{}' is required", part.path("text")));
    if (i > 0) text += '\n';
    text += *words;
  }
  return json::value(text);
}

// Templates iterate over arguments as a mapping; clients send them as JSON text. What is no object, such as a call that
// a limit of tokens had cut off, stays text.
Result<json::array> parse_tool_calls(const JsonFields& message, const json::array& calls) {
  json::array parsed = calls;
  for (size_t i = 0; i < parsed.size(); ++i) {
    const std::string place = fmt::format("tool_calls[{}]", i);
    json::object* call = parsed[i].if_object();
    if (call == nullptr) return message.mismatch(place, "an object", parsed[i]);
    const JsonFields fields(calls[i].get_object(), message.path(place));
    TM_TRY(const auto id, fields.string("id"));
    TM_TRY(const auto type, fields.string("type"));
    if (type && *type != "function") {
      return fields.unsupported("type", fmt::format("calls of type \"{}\" are not supported, only \"function\" is",
                                                    base::utf8::prefix(*type, 40)));
    }
    (*call)["type"] = "function";
    TM_TRY(const json::object* called, fields.object("function"));
    if (called == nullptr) {
      return fields.invalid(
          "function", fmt::format("'{}' is required: an object with 'name' and 'arguments'", fields.path("function")));
    }
    TM_TRY(const std::string name, JsonFields(*called, fields.path("function")).required_string("name"));
    json::value* arguments = call->at("function").get_object().if_contains("arguments");
    if (arguments == nullptr || arguments->is_null() || arguments->is_object()) continue;
    if (!arguments->is_string()) {
      return JsonFields(*called, fields.path("function")).mismatch("arguments", "a string of JSON", *arguments);
    }
    auto value = base::parse_json(std::string_view(arguments->get_string()));
    if (value && value->is_object()) *arguments = std::move(*value);
  }
  return parsed;
}

Result<json::object> parse_message(const JsonFields& message, const json::object& source) {
  TM_TRY(const auto role, message.string("role"));
  if (!role || std::find(roles.begin(), roles.end(), *role) == roles.end()) {
    return message.invalid("role", fmt::format("'{}' must be one of {}{}", message.path("role"), fmt::join(roles, ", "),
                                               role ? fmt::format(", not \"{}\"", base::utf8::prefix(*role, 40)) : ""));
  }
  TM_CHECK(message.string("name"));
  TM_CHECK(message.string("reasoning_content"));
  TM_CHECK(message.string("refusal"));
  json::object parsed = source;
  TM_TRY(parsed["content"], parse_content(message));
  TM_TRY(const json::array* calls, message.array("tool_calls"));
  if (calls != nullptr && !calls->empty()) {
    TM_TRY(parsed["tool_calls"], parse_tool_calls(message, *calls));
  } else {
    parsed.erase("tool_calls");  // none, which templates would ask for the first of
  }
  if (*role == "function" && parsed["content"].is_null()) parsed["content"] = "";
  const bool may_be_empty = *role == "assistant";
  if (!may_be_empty && parsed["content"].is_null()) {
    return message.invalid("content",
                           fmt::format("'{}' is required for the role \"{}\"", message.path("content"), *role));
  }
  return parsed;
}

// The calls of one message and the results behind it.
class ToolRound {
 public:
  // `message` is none of the role "tool".
  void begin(const JsonFields& message, const json::array& calls) {
    *this = ToolRound();
    caller_ = message.path("tool_calls");
    open_ = !calls.empty();
    for (const json::value& call : calls) {
      const json::value* id = call.get_object().if_contains("id");
      const bool named = id != nullptr && id->is_string() && !id->get_string().empty();
      some_unnamed_ = some_unnamed_ || !named;
      if (!named) continue;
      ++left_[id->get_string()];
      ids_.emplace_back(id->get_string());
    }
  }

  Result<void> take_result(const JsonFields& message) {
    if (!open_) {
      return message.invalid("role", fmt::format("'{}' is \"tool\", but no message with 'tool_calls' comes before it",
                                                 message.path("role")));
    }
    TM_TRY(const auto id, message.string("tool_call_id"));
    if (!id) {
      const std::string_view next = next_unanswered();
      if (!next.empty()) --left_[next];
      return {};
    }
    if (!left_.contains(*id) && !some_unnamed_) {
      return message.invalid("tool_call_id",
                             fmt::format("'{}' is \"{}\", an id that no call of '{}' has", message.path("tool_call_id"),
                                         base::utf8::prefix(*id, 80), caller_));
    }
    const auto found = left_.find(*id);
    if (found == left_.end()) return {};
    if (found->second == 0 && !some_unnamed_) {
      return message.invalid("tool_call_id",
                             fmt::format("'{}' is \"{}\", whose call in '{}' has a result already",
                                         message.path("tool_call_id"), base::utf8::prefix(*id, 80), caller_));
    }
    if (found->second > 0) --found->second;
    return {};
  }

  // Whether every call has its result.
  Result<void> end() {
    const std::string_view unanswered = next_unanswered();
    if (unanswered.empty()) return {};
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("'{}' has the call \"{}\", which no message of the role \"tool\" behind it answers",
                                   caller_, base::utf8::prefix(unanswered, 80)))
        .with_param(caller_);
  }

 private:
  // The first id that has fewer results than calls; empty if there is none.
  std::string_view next_unanswered() {
    while (next_ < ids_.size() && left_[ids_[next_]] == 0)
      ++next_;
    return next_ < ids_.size() ? ids_[next_] : std::string_view();
  }

  std::string caller_;  // the array of calls
  bool open_ = false;
  bool some_unnamed_ = false;
  std::vector<std::string_view> ids_;        // of the calls that have one, in order
  size_t next_ = 0;                          // those before it have their results
  std::map<std::string_view, size_t> left_;  // how many results each of them may still have
};

// Of the older form: the result of a function stands behind a call of it.
Result<void> check_function(const JsonFields& message, bool is_result, std::set<std::string_view>& called) {
  if (is_result) {
    TM_TRY(const std::string name, message.required_string("name"));
    if (called.contains(name)) return {};
    return message.invalid("role", fmt::format("'{}' is \"function\", but no message with a 'function_call' of \"{}\" "
                                               "comes before it",
                                               message.path("role"), base::utf8::prefix(name, 80)));
  }
  TM_TRY(const json::object* call, message.object("function_call"));
  const json::value* name = call == nullptr ? nullptr : call->if_contains("name");
  if (name != nullptr && name->is_string()) called.insert(name->get_string());
  return {};
}

}  // namespace

Result<void> check_tool_rounds(const JsonFields& fields, std::string_view name) {
  TM_TRY(const json::array* messages, fields.array(name));
  ToolRound round;
  std::set<std::string_view> functions;  // that were called by `function_call` so far
  const json::array none;
  for (size_t i = 0; messages != nullptr && i < messages->size(); ++i) {
    const json::object& object = (*messages)[i].get_object();
    const JsonFields message(object, fields.path(fmt::format("{}[{}]", name, i)));
    const json::value& role = object.at("role");
    if (role == "tool") {
      TM_CHECK(round.take_result(message));
      continue;
    }
    TM_CHECK(round.end());
    TM_CHECK(check_function(message, role == "function", functions));
    TM_TRY(const json::array* calls, message.array("tool_calls"));
    round.begin(message, role == "assistant" && calls != nullptr ? *calls : none);
  }
  return round.end();
}

Result<json::array> parse_messages(const JsonFields& fields, std::string_view name) {
  TM_TRY(const json::array* messages, fields.array(name, max_messages));
  if (messages == nullptr) return fields.invalid(name, fmt::format("'{}' is required: an array of messages", name));
  if (messages->empty()) return fields.invalid(name, fmt::format("'{}' must hold at least one message", name));
  json::array parsed;
  parsed.reserve(messages->size());
  PartCount parts;
  for (size_t i = 0; i < messages->size(); ++i) {
    const std::string place = fmt::format("{}[{}]", name, i);
    const json::object* object = (*messages)[i].if_object();
    if (object == nullptr) return fields.mismatch(place, "an object with 'role' and 'content'", (*messages)[i]);
    const JsonFields given(*object, fields.path(place));
    TM_CHECK(parts.add(given, {"content", "tool_calls"}));
    TM_TRY(json::object message, parse_message(given, *object));
    parsed.push_back(std::move(message));
  }
  TM_CHECK(translate_functions(parsed, fields.path(name)));
  return parsed;
}

}  // namespace tidemill::wire
