#include "gateway/backend_request.hpp"

#include "gateway/proxy_headers.hpp"
#include "gateway/sse_marks.hpp"
#include "wire/sse.hpp"

namespace tidemill::gateway {

wire::Headers backend_headers(const wire::HttpRequest& request, const std::string& request_id, const Backend& backend,
                              Dialect dialect, bool stream, bool keyed, const observe::SpanContext& parent) {
  wire::Headers headers = request_headers(
      request, request_id, {.backend_key = backend.options().api_key, .clients_end_here = keyed}, parent);
  const bool marked = stream && dialect != Dialect::other && backend.options().resume != "off";
  if (marked) headers.add(std::string(resumable_header), "1");
  return headers;
}

wire::RequestTimeouts backend_timeouts(const GatewayOptions& options, bool stream) {
  const base::Duration silence = stream ? options.stall_timeout : options.answer_timeout;
  return {.connect = options.connect_timeout, .first_byte = silence, .idle = silence};
}

bool is_event_stream(const wire::HttpResponse& head) {
  std::string_view type = head.headers.find("content-type").value_or("");
  type = type.substr(0, type.find(';'));
  type = type.substr(0, type.find_last_not_of(" \t") + 1);  // npos + 1 is 0
  return wire::equal_ignoring_case(type, wire::sse_content_type);
}

}  // namespace tidemill::gateway
