#include "gateway/gateway_options.hpp"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

namespace tidemill::gateway {

using base::ByteSize;
using base::Duration;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr uint64_t kib = uint64_t{1} << 10;
constexpr uint64_t gib = uint64_t{1} << 30;
constexpr Duration shortest = milliseconds(10);
constexpr Duration longest = hours(24);

void register_front(base::ConfigSchema& schema, GatewayOptions& o) {
  schema.add("gateway.host", &o.host, "IP address (or localhost) to listen on; 0.0.0.0 or :: for every one")
      .alias("--host");
  schema.add("gateway.port", &o.port, "port to listen on; 0 for any free one").alias("--port").between(0, 65535);
  schema.add("gateway.io_threads", &o.io_threads, "threads for connections").between(1, 64);
  schema
      .add("gateway.tls_certificate", &o.tls_certificate,
           "PEM file of the certificate to show, with its chain: the gateway then speaks TLS alone; read again on "
           "SIGHUP")
      .alias("--tls-certificate");
  schema.add("gateway.tls_key", &o.tls_key, "PEM file of its key; read again on SIGHUP").alias("--tls-key");
  schema.add("gateway.tls_client_ca", &o.tls_client_ca,
             "PEM file of authorities: clients must have a certificate of one of them");
  schema.add("gateway.max_body", &o.max_body, "largest request body; a larger one is refused with 413")
      .between(ByteSize{kib}, ByteSize{gib});
  schema.add("gateway.max_answer", &o.max_answer, "largest answer that is no stream; a larger one counts as broken")
      .between(ByteSize{kib}, ByteSize{gib});
  schema.add("gateway.max_connections", &o.max_connections, "connections at one time; further ones get 503")
      .between(1, 1'000'000);
  schema.add("gateway.header_timeout", &o.header_timeout, "for the headers of a request to arrive")
      .between(shortest, longest);
  schema.add("gateway.body_timeout", &o.body_timeout, "without a byte of the body").between(shortest, longest);
  schema.add("gateway.idle_timeout", &o.idle_timeout, "of a connection between two requests")
      .between(shortest, longest);
  schema.add("gateway.write_timeout", &o.write_timeout, "of a client that takes no byte of its answer")
      .between(shortest, longest);
  schema.add("gateway.drain_timeout", &o.drain_timeout, "for running requests to finish after SIGTERM")
      .between(Duration(0), longest);
  schema.add("gateway.cors_origins", &o.cors_origins, "web origins that browsers may call from; * for any");
  schema
      .add("gateway.access_log", &o.access_log,
           "file to which a line of JSON is written for each request (never its text); - for standard output")
      .alias("--access-log");
}

void register_back(base::ConfigSchema& schema, GatewayOptions& o) {
  schema
      .add("gateway.backends", &o.backend_urls,
           "URLs of model servers; [[gateway.backend]] in the file says more of each")
      .alias("--backend");
  schema.add("gateway.connect_timeout", &o.connect_timeout, "for a connection to a backend").between(shortest, longest);
  schema.add("gateway.stall_timeout", &o.stall_timeout, "of a backend's stream that carries no byte")
      .between(shortest, longest);
  schema.add("gateway.answer_timeout", &o.answer_timeout, "for a backend's answer that is no stream")
      .between(shortest, longest);
  schema.add("gateway.poll_interval", &o.poll_interval, "between two looks at a backend's health and load")
      .between(shortest, longest);
  schema.add("gateway.poll_timeout", &o.poll_timeout, "for the answer to such a look").between(shortest, longest);
  schema
      .add("gateway.max_open", &o.max_open,
           "requests open at one backend at one time; while all have as many, further ones wait as for "
           "gateway.patience")
      .between(1, 1'000'000);
  schema.add("gateway.retries", &o.retries, "further tries of a request of which the client has got nothing yet")
      .between(0, 100);
  schema
      .add("gateway.patience", &o.patience,
           "how long a request waits while there are backends and none can be asked, as when they start")
      .between(Duration(0), longest);
  schema.add("gateway.resume_window", &o.resume_window, "in which a stream that broke off must go on elsewhere")
      .between(Duration(0), longest);
}

void register_gate(base::ConfigSchema& schema, GatewayOptions& o) {
  schema
      .add("gateway.keys", &o.keys,
           "API keys that clients must have, as `tidemill keys` keeps them: a file or redis://...; empty: open to all")
      .alias("--keys")
      .secret();  // it may hold a Redis' password
  schema.add("gateway.policy", &o.policy, "TOML file of tenants' limits and budgets, and of models' prices")
      .alias("--policy");
  schema.add("gateway.slots", &o.slots, "requests at the backends at one time, others wait in turn; 0: no bound")
      .between(0, 1'000'000);
  schema.add("gateway.max_queued", &o.max_queued, "requests that wait for a slot; further ones get 429")
      .between(0, 1'000'000);
  schema.add("gateway.longest_wait", &o.longest_wait, "for a slot; a request that would wait longer gets 429 at once")
      .between(Duration(0), longest);
}

void describe_backend(base::ConfigSchema& schema, BackendOptions& o) {
  schema.add("gateway.backend.url", &o.url, "http://host:port").required();
  schema.add("gateway.backend.name", &o.name, "name in logs and metrics");
  schema.add("gateway.backend.models", &o.models, "models to ask it for; what it lists if empty");
  schema.add("gateway.backend.api_key", &o.api_key, "key to send it").secret();
  schema
      .add("gateway.backend.resume", &o.resume,
           "streams that it breaks off: auto goes on as well as can be, exact only without loss, off not at all")
      .words({"auto", "exact", "off"});
}

void describe_discovery(base::ConfigSchema& schema, DiscoverOptions& o) {
  schema.add("gateway.discover.dns", &o.dns, "host:port whose addresses are backends; https://host:port speaks TLS");
  schema.add("gateway.discover.kubernetes", &o.kubernetes,
             "namespace/service of Kubernetes whose endpoints are backends");
  schema.add("gateway.discover.port", &o.port, "port of the backends; of a service also its name, its first if empty");
  schema.add("gateway.discover.https", &o.https, "speak TLS to the backends");
  schema.add("gateway.discover.interval", &o.interval, "between two looks at a DNS name").between(shortest, longest);
  schema.add("gateway.discover.api_server", &o.api_server, "https://host:port of Kubernetes; the pod's own if empty");
  schema.add("gateway.discover.token_file", &o.token_file, "token for the API server; the pod's own if empty");
  schema.add("gateway.discover.ca_file", &o.ca_file, "PEM file that the API server's certificate is checked by");
  schema.add("gateway.discover.models", &o.models, "models to ask the backends for; what they list if empty");
  schema.add("gateway.discover.api_key", &o.api_key, "key to send them").secret();
  schema.add("gateway.discover.resume", &o.resume, "streams that they break off, as with gateway.backend.resume")
      .words({"auto", "exact", "off"});
}

}  // namespace

