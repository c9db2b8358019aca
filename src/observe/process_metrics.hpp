// What Prometheus expects every process to say of itself, and which build it is.
#pragma once

#include "observe/metrics.hpp"

namespace tidemill::observe {

// Registers process_resident_memory_bytes, process_cpu_seconds_total, process_start_time_seconds, process_open_fds and
// tidemill_build_info, read anew for every scrape.
class ProcessMetrics {
 public:
  explicit ProcessMetrics(Metrics& metrics);

 private:
  CollectHook hook_;
};

}  // namespace tidemill::observe
