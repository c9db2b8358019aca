#include "rollout/availability.hpp"

#include <algorithm>
#include <cmath>

namespace tidemill::rollout {
namespace {

constexpr double kStep = 1.0 / 8;
constexpr double kHalfLife = 60;  // seconds

}  // namespace

double Availability::at(base::SteadyTime now) const {
  const double quiet = std::max(0.0, base::seconds(now - noted_));
  return 1 - missing_ * std::exp2(-quiet / kHalfLife);
}

void Availability::note(bool answered, base::SteadyTime now) {
  const double before = 1 - at(now);
  missing_ = before + kStep * ((answered ? 0 : 1) - before);
  noted_ = std::max(noted_, now);
}

}  // namespace tidemill::rollout
