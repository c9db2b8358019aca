#include "gateway/service.hpp"

#include <utility>

#include "observe/semantic_conventions.hpp"

namespace tidemill::gateway {

namespace {

// The store's calls wait for each other anyway, or for the network.
constexpr size_t store_threads = 4;

wire::PoolOptions pool_options() {
  wire::PoolOptions pool;
  pool.max_connections = 65'536;  // backends say themselves what is too much for them
  pool.max_idle = 1024;
  pool.max_idle_time = std::chrono::seconds(20);
  return pool;
}

observe::Counter& resumes(observe::Metrics& metrics, std::string kind) {
  return metrics.counter({"tidemill_gateway_resumed_streams_total"},
                         "Streams that broke off and were taken up elsewhere", {{"kind", std::move(kind)}});
}

}  // namespace

Service::Service(const GatewayOptions& options, const base::Clock& clock)
    : clock_(clock),
      tracer_(clock, static_cast<size_t>(options.trace_ring)),
      counters_{
          metrics_.counter({"tidemill_gateway_retries_total"},
                           "Further tries of requests of which the client had got nothing"),
          resumes(metrics_, "exact"),
          resumes(metrics_, "best_effort"),
          metrics_.counter({"tidemill_gateway_lost_streams_total"},
                           "Streams that ended with an error because no backend could take them up"),
          metrics_.counter({"tidemill_gateway_lost_usages_total"},
                           "Streams that broke off between the end of their text and the usage that was asked for"),
          metrics_.histogram({"tidemill_gateway_first_byte_seconds"},
                             "From the first byte of a request to the first of its answer",
                             observe::semconv::bounds::time_to_first_token)},
      fleet_(clock, options.max_open),
      pool_(pool_options()),
      options_(std::make_shared<const GatewayOptions>(options)),
      store_pool_(store_threads, "the gateway is stopping") {}

std::shared_ptr<const GatewayOptions> Service::options() const {
  const std::lock_guard lock(mutex_);
  return options_;
}

void Service::set_options(std::shared_ptr<const GatewayOptions> options) {
  const std::lock_guard lock(mutex_);
  options_ = std::move(options);
}

std::shared_ptr<const RouteTable> Service::routes() const {
  const std::lock_guard lock(mutex_);
  return routes_;
}

void Service::set_routes(std::shared_ptr<const RouteTable> routes) {
  const std::lock_guard lock(mutex_);
  routes_ = std::move(routes);
}

void Service::end_tries() {
  ending_ = true;
  for (const auto& backend : fleet_.backends())
    backend->hang_ups().end_all();
}

}  // namespace tidemill::gateway
