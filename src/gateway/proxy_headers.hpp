// Which header fields go on from one side of the gateway to the other.
#pragma once

#include <string>

#include "observe/trace.hpp"
#include "wire/http_message.hpp"

namespace tidemill::gateway {

// Whose credentials a backend gets.
struct Credentials {
  std::string backend_key;        // the gateway's for it, in place of the client's; empty: none
  bool clients_end_here = false;  // the client's keys and cookies are for the gateway, which asks for them
};

// Those of a request to a backend: the client's without what concerns the connection alone (RFC 9110, section 7.6.1),
// what the gateway answers for (credentials, trace, id, all `x-tidemill-` fields), and encodings, since the gateway
// reads the answer. `parent` is the span of this try.
wire::Headers request_headers(const wire::HttpRequest& request, const std::string& request_id,
                              const Credentials& credentials, const observe::SpanContext& parent);

// Those of the answer to the client, without what is the gateway's to say: all `x-tidemill-` fields (that a backend
// loads, what an answer costs, who has given it), and where a backend has its addresses.
wire::Headers response_headers(const wire::Headers& from_backend);

}  // namespace tidemill::gateway
