#include "rollout/evidence.hpp"

#include <algorithm>
#include <cmath>

namespace tidemill::rollout {
namespace {

constexpr double kMostCapital = 1e200;  // more would say no more, and could overflow

// The share of the second half that is not staked before block t (1, 2, ...).
double unstaked(int64_t t) {
  return 1 / (1 + std::log(static_cast<double>(t)));
}

}  // namespace

void Evidence::add(const TiltLogs& logs) {
  ++blocks_;
  const double stake = (unstaked(blocks_) - unstaked(blocks_ + 1)) / static_cast<double>(kTilts);
  for (size_t t = 0; t < kTilts; ++t) {
    logs_[t] += logs[t];
    staked_[t] = std::min(kMostCapital, (staked_[t] + stake) * std::exp(logs[t]));
  }
}

double Evidence::log_capital(const TiltLogs& peers) const {
  double first = 0;
  double second = unstaked(blocks_ + 1);
  for (size_t t = 0; t < kTilts; ++t) {
    first += std::exp(std::min(460.0, logs_[t] + peers[t])) / static_cast<double>(kTilts);  // e^460 = 1e200
    second += staked_[t];
  }
  return std::log((first + second) / 2);
}

}  // namespace tidemill::rollout
