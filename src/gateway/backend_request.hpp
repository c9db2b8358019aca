// What a try at a backend and the copy for a shadow have in common: how a backend is asked, and what its answer is.
#pragma once

#include <string>

#include "gateway/backend.hpp"
#include "gateway/gateway_options.hpp"
#include "gateway/request_outline.hpp"
#include "observe/trace.hpp"
#include "wire/client_pool.hpp"
#include "wire/http_message.hpp"

namespace tidemill::gateway {

// request_headers(), and for streams the wish for marks, unless the backend's are not to be resumed. `keyed`: the
// gateway asks its clients for keys, which end with it.
wire::Headers backend_headers(const wire::HttpRequest& request, const std::string& request_id, const Backend& backend,
                              Dialect dialect, bool stream, bool keyed, const observe::SpanContext& parent);

wire::RequestTimeouts backend_timeouts(const GatewayOptions& options, bool stream);

// By its media type, which is the same in large letters and small ones.
bool is_event_stream(const wire::HttpResponse& head);

}  // namespace tidemill::gateway
