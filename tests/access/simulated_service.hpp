// Tenants, an Admission and the backends behind it, in simulated time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "access/admission.hpp"

namespace tidemill::access::test {

// Requests of one tenant: a Poisson stream, lengths from exponential distributions of those means.
struct SimulatedTenant {
  std::string name;
  double per_second = 1;
  double prompt_tokens = 800;
  double output_tokens = 100;
  double weight = 1;
  Priority priority = Priority::normal;
  std::string account{};  // under which it is queued; its name if empty
};

// A simple model of backends: as long as no more requests run than there are slots, each has the same speed.
struct SimulatedBackends {
  double prefill_per_second = 4000;  // tokens of one request
  double decode_per_second = 50;     // tokens of one request
};

struct TenantOutcome {
  std::vector<double> ttft;  // seconds, of what was served, in order of arrival's end
  uint64_t offered = 0;
  uint64_t refused_at_once = 0;
  uint64_t refused_later = 0;
  uint64_t without_retry = 0;  // refusals that told no time
  double tokens = 0;           // of requests that finished within the time

  double percentile(double share) const;
};

class SimulatedService {
 public:
  SimulatedService(AdmissionOptions options, SimulatedBackends backends, std::vector<SimulatedTenant> tenants,
                   uint64_t seed = 1);
  // Runs for that long from an empty start; what has not ended then counts as nothing.
  std::map<std::string, TenantOutcome> run(base::Duration length);

 private:
  using Time = base::SteadyTime;
  struct Event {
    Time at;
    uint64_t order;  // of equals, the earlier made first
    std::function<void()> happen;
    bool operator>(const Event& other) const { return std::pair(at, order) > std::pair(other.at, other.order); }
  };
  struct Source {
    SimulatedTenant tenant;
    std::mt19937_64 random;
  };

  void at(Time time, std::function<void()> happen) { events_.push({time, ++made_, std::move(happen)}); }
  void arrive(Source& source);
  void serve(const std::string& tenant, uint64_t id, Time arrived, double prompt, double output);

  SimulatedBackends backends_;
  std::vector<std::unique_ptr<Source>> sources_;
  Admission admission_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  uint64_t made_ = 0;
  Time now_{};
  std::map<std::string, TenantOutcome> outcomes_;
};

}  // namespace tidemill::access::test
