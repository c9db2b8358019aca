#include "serve/tool_prompt.hpp"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/begun_json.hpp"
#include "base/checksum.hpp"
#include "chat/spelling.hpp"
#include "grammar/json_string.hpp"
#include "wire/openai_tools.hpp"

namespace tidemill::serve {

namespace json = base::json;

namespace {

constexpr std::string_view introduction =
    "You can call functions. These are the functions there are, each a JSON object on a line:\n";
constexpr std::string_view instruction =
    "To call a function, write a JSON object with its name and arguments between tags, and nothing else:\n"
    "<tool_call>\n{\"name\": NAME, \"arguments\": ARGUMENTS}\n</tool_call>";

std::string describe(const json::array& tools) {
  std::string text(introduction);
  for (const json::value& tool : tools)
    text.append(grammar::compact_json(tool)).append("\n");
  return text.append(instruction);
}

std::string text_of(const json::object& message, std::string_view name) {
  const json::value* value = message.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

// An assistant's calls as it wrote them.
std::string spell_calls(const json::array& calls) {
  std::string text;
  for (const json::value& call : calls) {
    const json::object* object = call.if_object();
    const json::value* function = object == nullptr ? nullptr : object->if_contains("function");
    if (function == nullptr || !function->is_object()) continue;
    json::object written;
    written["name"] = text_of(function->get_object(), "name");
    const json::value* arguments = function->get_object().if_contains("arguments");
    written["arguments"] = arguments == nullptr ? json::value(json::object()) : *arguments;
    text.append(text.empty() ? "" : "\n").append("<tool_call>\n").append(grammar::compact_json(written));
    text.append("\n</tool_call>");
  }
  return text;
}

json::object in_words(const json::object& message) {
  const std::string content = text_of(message, "content");
  if (text_of(message, "role") == "tool" || text_of(message, "role") == "function") {
    return {{"role", "user"}, {"content", fmt::format("<tool_response>\n{}\n</tool_response>", content)}};
  }
  const json::value* calls = message.if_contains("tool_calls");
  if (calls == nullptr || !calls->is_array()) return message;
  json::object said = message;
  said.erase("tool_calls");
  said["content"] =
      content.empty() ? spell_calls(calls->get_array()) : content + "\n" + spell_calls(calls->get_array());
  return said;
}

// Puts `text` into the system message, or makes one; without a place for one, before the first user's words.
void add_instructions(json::array& messages, const std::string& text, bool takes_system) {
  for (json::value& message : messages) {
    const std::string role = text_of(message.get_object(), "role");
    const bool system = role == "system" || role == "developer";
    if (system || (!takes_system && role == "user")) {
      const std::string content = text_of(message.get_object(), "content");
      std::string joined = system ? content : text;
      joined.append("\n\n").append(system ? text : content);
      message.get_object()["content"] = joined;
      return;
    }
  }
  const json::object made{{"role", takes_system ? "system" : "user"}, {"content", text}};
  messages.insert(messages.begin(), made);
}

// Nine letters and digits that follow from `id`, which is kept where it is that already: all that some templates take.
std::string short_id(std::string_view id) {
  constexpr std::string_view digits = "0123456789abcdefghijklmnopqrstuvwxyz";
  constexpr size_t length = 9;
  const auto plain = [](unsigned char c) { return std::isalnum(c) != 0; };
  if (id.size() == length && std::ranges::all_of(id, plain)) return std::string(id);
  uint64_t hash = base::checksum(std::as_bytes(std::span(id)));
  std::string made;
  for (size_t i = 0; i < length; ++i, hash /= digits.size())
    made += digits[hash % digits.size()];
  return made;
}

void shorten_ids(json::array& messages) {
  const auto shorten = [](json::object& object, std::string_view name) {
    json::value* id = object.if_contains(name);
    if (id != nullptr && id->is_string()) *id = json::string(short_id(std::string_view(id->get_string())));
  };
  for (json::value& message : messages) {
    json::object& object = message.get_object();
    shorten(object, "tool_call_id");
    json::value* calls = object.if_contains("tool_calls");
    if (calls == nullptr || !calls->is_array()) continue;
    for (json::value& call : calls->get_array()) {
      if (call.is_object()) shorten(call.get_object(), "id");
    }
  }
}

const json::array* calls_of(const json::value& message) {
  const json::value* calls = message.get_object().if_contains("tool_calls");
  return calls != nullptr ? calls->if_array() : nullptr;
}

// The result at `results[from]` or behind it that answers the call, or else the next one there; the end if there is
// none.
size_t result_for(const json::array& results, const std::vector<bool>& taken, const json::value& call) {
  const std::string id = call.is_object() ? text_of(call.get_object(), "id") : std::string();
  size_t next = results.size();
  for (size_t i = results.size(); i-- > 0;) {
    if (taken[i]) continue;
    next = i;
    if (!id.empty() && text_of(results[i].get_object(), "tool_call_id") == id) return i;
  }
  return next;
}

// One message for each call of a message, its result behind it.
void separate_calls(json::array& messages) {
  json::array separated;
  for (size_t i = 0; i < messages.size(); ++i) {
    const json::array* calls = calls_of(messages[i]);
    if (calls == nullptr || calls->size() < 2) {
      separated.push_back(messages[i]);
      continue;
    }
    json::array results;
    for (; i + 1 < messages.size() && text_of(messages[i + 1].get_object(), "role") == "tool"; ++i)
      results.push_back(messages[i + 1]);
    const json::object& message = messages[i - results.size()].get_object();
    std::vector<bool> taken(results.size(), false);
    for (size_t at = 0; at < calls->size(); ++at) {
      json::object one = message;
      one["tool_calls"] = json::array(1, (*calls)[at]);
      if (at > 0) {
        one["content"] = "";
        one.erase("reasoning_content");
      }
      separated.push_back(std::move(one));
      const size_t result = result_for(results, taken, (*calls)[at]);
      if (result == results.size()) continue;
      taken[result] = true;
      separated.push_back(results[result]);
    }
    for (size_t at = 0; at < results.size(); ++at) {
      if (!taken[at]) separated.push_back(results[at]);
    }
  }
  messages = std::move(separated);
}

// An answer between what is of the role `before` and what the user says behind it.
void answer_behind(std::string_view before, json::array& messages) {
  json::array answered;
  for (const json::value& message : messages) {
    const bool behind = !answered.empty() && text_of(answered.back().get_object(), "role") == before;
    if (behind && text_of(message.get_object(), "role") == "user") {
      answered.push_back(json::object{{"role", "assistant"}, {"content", ChatPrompt::no_answer}});
    }
    answered.push_back(message);
  }
  messages = std::move(answered);
}

// Answers of which there is no more than the reasoning, if that: a limit had cut them off.
void fill_answers(json::array& messages) {
  for (json::value& message : messages) {
    json::object& object = message.get_object();
    const json::array* calls = calls_of(message);
    const bool called = calls != nullptr && !calls->empty();
    if (text_of(object, "role") != "assistant" || called || !text_of(object, "content").empty()) continue;
    object["content"] = ChatPrompt::no_answer;
  }
}

// Arguments of the past that are no object: none at all are {}, and of those that a limit cut off the members that are
// complete stay. Templates that want text get them as they are.
void mend_arguments(json::array& messages, bool as_text) {
  for (json::value& message : messages) {
    json::value* calls = message.get_object().if_contains("tool_calls");
    if (calls == nullptr || !calls->is_array()) continue;
    for (json::value& call : calls->get_array()) {
      json::value* function = call.is_object() ? call.get_object().if_contains("function") : nullptr;
      if (function == nullptr || !function->is_object()) continue;
      json::value& arguments = function->get_object()["arguments"];
      const json::string* text = arguments.if_string();
      if (arguments.is_object() || (text != nullptr && as_text && !chat::trimmed(*text).empty())) continue;
      arguments = text == nullptr ? json::object() : base::begun_object(*text);
    }
  }
}

}  // namespace

ToldConversation tell_conversation(const ChatPrompt& prompt, const wire::GenerateRequest& request) {
  ToldConversation told{request.messages, request.template_variables};
  json::array tools;
  for (const wire::Tool& tool : request.tools)
    tools.push_back(wire::template_tool(tool));
  mend_arguments(told.messages, prompt.traits().arguments_as_text);
  if (prompt.format().syntax.short_ids) shorten_ids(told.messages);
  if (!prompt.takes_parallel_calls()) separate_calls(told.messages);
  if (prompt.answers_results()) answer_behind("tool", told.messages);
  // A response of which nothing had come has no item, and the conversation goes on behind it all the same.
  if (prompt.takes_turns() && request.dialect == wire::Dialect::responses) answer_behind("user", told.messages);
  if (prompt.fills_answers()) fill_answers(told.messages);
  if (!prompt.available() || prompt.traits().tools) {
    if (!tools.empty()) told.variables["tools"] = std::move(tools);
    return told;
  }
  if (!prompt.traits().tool_calls) {
    for (json::value& message : told.messages)
      message = in_words(message.get_object());
  }
  if (!tools.empty()) add_instructions(told.messages, describe(tools), prompt.traits().system);
  return told;
}

chat::Format tool_format(const ChatPrompt& prompt, const wire::GenerateRequest& request) {
  chat::Format format = prompt.format();
  if (format.tools != chat::ToolFormat::none || request.tools.empty()) return format;
  // The name is in the table.
  chat::Format hermes = *chat::format_by_name(chat::to_string(chat::ToolFormat::hermes));
  hermes.reasoning_open = std::move(format.reasoning_open);
  hermes.reasoning_close = std::move(format.reasoning_close);
  return hermes;
}

}  // namespace tidemill::serve
