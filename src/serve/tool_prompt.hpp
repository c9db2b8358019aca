// How a conversation with tools is told to the model: by its chat template where that knows tools, and otherwise in
// words, so that any model can be offered them.
#pragma once

#include "base/json.hpp"
#include "chat/format.hpp"
#include "serve/chat_prompt.hpp"
#include "wire/request.hpp"

namespace tidemill::serve {

// The messages and variables that the template is rendered with.
struct ToldConversation {
  base::json::array messages;
  base::json::object variables;
};

// Templates that know tools get them as the variable "tools". For others they are described in the system message, in
// the way of the Hermes format; calls in earlier messages become the text that they were, and results user messages.
// For templates that take one call of a message, several become as many messages, each followed by its result; for
// those that refuse words of the user's right behind a result, an answer that says nothing (a space) comes between.
// Arguments that are missing or empty become {}; those that are no whole JSON object, the members that are complete, or
// stay the text that they are where the template takes text.
ToldConversation tell_conversation(const ChatPrompt& prompt, const wire::GenerateRequest& request);

// The format in which the model will call tools and reason: the template's; Hermes's where the template has none and
// tools are offered.
chat::Format tool_format(const ChatPrompt& prompt, const wire::GenerateRequest& request);

}  // namespace tidemill::serve
