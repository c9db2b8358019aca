#include "route/prefill_speed.hpp"

#include <algorithm>

namespace tidemill::route {

namespace {

constexpr int kPromptsInSight = 4;
constexpr double kFade = 0.95;         // of a sight's weight with every later one: some 20 sights count
constexpr double kGuessWeight = 0.05;  // sights
constexpr double kGuessTokens = 4096;  // where the guessed rate is taken to have been seen
constexpr double kSlowest = 1.0;       // seconds a token
constexpr double kFastest = 1.0 / 1e7;

}  // namespace

PrefillSpeed::PrefillSpeed(double tokens_per_second, double overhead_seconds)
    : guessed_overhead_(overhead_seconds), seconds_per_token_(1 / tokens_per_second), overhead_(overhead_seconds) {
  add(kGuessWeight, kGuessTokens, overhead_seconds + kGuessTokens / tokens_per_second);
}

void PrefillSpeed::observe(double tokens, double seconds) {
  ++observed_;
  sum_tokens_ += std::max(tokens, 0.0);
  sum_seconds_ += std::max(seconds, 0.0);
  if (++in_sum_ < kPromptsInSight) return;
  for (double* sum : {&weight_, &x_, &y_, &xx_, &xy_})
    *sum *= kFade;
  add(1, sum_tokens_ / kPromptsInSight, sum_seconds_ / kPromptsInSight);
  in_sum_ = 0;
  sum_tokens_ = sum_seconds_ = 0;
  fit();
}

void PrefillSpeed::add(double weight, double tokens, double seconds) {
  weight_ += weight;
  x_ += weight * tokens;
  y_ += weight * seconds;
  xx_ += weight * tokens * tokens;
  xy_ += weight * tokens * seconds;
}

void PrefillSpeed::fit() {
  // The guessed overhead never fades: where all prompts are alike, they cannot tell it from the rate.
  const double weight = weight_ + kGuessWeight;
  const double mean_x = x_ / weight;
  const double mean_y = (y_ + kGuessWeight * guessed_overhead_) / weight;
  const double variance = xx_ / weight - mean_x * mean_x;
  double slope = variance > 0 ? (xy_ / weight - mean_x * mean_y) / variance : 0;
  double overhead = mean_y - slope * mean_x;
  if (slope <= 0 || overhead < 0) {
    overhead = slope <= 0 ? std::min(guessed_overhead_, mean_y / 2) : 0;
    slope = (mean_y - overhead) / std::max(mean_x, 1.0);
  }
  seconds_per_token_ = std::clamp(slope, kFastest, kSlowest);
  overhead_ = overhead;
}

}  // namespace tidemill::route
