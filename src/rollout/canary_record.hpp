// What one gateway has seen of a rollout: what several gateways share, so that each decides by what all have seen.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "rollout/checks.hpp"
#include "rollout/evidence.hpp"

namespace tidemill::rollout {

// In the order in which one wins over another (CanaryRecord::merge).
enum class Phase : uint8_t { running, promoted, rolled_back };
// "running", "promoted", "rolled_back"
std::string_view to_string(Phase phase);

struct CanaryRecord {
  // Evidence::logs(), by check: they add up over gateways, since each has requests of its own.
  struct Sums {
    std::array<TiltLogs, kChecks.size()> harm{};
    std::array<TiltLogs, kChecks.size()> clearance{};  // in this step
    void add(const Sums& other, bool with_clearance);
  };

  std::string rollout = {};  // its name
  Phase phase = Phase::running;
  size_t step = 0;
  int64_t step_requests = 0;  // the canary's, in this step
  std::vector<Sums> strata = {};

  // Becomes the record of both, of one rollout: all that both have seen, and the further of what they have decided, of
  // which going back is the furthest. One without a name is nobody's yet.
  void merge(const CanaryRecord& other);

  base::json::value to_json() const;
  // Errors: invalid_argument.
  static base::Result<CanaryRecord> from_json(const base::json::value& value);
};

}  // namespace tidemill::rollout
