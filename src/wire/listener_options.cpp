#include "wire/listener_options.hpp"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include <fmt/core.h>

namespace tidemill::wire {

using base::ByteSize;
using base::Duration;
using base::Result;

namespace {

constexpr uint64_t kib = uint64_t{1} << 10;
constexpr uint64_t gib = uint64_t{1} << 30;
constexpr Duration shortest = std::chrono::milliseconds(10);
constexpr Duration longest = std::chrono::hours(24);

// What is wrong with an origin (RFC 6454, section 6.2), which browsers write in one way alone; nullptr: nothing.
const char* why_no_origin(std::string_view origin) {
  const size_t colon = origin.find("://");
  if (colon == 0 || colon == std::string_view::npos) return "it has no scheme";
  const std::string_view scheme = origin.substr(0, colon);
  const std::string_view host = origin.substr(colon + 3);
  if (host.empty() || host.front() == ':') return "it has no host";
  if (host.find_first_of("/?#@\\* ,") != std::string_view::npos) return "it has more than scheme, host and port";
  const auto is_upper = [](char c) { return c >= 'A' && c <= 'Z'; };
  if (std::any_of(origin.begin(), origin.end(), is_upper)) return "browsers write it in small letters";
  const bool usual = (scheme == "https" && host.ends_with(":443")) || (scheme == "http" && host.ends_with(":80"));
  return usual ? "browsers leave the usual port out" : nullptr;
}

}  // namespace

Result<void> check_origins(const std::vector<std::string>& origins, std::string_view section) {
  for (const std::string& origin : origins) {
    if (origin == "*" || origin == "null") continue;
    const char* const fault = why_no_origin(origin);
    if (fault == nullptr) continue;
    const std::string key = fmt::format("{}.cors_origins", section);
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("{}: '{}' is no web origin: {}; write https://app.example, http://localhost:3000, "
                                   "or * for any",
                                   key, origin, fault))
        .with_param(key);
  }
  return {};
}

void register_listener(base::ConfigSchema& schema, std::string_view section, ListenerOptions& o) {
  const auto add = [&](const char* name, base::ConfigOption::Field field, const char* help) -> base::ConfigOption& {
    return schema.add(fmt::format("{}.{}", section, name), field, help);
  };
  add("host", &o.host, "IP address (or localhost) to listen on; 0.0.0.0 or :: for every one").alias("--host");
  add("port", &o.port, "port to listen on; 0 for any free one").alias("--port").between(0, 65535);
  add("io_threads", &o.io_threads, "threads for connections (none of them computes)").between(1, 64);
  add("max_body", &o.max_body, "largest request body; a larger one is refused with 413")
      .between(ByteSize{kib}, ByteSize{gib});
  add("max_connections", &o.max_connections, "connections at one time; further ones get 503").between(1, 1'000'000);
  add("header_timeout", &o.header_timeout, "for the headers of a request to arrive").between(shortest, longest);
  add("body_timeout", &o.body_timeout, "without a byte of the body").between(shortest, longest);
  add("min_body_rate", &o.min_body_rate,
      "bytes a second at which a body must come on the whole, once body_timeout has passed; 0 for any")
      .between(ByteSize{0}, ByteSize{gib});
  add("idle_timeout", &o.idle_timeout, "of a connection between two requests").between(shortest, longest);
  add("write_timeout", &o.write_timeout, "of a client that takes no byte of its answer").between(shortest, longest);
  add("cors_origins", &o.cors_origins, "web origins that browsers may call from; * for any");
}

HttpServerOptions http_options(const ListenerOptions& options) {
  HttpServerOptions http;
  http.address = options.host;
  http.port = static_cast<uint16_t>(options.port);
  http.io_threads = options.io_threads;
  http.max_body_bytes = options.max_body.bytes;
  http.max_connections = static_cast<size_t>(options.max_connections);
  http.header_timeout = options.header_timeout;
  http.body_timeout = options.body_timeout;
  http.min_body_rate = options.min_body_rate.bytes;
  http.idle_timeout = options.idle_timeout;
  http.write_timeout = options.write_timeout;
  http.cors_origins = options.cors_origins;
  return http;
}

base::Result<std::unique_ptr<HttpServer>> start_listener(HttpServerOptions options, Router router,
                                                         std::string_view section, HttpMetrics& metrics,
                                                         const base::Clock& clock) {
  TM_CHECK(check_origins(options.cors_origins, section));
  options.clock = &clock;
  options.on_exchange = [&metrics, also = std::move(options.on_exchange)](const ExchangeSummary& summary) {
    metrics.observe(summary);
    if (also) also(summary);
  };
  auto started = HttpServer::start(std::move(options), std::move(router));
  if (started || started.error().param() != "address") return started;
  return std::move(started).error().with_param(fmt::format("{}.host", section));
}

bool stop_listener(HttpServer& http, const Drainable& service, base::Duration left) {
  constexpr auto look_interval = std::chrono::milliseconds(20);
  http.drain();
  // A request that comes in slowly, or a handshake that does not come, is nobody's that `service` counts.
  const auto until = std::chrono::steady_clock::now() + std::max(left, Drainable::parting);
  while (http.connections() != 0 && !service.hurried() && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(look_interval);
  if (service.hurried()) http.hurry();
  return http.stop(service.hurried() ? Drainable::parting : base::Duration(0));
}

}  // namespace tidemill::wire
