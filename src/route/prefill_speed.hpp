// How fast a backend turns prompts into first tokens, learned from how long they took.
#pragma once

#include <cstdint>

namespace tidemill::route {

// Serving a prompt takes `overhead + tokens / rate` seconds of a backend's time, where `tokens` are those that its
// cache does not hold. Both are fitted by least squares to what was seen, older sights counting less; prompts that a
// backend serves at the same time blur each other's share, so a few at a time are summed before they count as one
// sight. Starts from a guess: that of the rate fades like a sight, that of the overhead
// stays as a little of one.
//
// Not thread-safe.
class PrefillSpeed {
 public:
  PrefillSpeed(double tokens_per_second, double overhead_seconds);

  // `seconds` of the backend's time went into `tokens` of one prompt.
  void observe(double tokens, double seconds);

  double tokens_per_second() const { return 1 / seconds_per_token_; }
  double overhead_seconds() const { return overhead_; }
  double seconds(double tokens) const { return overhead_ + tokens * seconds_per_token_; }
  // How many prompts were seen.
  uint64_t observed() const { return observed_; }

 private:
  void add(double weight, double tokens, double seconds);
  void fit();

  double guessed_overhead_;
  double seconds_per_token_;
  double overhead_;
  // Of the sum that is not whole yet.
  int in_sum_ = 0;
  double sum_tokens_ = 0;
  double sum_seconds_ = 0;
  // Fading sums over sights.
  double weight_ = 0;
  double x_ = 0;
  double y_ = 0;
  double xx_ = 0;
  double xy_ = 0;
  uint64_t observed_ = 0;
};

}  // namespace tidemill::route
