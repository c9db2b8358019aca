#include "wire/http_metrics.hpp"

#include <string>

#include "base/log.hpp"
#include "observe/semantic_conventions.hpp"

namespace tidemill::wire {

namespace semconv = observe::semconv;

HttpMetrics::HttpMetrics(observe::Metrics& metrics)
    : metrics_(metrics),
      connections_(metrics.gauge({"tidemill_http_connections"}, "Open connections, idle ones included")) {}

void HttpMetrics::observe(const ExchangeSummary& summary) {
  // 499 is the customary number for an answer that nobody waited for.
  const int status = summary.status == 0 ? 499 : summary.status;
  const std::string route(summary.route.empty() ? "other" : summary.route);
  const observe::Labels by_route{{std::string(semconv::label::route), route}};
  observe::Labels by_status = by_route;
  by_status.emplace_back(semconv::label::status, std::to_string(status));
  metrics_.counter(semconv::metric::http_requests.names(), semconv::metric::http_requests.help, by_status).add();
  metrics_
      .histogram({"tidemill_http_request_duration_seconds"},
                 "From the first byte of a request to the end of its answer", semconv::bounds::request_duration,
                 by_route)
      .observe(base::seconds(summary.duration));
  if (summary.route.empty() || summary.status == 405) {
    base::log::info("{} {} {} {:.1f} ms", summary.method.substr(0, 20), route, status,
                    1e3 * base::seconds(summary.duration));
  }
}

void HttpMetrics::set_connections(size_t open) {
  connections_.set(static_cast<double>(open));
}

}  // namespace tidemill::wire
