#include "gateway/proxy_headers.hpp"

#include <algorithm>
#include <string_view>

namespace tidemill::gateway {

namespace {

constexpr std::string_view of_the_connection[] = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "transfer-encoding",
    "content-length",
    "host",
    "expect",
};
constexpr std::string_view of_the_gateway[] = {"accept-encoding", "traceparent", "tracestate", "x-request-id",
                                               "request-id"};
// What it says in its own name, to either side: what an answer costs, that a request is a copy, that marks are wished.
constexpr std::string_view own_prefix = "x-tidemill-";

template <size_t N>
bool is_one_of(std::string_view name, const std::string_view (&names)[N]) {
  return std::any_of(std::begin(names), std::end(names), [name](std::string_view other) {
    return name.size() == other.size() && wire::equal_ignoring_case(name, other);
  });
}

// Connection may name further fields that end here.
bool ends_here(const wire::Headers& headers, bool has_connection, std::string_view name) {
  return is_one_of(name, of_the_connection) || (has_connection && headers.has_token("connection", name));
}

bool begins_with(std::string_view name, std::string_view beginning) {
  return wire::equal_ignoring_case(name.substr(0, beginning.size()), beginning);
}

// What a backend may not say of itself to clients: it is the gateway's to say.
bool is_the_gateways(std::string_view name) {
  return wire::equal_ignoring_case(name, "date") || wire::equal_ignoring_case(name, "x-request-id") ||
         wire::equal_ignoring_case(name, "request-id") || begins_with(name, own_prefix) ||
         begins_with(name, "access-control-");
}

// An address of the backend's own, which is not for clients; a path is one of the gateway's too.
bool tells_address(std::string_view name, std::string_view value) {
  const bool is_location =
      wire::equal_ignoring_case(name, "location") || wire::equal_ignoring_case(name, "content-location");
  return is_location && (!value.starts_with('/') || value.starts_with("//"));
}

bool is_credential(std::string_view name) {
  return wire::equal_ignoring_case(name, "authorization") || wire::equal_ignoring_case(name, "x-api-key");
}

}  // namespace

wire::Headers request_headers(const wire::HttpRequest& request, const std::string& request_id,
                              const Credentials& credentials, const observe::SpanContext& parent) {
  wire::Headers out;
  out.reserve(request.headers.size() + 4);
  const bool has_connection = request.headers.has("connection");
  for (const auto& [name, value] : request.headers) {
    if (ends_here(request.headers, has_connection, name) || is_one_of(name, of_the_gateway)) continue;
    if (begins_with(name, own_prefix)) continue;
    if (is_credential(name) && (credentials.clients_end_here || !credentials.backend_key.empty())) continue;
    if (credentials.clients_end_here && wire::equal_ignoring_case(name, "cookie")) continue;
    out.add(name, value);
  }
  if (!credentials.backend_key.empty()) out.add("Authorization", "Bearer " + credentials.backend_key);
  out.add("X-Request-Id", request_id);
  if (parent.valid()) {
    out.add("traceparent", parent.to_traceparent());
    if (!parent.trace_state.empty()) out.add("tracestate", parent.trace_state);
  }
  return out;
}

wire::Headers response_headers(const wire::Headers& from_backend) {
  wire::Headers out;
  out.reserve(from_backend.size() + 8);
  const bool has_connection = from_backend.has("connection");
  for (const auto& [name, value] : from_backend) {
    if (ends_here(from_backend, has_connection, name)) continue;
    if (is_the_gateways(name) || tells_address(name, value)) continue;
    out.add(name, value);
  }
  return out;
}

}  // namespace tidemill::gateway
