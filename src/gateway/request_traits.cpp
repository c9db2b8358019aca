#include "gateway/request_traits.hpp"

#include <algorithm>
#include <string>

#include "gateway/json_members.hpp"

namespace tidemill::gateway {

namespace {

// Calls `take` with each element of the array that `text` is; with none if it is no array.
template <typename Take>
void each_element(std::string_view text, const Take& take) {
  if (!text.starts_with('[')) return;
  int depth = 0;
  bool quoted = false;
  size_t begin = 1;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') ++at;
      if (c == '"') quoted = false;
      continue;
    }
    const bool ends = depth == 1 && (c == ',' || c == ']');
    if (c == '"') quoted = true;
    if (c == '[' || c == '{') ++depth;
    if (c == ']' || c == '}') --depth;
    if (!ends) continue;
    std::string_view element = text.substr(begin, at - begin);
    element.remove_prefix(std::min(element.size(), element.find_first_not_of(" \t\r\n")));
    if (!element.empty()) take(element);
    begin = at + 1;
    if (depth == 0) return;
  }
}

int64_t count_elements(std::string_view text) {
  int64_t count = 0;
  each_element(text, [&count](std::string_view) { ++count; });
  return count;
}

struct Message {
  std::string text;
  bool images = false;
};

void read_content(std::string_view value, Message& message);

// A message, a part of one, or an item of a response's input.
void read_object(std::string_view object, Message& message) {
  JsonMembers members(object);
  while (const auto member = members.next()) {
    if (member->key == "content" || member->key == "text" || member->key == "output") {
      read_content(member->value, message);
    } else if (member->key == "type") {
      message.images = message.images || member->value.find("image") != std::string_view::npos;
    }
  }
}

void read_content(std::string_view value, Message& message) {
  if (const auto text = json_text(value)) {
    message.text += *text;
    message.text += '\n';
  }
  each_element(value, [&message](std::string_view part) {
    part.starts_with('{') ? read_object(part, message) : read_content(part, message);
  });
}

}  // namespace

rollout::RequestTraits traits_of(const RequestOutline& outline, int64_t prompt_tokens) {
  rollout::RequestTraits traits{.prompt_tokens = prompt_tokens, .tools = count_elements(outline.tools)};
  std::string_view last = outline.prompt;
  int64_t messages = 0;
  each_element(outline.prompt, [&](std::string_view element) {
    last = element;
    ++messages;
  });
  traits.turns = std::max<int64_t>(0, messages - 1);
  Message message;
  last.starts_with('{') ? read_object(last, message) : read_content(last, message);
  traits.images = message.images;
  traits.text = rollout::read_text(message.text);
  return traits;
}

}  // namespace tidemill::gateway
