// Which header fields go on from one side of the gateway to the other.
#pragma once

#include <string>

#include "observe/trace.hpp"
#include "wire/http_message.hpp"

namespace tidemill::gateway {

// Those of a request to a backend: the client's without what concerns the connection alone (RFC 9110, section 7.6.1),
// what the gateway answers for (credentials where it has some of its own, trace, id), and encodings, since the gateway
// reads the answer. `parent` is the span of this try.
wire::Headers request_headers(const wire::HttpRequest& request, const std::string& request_id,
                              const std::string& backend_key, const observe::SpanContext& parent);

// Those of the answer to the client. That a backend loads or drains is not true of the gateway.
wire::Headers response_headers(const wire::Headers& from_backend);

}  // namespace tidemill::gateway
