#include "gateway/request_traits.hpp"

#include <algorithm>
#include <string>

#include "gateway/json_members.hpp"

namespace tidemill::gateway {

namespace {

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
  rollout::RequestTraits traits{.prompt_tokens = prompt_tokens,
                                .tools = static_cast<int64_t>(count_elements(outline.tools))};
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
