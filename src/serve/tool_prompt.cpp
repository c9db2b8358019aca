#include "serve/tool_prompt.hpp"

#include <string>
#include <string_view>
#include <utility>

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
    text.append(json::serialize(tool)).append("\n");
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
    text.append(text.empty() ? "" : "\n").append("<tool_call>\n").append(json::serialize(written));
    text.append("\n</tool_call>");
  }
  return text;
}

json::object in_words(const json::object& message) {
  const std::string content = text_of(message, "content");
  if (text_of(message, "role") == "tool" || text_of(message, "role") == "function") {
    return {{"role", "user"}, {"content", "<tool_response>\n" + content + "\n</tool_response>"}};
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
  const auto put = [&](json::value& message, std::string joined) {
    message.get_object()["content"] = std::move(joined);
  };
  for (json::value& message : messages) {
    const std::string role = text_of(message.get_object(), "role");
    const bool system = role == "system" || role == "developer";
    if (system || (!takes_system && role == "user")) {
      const std::string content = text_of(message.get_object(), "content");
      return put(message, system ? content + "\n\n" + text : text + "\n\n" + content);
    }
  }
  const json::object made{{"role", takes_system ? "system" : "user"}, {"content", text}};
  messages.insert(messages.begin(), made);
}

}  // namespace

ToldConversation tell_conversation(const ChatPrompt& prompt, const wire::GenerateRequest& request) {
  ToldConversation told{request.messages, request.template_variables};
  json::array tools;
  for (const wire::Tool& tool : request.tools)
    tools.push_back(wire::template_tool(tool));
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
