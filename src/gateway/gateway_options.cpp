#include "gateway/gateway_options.hpp"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "gateway/plain_path.hpp"
#include "wire/url.hpp"

namespace tidemill::gateway {

using base::ByteSize;
using base::Duration;
using std::chrono::hours;
using std::chrono::milliseconds;

namespace {

constexpr uint64_t kib = uint64_t{1} << 10;
constexpr uint64_t gib = uint64_t{1} << 30;
constexpr Duration shortest = milliseconds(10);
constexpr Duration longest = hours(24);

void register_front(base::ConfigSchema& schema, GatewayOptions& o) {
  wire::register_listener(schema, "gateway", o);
  schema
      .add("gateway.tls_certificate", &o.tls_certificate,
           "PEM file of the certificate to show, with its chain: the gateway then speaks TLS alone; read again on "
           "SIGHUP")
      .alias("--tls-certificate");
  schema.add("gateway.tls_key", &o.tls_key, "PEM file of its key; read again on SIGHUP").alias("--tls-key");
  schema.add("gateway.tls_client_ca", &o.tls_client_ca,
             "PEM file of authorities: clients must have a certificate of one of them");
  schema.add("gateway.max_answer", &o.max_answer, "largest answer that is no stream; a larger one is refused")
      .between(ByteSize{kib}, ByteSize{gib});
  schema
      .add("gateway.max_event", &o.max_event,
           "largest event of a stream, or group of events that a server of Tidemill's marks as one; a larger one ends "
           "the stream with an error")
      .between(ByteSize{kib}, ByteSize{gib});
  schema.add("gateway.drain_timeout", &o.drain_timeout, "for running requests to finish after SIGTERM")
      .between(Duration(0), longest);
  schema
      .add("gateway.access_log", &o.access_log,
           "file to which a line of JSON is written for each request (never its text, unless log_prompts is on); - for "
           "standard output")
      .alias("--access-log");
  schema.add("gateway.log_prompts", &o.log_prompts,
             "whether the access log has what was asked: the body's first 65,536 characters");
  schema.add("gateway.log_polls", &o.log_polls,
             "whether access log and traces have each list of models that was given, for which gateways ask all the "
             "time; those that fail, or are traced by who asks, they have anyway");
}

void register_back(base::ConfigSchema& schema, GatewayOptions& o) {
  schema
      .add("gateway.backends", &o.backend_urls,
           "URLs of model servers; [[gateway.backend]] in the file says more of each")
      .alias("--backend");
  schema.add("gateway.connect_timeout", &o.connect_timeout, "for a connection to a backend").between(shortest, longest);
  schema.add("gateway.stall_timeout", &o.stall_timeout, "of a backend's stream that carries no byte")
      .between(shortest, longest);
  schema
      .add("gateway.event_timeout", &o.event_timeout,
           "of a backend's stream that carries comments or pings alone, as during a long prefill, and no event")
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
  schema
      .add("gateway.retries", &o.retries,
           "further tries of a request that a backend took and failed, in a row without a word of the answer")
      .between(0, 100);
  schema
      .add("gateway.patience", &o.patience,
           "how long a request waits while there are backends and none can be asked, as when they restart or load")
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
  schema.add("gateway.backend.ready_path", &o.ready_path,
             "path that answers 2xx when it takes requests, 503 when not: /health, say; none: it has no such path; "
             "empty: /ready, if it has that");
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
  schema.add("gateway.discover.ready_path", &o.ready_path,
             "path that tells whether they take requests, as with gateway.backend.ready_path");
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
  schema.add_rows("gateway.route", &options.routes, describe_route);
}

namespace {

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; });
}

base::Error wrong(const char* param, std::string what) {
  return base::Error(base::ErrorCode::invalid_argument, fmt::format("{}: {}", param, what)).with_param(param);
}

// `param`: the key of its URL.
base::Result<void> complete(BackendOptions& backend, const char* param) {
  auto url = wire::Url::parse(backend.url);
  if (!url) return std::move(url).error().wrap(param).with_param(param);
  if (backend.url.find_first_of("?#") != std::string::npos) {
    return wrong(param,
                 fmt::format("'{}' has a query or a fragment, which cannot go before the paths of requests: write "
                             "http://host:port, or http://host:port/path",
                             backend.url));
  }
  const auto drop_slashes = [&] {
    while (backend.url.ends_with('/'))
      backend.url.pop_back();
  };
  drop_slashes();
  while (url->target.ends_with('/'))
    url->target.pop_back();
  if (url->target.ends_with("/v1")) {
    backend.url.resize(backend.url.size() - 3);
    drop_slashes();
  }
  if (!url->target.empty()) {
    if (const char* const fault = why_not_plain(url->target)) {
      return wrong(param, fmt::format("the path of '{}' is not plain: {}", backend.url, fault));
    }
  }
  if (backend.name.empty()) backend.name = url->authority();
  if (has_control(backend.name)) return wrong("gateway.backend.name", "it holds a line break or a control character");
  TM_CHECK(check_ready_path(backend.ready_path, "gateway.backend.ready_path"));
  return check_api_key(backend.api_key, "gateway.backend.api_key");
}

}  // namespace

base::Result<void> check_api_key(const std::string& api_key, const char* param) {
  if (!has_control(api_key)) return {};
  return wrong(param, "it holds a line break or another control character, and could not be sent in a header");
}

base::Result<void> check_ready_path(const std::string& ready_path, const char* param) {
  if (ready_path.empty() || ready_path == "none") return {};
  const char* const fault = why_not_plain(ready_path);
  const bool spaced = ready_path.find(' ') != std::string::npos || has_control(ready_path);
  if (fault == nullptr && !spaced) return {};
  return wrong(param, fmt::format("'{}' is no path: {}; write \"/health\", say, or \"none\" for a server without one",
                                  ready_path, fault != nullptr ? fault : "it has a blank"));
}

base::Result<std::vector<BackendOptions>> all_backends(const GatewayOptions& options) {
  std::vector<BackendOptions> all = options.backends;
  for (BackendOptions& backend : all)
    TM_CHECK(complete(backend, "gateway.backend.url"));
  for (const std::string& url : options.backend_urls) {
    BackendOptions plain;
    plain.url = url;
    TM_CHECK(complete(plain, "gateway.backends"));
    all.push_back(std::move(plain));
  }
  for (size_t i = 0; i < all.size(); ++i) {
    const auto same = [&](const BackendOptions& other) { return other.name == all[i].name; };
    if (std::find_if(all.begin() + static_cast<std::ptrdiff_t>(i) + 1, all.end(), same) != all.end()) {
      return wrong("gateway.backend.name",
                   fmt::format("two backends are named '{}': give each a name of its own", all[i].name));
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

wire::HttpServerOptions server_options(const GatewayOptions& options) {
  wire::HttpServerOptions http = wire::http_options(options);
  if (!options.tls_certificate.empty()) {
    http.tls = wire::TlsServerFiles{
        .certificate = options.tls_certificate, .key = options.tls_key, .client_ca = options.tls_client_ca};
  }
  return http;
}

}  // namespace tidemill::gateway
