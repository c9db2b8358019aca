// The options of whatever listens for HTTP, which servers and gateways have in common.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/config.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "wire/drainable.hpp"
#include "wire/http_metrics.hpp"
#include "wire/http_server.hpp"

namespace tidemill::wire {

// Every field is described where it is registered.
struct ListenerOptions {
  std::string host = "127.0.0.1";
  int port = 8080;
  int io_threads = 2;
  base::ByteSize max_body{uint64_t{32} << 20};
  int max_connections = 4096;
  base::Duration header_timeout = std::chrono::seconds(15);
  base::Duration body_timeout = std::chrono::seconds(30);
  base::ByteSize min_body_rate{uint64_t{1} << 10};
  base::Duration idle_timeout = std::chrono::seconds(75);
  base::Duration write_timeout = std::chrono::seconds(30);
  std::vector<std::string> cors_origins;

  bool operator==(const ListenerOptions&) const = default;
};

// Registers them under `section` ("server.host"), and --host and --port. `options` must outlive the schema.
void register_listener(base::ConfigSchema& schema, std::string_view section, ListenerOptions& options);

// As the server wants them; plain HTTP.
HttpServerOptions http_options(const ListenerOptions& options);

// invalid_argument, with the option of `section` as `param`: an origin that no browser would write so, and that none
// would ever match: "https://app.example", "http://localhost:3000", "null"; or "*".
base::Result<void> check_origins(const std::vector<std::string>& origins, std::string_view section);

// Starts a server in the time of `clock`, whose exchanges are counted by `metrics`, before `options.on_exchange` hears
// of them; both must outlive it. Errors: those of HttpServer::start, with the address told as the option of `section`
// that it is, and of check_origins.
base::Result<std::unique_ptr<HttpServer>> start_listener(HttpServerOptions options, Router router,
                                                         std::string_view section, HttpMetrics& metrics,
                                                         const base::Clock& clock);

// Ends it: gives its connections `left`, or Drainable::parting if that is more, to end by themselves, unless whoever
// stops `service` hurries. False if connections had to be cut. Blocks, in real time.
bool stop_listener(HttpServer& http, const Drainable& service, base::Duration left);

}  // namespace tidemill::wire
