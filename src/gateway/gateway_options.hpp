// The options of the gateway role, and how they are registered with the configuration.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "base/config.hpp"
#include "base/result.hpp"
#include "gateway/retry_plan.hpp"
#include "gateway/route_options.hpp"
#include "session/session_store.hpp"
#include "wire/http_server.hpp"
#include "wire/listener_options.hpp"

namespace tidemill::gateway {

// One model server: [[gateway.backend]].
struct BackendOptions {
  std::string url;                    // "http://host:8000"; a path is put before every request's, but "/v1"
  std::string name{};                 // in logs and metrics; host and port if empty
  std::vector<std::string> models{};  // what it is asked for; what its /v1/models lists if empty
  std::string api_key{};              // sent as bearer token in place of the client's
  std::string resume = "auto";        // what to do for a stream that it breaks off: auto, exact, off
  std::string ready_path{};           // where it tells whether it takes requests (readiness.hpp)
  std::string instance{};             // which of those that have the address by turns, as discovery tells it

  bool operator==(const BackendOptions&) const = default;
};

// Model servers that are found: [[gateway.discover]]. Either `dns` or `kubernetes` is set.
struct DiscoverOptions {
  std::string dns{};         // "host:port", "https://host:port"
  std::string kubernetes{};  // "namespace/service", or "service" in the pod's own namespace
  std::string port{};        // of the servers: a number, or the name of a port of the service
  bool https = false;        // how to speak to the servers of a service
  std::string api_server{};  // of Kubernetes, with the two files; what a pod finds if empty
  std::string token_file{};
  std::string ca_file{};
  base::Duration interval = std::chrono::seconds(10);  // between two looks at a DNS name
  // As a backend's.
  std::vector<std::string> models{};
  std::string api_key{};
  std::string resume = "auto";
  std::string ready_path{};

  bool operator==(const DiscoverOptions&) const = default;
};

// Every field is described where it is registered.
struct GatewayOptions : wire::ListenerOptions {
  GatewayOptions() { max_connections = 16384; }

  std::string tls_certificate;
  std::string tls_key;
  std::string tls_client_ca;
  base::ByteSize max_answer{uint64_t{64} << 20};
  base::ByteSize max_event{uint64_t{128} << 20};
  base::Duration drain_timeout = std::chrono::seconds(30);

  std::vector<std::string> backend_urls;  // the short form
  std::vector<BackendOptions> backends;
  std::vector<DiscoverOptions> discover;
  std::vector<RouteOptions> routes;
  base::Duration connect_timeout = std::chrono::seconds(2);
  base::Duration stall_timeout = std::chrono::seconds(60);
  base::Duration event_timeout = std::chrono::minutes(10);
  base::Duration answer_timeout = std::chrono::minutes(10);
  base::Duration poll_interval = std::chrono::seconds(1);
  base::Duration poll_timeout = std::chrono::seconds(2);
  int max_open = 1024;
  int retries = RetryOptions().retries;
  base::Duration patience = RetryOptions().patience;
  base::Duration resume_window = RetryOptions().resume_window;

  std::string access_log;
  bool log_prompts = false;
  bool log_polls = false;

  std::string keys;
  std::string policy;
  int slots = 0;
  int max_queued = 4096;
  base::Duration longest_wait = std::chrono::seconds(1);

  // Of the sections that roles share ([session], [observe]); whoever loads the configuration copies them.
  session::StoreOptions session;
  std::string otlp_endpoint;
  int trace_ring = 4096;

  RetryOptions retry_options() const;
};

// Registers every option. `options` must outlive the schema; its values at this moment become the defaults.
void register_options(base::ConfigSchema& schema, GatewayOptions& options);

// All backends, in either form, with their URLs checked and their names filled in. A path "/v1" at the end of a URL, as
// OpenAI's clients are told of a server, is taken off: requests bring it. invalid_argument: a URL that is none or has a
// query, two backends of one name, a name or a key that holds a control character.
base::Result<std::vector<BackendOptions>> all_backends(const GatewayOptions& options);

// invalid_argument: a part of what TLS needs is missing. Whether the files are good is seen when they are loaded.
base::Result<void> check_tls(const GatewayOptions& options);

// The parts, as the room below wants them.
wire::HttpServerOptions server_options(const GatewayOptions& options);

// invalid_argument, with `param`: a key for backends that could not be sent in a header.
base::Result<void> check_api_key(const std::string& api_key, const char* param);
// Likewise: a `ready_path` that is neither empty nor "none", and no path either.
base::Result<void> check_ready_path(const std::string& ready_path, const char* param);

}  // namespace tidemill::gateway
