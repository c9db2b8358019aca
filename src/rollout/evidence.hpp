// A running e-process: the evidence against a null hypothesis, valid whenever it is looked at.
#pragma once

#include <cstdint>

#include "rollout/block_evidence.hpp"

namespace tidemill::rollout {

// A bettor's capital, 1 at first, that multiplies with every block's e-value: if the null is true, it ever reaches
// 1 / alpha with a probability of at most alpha (Ville's inequality), however often one looks.
//
// The capital is laid out in equal parts on the tilts (a mixture, as in Robbins's mixture sequential probability ratio
// test), since the size of the difference is not known, and in two halves over time. One half is staked at the first
// block, and says by its logarithms alone what it is, so that several processes on separate data can be multiplied. The
// other is staked bit by bit, 1 / (1 + ln t) of it being left for the blocks from t on: what is staked late has lost
// nothing in the quiet time before, so that a regression that begins after a million good requests is found about as
// soon as one that was there from the start (Shin, Ramdas and Rinaldo, "E-detectors", 2022, but within one budget).
//
// Not thread-safe.
class Evidence {
 public:
  // One more block.
  void add(const TiltLogs& logs);

  // The natural logarithm of the capital. `peers`: what others' `logs()` of the same test add up to, of data of their
  // own.
  double log_capital(const TiltLogs& peers = {}) const;
  // The first half, tilt by tilt: sums of what was added.
  const TiltLogs& logs() const { return logs_; }
  int64_t blocks() const { return blocks_; }

 private:
  TiltLogs logs_{};
  std::array<double, kTilts> staked_{};  // of the second half
  int64_t blocks_ = 0;
};

}  // namespace tidemill::rollout
