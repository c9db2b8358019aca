// Counters of HTTP exchanges.
#pragma once

#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>

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
  // The instruments of one route and status, kept because the registry's look-up is dear.
  struct Series {
    std::string route;
    int status = 0;
    observe::Counter& requests;
    observe::Histogram& durations;
  };
  Series& series(std::string_view route, int status);

  observe::Metrics& metrics_;
  std::mutex mutex_;
  std::deque<Series> series_;  // under `mutex_`; of a bounded number, since routes are those that were registered
  observe::Gauge& connections_;
};

}  // namespace tidemill::wire
