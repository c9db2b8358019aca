#include "wire/http_metrics.hpp"

#include <string>

#include "base/log.hpp"
#include "observe/semantic_conventions.hpp"

namespace tidemill::wire {

namespace semconv = observe::semconv;

HttpMetrics::HttpMetrics(observe::Metrics& metrics)
    : metrics_(metrics),
      connections_(metrics.gauge({"tidemill_http_connections"}, "Open connections, idle ones included")) {}

HttpMetrics::Series& HttpMetrics::series(std::string_view route, int status) {
  const std::lock_guard lock(mutex_);
  for (Series& known : series_) {
    if (known.status == status && known.route == route) return known;
  }
  const observe::Labels by_route{{std::string(semconv::label::route), std::string(route)}};
  observe::Labels by_status = by_route;
  by_status.emplace_back(semconv::label::status, std::to_string(status));
  return series_.emplace_back(Series{
      .route = std::string(route),
      .status = status,
      .requests =
          metrics_.counter(semconv::metric::http_requests.names(), semconv::metric::http_requests.help, by_status),
      .durations = metrics_.histogram({"tidemill_http_request_duration_seconds"},
                                      "From the first byte of a request to the end of its answer",
                                      semconv::bounds::request_duration, by_route)});
}

void HttpMetrics::observe(const ExchangeSummary& summary) {
  // 499 is the customary number for an answer that nobody waited for, or not to its end.
  const int status = summary.status == 0 || summary.unfinished ? 499 : summary.status;
  const std::string_view route = summary.route.empty() ? "other" : summary.route;
  Series& counted = series(route, status);
  counted.requests.add();
  counted.durations.observe(base::seconds(summary.duration));
  if (summary.route.empty() || summary.status == 405) {
    base::log::info("{} {} {} {:.1f} ms id={}", summary.method.substr(0, 20), route, status,
                    1e3 * base::seconds(summary.duration), summary.request_id);
  }
}

void HttpMetrics::set_connections(size_t open) {
  connections_.set(static_cast<double>(open));
}

}  // namespace tidemill::wire
