// The bodies of OpenAI's Responses API to the internal request. Field names, ranges and defaults follow its reference.
//
// Errors name the parameter. Fields that are unknown are ignored; those that are known and ask for something this
// server does not do are `unsupported`, save for hints that change no answer here (user, safety_identifier,
// prompt_cache_key, prompt_cache_retention, service_tier, stream_options, text.verbosity, max_tool_calls).
//
// Pure functions; thread-safe.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "wire/request.hpp"

namespace tidemill::wire {

// What of a request its answer repeats, and what decides how it looks.
struct ResponsesForm {
  base::json::object echo;  // members of the answer, as they are said there
  bool logprobs = false;
  int top_logprobs = 0;
};

struct ResponsesRequest {
  GenerateRequest request;  // without messages: see join_conversation
  ResponsesForm form;
  base::json::array items;              // "input", a string made a message
  std::string instructions;             // empty: none
  std::string previous_response_id;     // empty: none
  std::string conversation;             // its id, likewise; never both
  std::vector<std::string> references;  // the ids of items that "item_reference" stands for
  bool store = true;
};

base::Result<ResponsesRequest> parse_responses_request(std::string_view body);

// Puts the conversation together: replaces references in `asked.items` by what `referenced` has for their ids, puts
// `earlier` (the items of the conversation, or of the response before, its output among them) in front of them, and
// reads all of them into `asked.request.messages`. Errors name the item: "input[2].content[0].type".
base::Result<void> join_conversation(ResponsesRequest& asked, const base::json::array& earlier,
                                     const std::map<std::string, base::json::value>& referenced);

}  // namespace tidemill::wire
