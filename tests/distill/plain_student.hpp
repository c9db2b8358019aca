// A student without a network: what it has learned is a sum that depends on everything it was given, in order.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "distill/student.hpp"

namespace tidemill::test {

class PlainStudent final : public distill::Student {
 public:
  using Score = distill::Score;
  using NamedArray = distill::NamedArray;

  int64_t diverges_at = -1;  // the step, counted from 0 in this life
  int64_t steps_in_life = 0;
  int64_t judged_windows = 0;

  base::Result<Score> step(const distill::Exercise& exercise, double rate) override {
    Score score;
    score.rows = exercise.windows * exercise.length;
    score.nats = steps_in_life++ == diverges_at ? std::numeric_limits<double>::quiet_NaN() : 1;
    if (std::isnan(score.nats)) return score;
    float sum = learned_[0];
    for (size_t i = 0; i < exercise.tokens.size(); ++i) {
      sum = std::fmod(1.5F * sum + static_cast<float>(exercise.tokens[i]) + 2.0F * static_cast<float>(exercise.next[i]),
                      1009.0F);
    }
    for (size_t i = 0; i < exercise.expected.size(); ++i)
      sum = std::fmod(sum + static_cast<float>(exercise.expected[i]) * exercise.probabilities[i], 1009.0F);
    learned_ = {sum, learned_[1] + static_cast<float>(rate)};
    return score;
  }
  base::Result<Score> judge(const distill::Exercise& exercise) override {
    judged_windows += exercise.windows;
    return Score{.rows = exercise.windows * exercise.length, .nats = 2, .divergence = 0, .right = exercise.windows};
  }
  base::Result<std::vector<NamedArray>> weights() const override {
    return std::vector<NamedArray>{{"learned", {2}, learned_}};
  }
  base::Result<std::vector<NamedArray>> state() const override { return weights(); }
  base::Result<void> restore(std::span<const NamedArray> arrays) override {
    for (const NamedArray& array : arrays) {
      if (array.name != "learned" || array.values.size() != 2) {
        return base::Error(base::ErrorCode::corrupt, "'" + array.name + "' is no array of this student");
      }
      learned_ = array.values;
    }
    return {};
  }

  const std::vector<float>& learned() const { return learned_; }

 private:
  std::vector<float> learned_ = {1, 0};
};

}  // namespace tidemill::test
