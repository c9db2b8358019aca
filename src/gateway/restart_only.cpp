#include "gateway/restart_only.hpp"

#include <utility>

namespace tidemill::gateway {

std::vector<std::string_view> restart_only(const GatewayOptions& before, const GatewayOptions& after) {
  const GatewayOptions& a = before;
  const GatewayOptions& b = after;
  const std::pair<std::string_view, bool> settings[] = {
      {"gateway.host", a.host != b.host},
      {"gateway.port", a.port != b.port},
      {"gateway.io_threads", a.io_threads != b.io_threads},
      {"gateway.max_body", a.max_body != b.max_body},
      {"gateway.max_connections", a.max_connections != b.max_connections},
      {"gateway.header_timeout", a.header_timeout != b.header_timeout},
      {"gateway.body_timeout", a.body_timeout != b.body_timeout},
      {"gateway.min_body_rate", a.min_body_rate != b.min_body_rate},
      {"gateway.idle_timeout", a.idle_timeout != b.idle_timeout},
      {"gateway.write_timeout", a.write_timeout != b.write_timeout},
      {"gateway.cors_origins", a.cors_origins != b.cors_origins},
      {"gateway.tls_certificate", a.tls_certificate != b.tls_certificate},
      {"gateway.tls_key", a.tls_key != b.tls_key},
      {"gateway.tls_client_ca", a.tls_client_ca != b.tls_client_ca},
      {"gateway.keys", a.keys != b.keys},
      {"gateway.slots (from or to 0)", (a.slots == 0) != (b.slots == 0)},
      {"[session]", a.session != b.session},
      {"observe.otlp_endpoint", a.otlp_endpoint != b.otlp_endpoint},
      {"observe.trace_ring", a.trace_ring != b.trace_ring},
  };
  std::vector<std::string_view> changed;
  for (const auto& [name, differs] : settings) {
    if (differs) changed.push_back(name);
  }
  return changed;
}

}  // namespace tidemill::gateway
