#include "base/courtesy.hpp"

#include <algorithm>

namespace tidemill::base {
namespace {

using Seconds = Courtesy::Seconds;

// Work goes on for this long between two rests: well below a time slice, long against a timer's precision.
constexpr Seconds slot{500e-6};
constexpr Seconds longest_run{4e-3};
// Disturbances that cost less than this share of the time are borne, since resting would cost more. So many seconds on
// top of that are too much.
constexpr double borne_share = 0.05;
constexpr Seconds too_much{20e-3};
// Measured with one and two busy processes on two processors: growing twice as fast rests too much (57 instead of 63 %
// of both processors), and a higher bound costs where every processor is shared (32 instead of 39 %).
constexpr double first_share = 0.4;
constexpr double least_share = 0.15;
constexpr double most_share = 0.6;
constexpr double growth = 15;   // of the share, per second waited
constexpr double fading = 0.5;  // of the share, per second

}  // namespace

void Courtesy::waited_for(Seconds late, Time now) {
  fade(now);
  if (active()) {
    share_ = std::min(share_ + growth * late.count(), most_share);
  } else if (waited_ += late; waited_ > too_much) {
    share_ = first_share;
    back_since_ = now;
  }
}

Seconds Courtesy::due(Time now) {
  if (!active()) return Seconds(0);
  const Seconds ran = now - back_since_;
  if (ran < slot) return Seconds(0);
  back_since_ = now;
  fade(now);
  return std::min(ran, longest_run) * (share_ / (1 - share_));
}

void Courtesy::fade(Time now) {
  const Seconds passed = now - faded_;
  faded_ = now;
  if (!active()) {
    waited_ = std::max(Seconds(0), waited_ - borne_share * passed);
  } else if (share_ -= fading * passed.count(); share_ < least_share) {
    share_ = 0;
    waited_ = too_much / 2;  // soon back if the other process is still there
  }
}

}  // namespace tidemill::base