RetryOptions GatewayOptions::retry_options() const {
  RetryOptions retry;
  retry.retries = retries;
  retry.patience = patience;
  retry.resume_window = resume_window;
  return retry;
}

void register_options(base::ConfigSchema& schema, GatewayOptions& options) {
  register_front(schema, options);
  register_back(schema, options);
  register_gate(schema, options);
  schema.add_rows("gateway.backend", &options.backends, describe_backend);
  schema.add_rows("gateway.discover", &options.discover, describe_discovery);
}

base::Result<std::vector<BackendOptions>> all_backends(const GatewayOptions& options) {
  std::vector<BackendOptions> all = options.backends;
  for (const std::string& url : options.backend_urls) {
    BackendOptions plain;
    plain.url = url;
    all.push_back(std::move(plain));
  }
  for (BackendOptions& backend : all) {
    auto url = wire::Url::parse(backend.url);
    if (!url) return std::move(url).error().wrap("a backend of the gateway").with_param("gateway.backend.url");
    while (backend.url.ends_with('/'))
      backend.url.pop_back();
    if (backend.name.empty()) backend.name = url->authority();
  }
  for (size_t i = 0; i < all.size(); ++i) {
    const auto same = [&](const BackendOptions& other) { return other.name == all[i].name; };
    if (std::find_if(all.begin() + static_cast<std::ptrdiff_t>(i) + 1, all.end(), same) != all.end()) {
      return base::Error(base::ErrorCode::invalid_argument,
                         fmt::format("two backends are named '{}': give each a name of its own", all[i].name))
          .with_param("gateway.backend.name");
    }
  }
  return all;
}

base::Result<void> check_tls(const GatewayOptions& options) {
  const auto missing = [](const char* given, const char* wanted) {
    return base::Error(base::ErrorCode::invalid_argument, fmt::format("{} is given without {}", given, wanted))
        .with_param(wanted);
  };
  const bool certificate = !options.tls_certificate.empty();
  const bool key = !options.tls_key.empty();
  if (certificate && !key) return missing("gateway.tls_certificate", "gateway.tls_key");
  if (key && !certificate) return missing("gateway.tls_key", "gateway.tls_certificate");
  if (!options.tls_client_ca.empty() && !certificate)
    return missing("gateway.tls_client_ca", "gateway.tls_certificate");
  return {};
}

wire::HttpServerOptions http_options(const GatewayOptions& options) {
  wire::HttpServerOptions http;
  http.address = options.host;
  http.port = static_cast<uint16_t>(options.port);
  http.io_threads = options.io_threads;
  if (!options.tls_certificate.empty()) {
    http.tls = wire::TlsServerFiles{
        .certificate = options.tls_certificate, .key = options.tls_key, .client_ca = options.tls_client_ca};
  }
  http.max_body_bytes = options.max_body.bytes;
  http.max_connections = static_cast<size_t>(options.max_connections);
  http.header_timeout = options.header_timeout;
  http.body_timeout = options.body_timeout;
  http.idle_timeout = options.idle_timeout;
  http.write_timeout = options.write_timeout;
  http.cors_origins = options.cors_origins;
  return http;
}

}  // namespace tidemill::gateway
