// Whether a stream has begun to say anything. Until it has, nothing of it is worth keeping: any other backend may begin
// anew.
#pragma once

#include <cstdint>
#include <string_view>

#include "gateway/request_outline.hpp"
#include "gateway/whole_events.hpp"

namespace tidemill::gateway {

// What a stream says first.
enum class Beginning : uint8_t {
  nothing,
  content,  // text, reasoning, pieces of a tool call; what ends the answer; what is not understood
  decline,  // an error that is the request's own fault, or that the server is busy
  fault,    // any other error
};

// Comments, and what only announces an answer (a role, an empty piece of text, `message_start`, `response.created`),
// are nothing yet. Where the dialect is not known, everything is content.
Beginning beginning_of(Dialect dialect, const WholeEvent& event);
// Of several: what the first of them says that says anything.
Beginning beginning_of(Dialect dialect, std::string_view events);

// It only says that the backend still works: a comment, or a `ping` of Anthropic's.
bool keeps_awake(Dialect dialect, const WholeEvent& event);

// Whether events do only that, in any dialect; true also of none.
bool only_keep_awake(Dialect dialect, std::string_view events);

}  // namespace tidemill::gateway
