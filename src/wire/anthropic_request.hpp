// The bodies of Anthropic's Messages API to the internal request. Field names, ranges and defaults follow its reference
// (version 2023-06-01).
//
// Errors name the parameter. Fields that are unknown are ignored; those that are known and ask for something this
// server does not do are `unsupported`, save for hints that change no answer here (service_tier, metadata,
// cache_control, speed, inference_geo, context_management).
//
// Pure functions; thread-safe.
#pragma once

#include <string_view>

#include "base/result.hpp"
#include "wire/answer.hpp"

namespace tidemill::wire {

// POST /v1/messages.
base::Result<GenerateRequest> parse_messages_request(std::string_view body);
// With the writer of the answer.
base::Result<Asked> ask_messages(std::string_view body);
// POST /v1/messages/count_tokens: the same without what concerns the answer.
base::Result<Asked> ask_count_tokens(std::string_view body);

}  // namespace tidemill::wire
