// Counters of HTTP exchanges.
#pragma once

#include <cstddef>

#include "observe/metrics.hpp"
#include "wire/http_server.hpp"

namespace tidemill::wire {

// Thread-safe. The registry must outlive it.
class HttpMetrics {
 public:
  explicit HttpMetrics(observe::Metrics& metrics);

  // Counts an exchange by route and status, times it, and logs those that no endpoint has seen (unknown paths, wrong
  // methods, requests that could not be read).
  void observe(const ExchangeSummary& summary);
  void set_connections(size_t open);

 private:
  observe::Metrics& metrics_;
  observe::Gauge& connections_;
};

}  // namespace tidemill::wire
