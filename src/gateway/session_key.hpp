// What makes several requests one session, so that a sticky route answers all of them by one version.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "gateway/request_outline.hpp"
#include "wire/http_message.hpp"

namespace tidemill::gateway {

// One place where a request may say which session it belongs to.
struct SessionSource {
  enum class Kind : uint8_t {
    header,            // a field of the request's head
    conversation,      // Responses: `conversation`, or the conversation that `previous_response_id` goes on with
    prompt_cache_key,  // of the body, here and below
    safety_identifier,
    user,  // in the dialect of Anthropic: metadata.user_id
  };
  Kind kind = Kind::header;
  std::string header{};  // its name

  bool operator==(const SessionSource&) const = default;
};

// "header:NAME", "conversation", "prompt_cache_key", "safety_identifier" or "user". invalid_argument says so.
base::Result<SessionSource> parse_session_source(std::string_view text);

// The key of the session that a request belongs to, by the first of `sources` that says one; empty: by none. A tenant's
// sessions are its own. `conversation` is what an earlier turn was known by (session::KeptResponse), or empty.
std::string session_key(const std::vector<SessionSource>& sources, std::string_view tenant,
                        const wire::HttpRequest& request, const RequestOutline& outline, std::string_view conversation);

}  // namespace tidemill::gateway
