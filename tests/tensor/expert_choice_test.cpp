// Choosing experts by sigmoids, with a bias and in groups, against brute force.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/cpu_device.hpp"
#include "tensor/samples.hpp"

namespace tidemill::tensor {
namespace {

using test::matrix;
using test::Samples;
using Score = ExpertRule::Score;

struct Choice {
  std::vector<int32_t> experts;
  std::vector<double> weights;
};

// Of every way to leave groups out, the one whose worst group that stays is not worse than its best that goes; then the
// best experts of what stays.
Choice brute_force(const float* logits, int64_t n, const ExpertRule& rule) {
  std::vector<double> scores;
  double sum = 0;
  for (int64_t e = 0; e < n; ++e) {
    const auto logit = static_cast<double>(logits[e]);
    scores.push_back(rule.score == Score::sigmoid ? 1 / (1 + std::exp(-logit)) : std::exp(logit));
    sum += scores.back();
  }
  if (rule.score == Score::softmax) {
    for (double& score : scores)
      score /= sum;
  }
  std::vector<double> wish = scores;
  for (size_t e = 0; e < rule.score_correction_bias.size(); ++e)
    wish[e] += static_cast<double>(rule.score_correction_bias[e]);
  const int64_t size = n / rule.groups;
  const auto group_score = [&](int64_t g) {
    std::vector<double> group(wish.begin() + g * size, wish.begin() + (g + 1) * size);
    std::sort(group.rbegin(), group.rend());
    double best = 0;
    for (int64_t i = 0; i < std::min(rule.group_best, size); ++i)
      best += group[static_cast<size_t>(i)];
    return best;
  };
  std::vector<int32_t> order;
  for (int64_t e = 0; e < n; ++e) {
    int64_t better = 0;
    for (int64_t g = 0; g < rule.groups; ++g)
      better += group_score(g) > group_score(e / size) ? 1 : 0;
    if (better < rule.used_groups) order.push_back(static_cast<int32_t>(e));
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return wish[static_cast<size_t>(a)] > wish[static_cast<size_t>(b)]; });
  Choice choice;
  double chosen = 0;
  for (int64_t i = 0; i < rule.used; ++i) {
    choice.experts.push_back(order[static_cast<size_t>(i)]);
    chosen += scores[static_cast<size_t>(choice.experts.back())];
  }
  for (const int32_t e : choice.experts)
    choice.weights.push_back(scores[static_cast<size_t>(e)] / (rule.normalised ? chosen : 1) *
                             static_cast<double>(rule.scale));
  return choice;
}

TEST(ChooseExperts, ByScoresWithABiasInGroups) {
  Samples samples(51);
  constexpr int64_t kRows = 40;
  constexpr int64_t kExperts = 32;
  const std::vector<float> bias = samples.normal(kExperts, 0.2F);
  for (const Score score : {Score::softmax, Score::sigmoid}) {
    for (const bool biased : {false, true}) {
      for (const bool normalised : {false, true}) {
        for (const auto& [groups, used_groups] :
             {std::pair(1, 1), std::pair(8, 3), std::pair(4, 4), std::pair(32, 6)}) {
          for (const int64_t group_best : {1, 2}) {
            const ExpertRule rule = {
                .used = 6,
                .normalised = normalised,
                .scale = 2.5F,
                .score = score,
                .score_correction_bias = biased ? std::span<const float>(bias) : std::span<const float>(),
                .groups = groups,
                .used_groups = used_groups,
                .group_best = group_best};
            const std::vector<float> logits = samples.normal(kRows * kExperts, 2.0F);
            std::vector<int32_t> chosen(kRows * 6);
            std::vector<float> weights(chosen.size());
            make_cpu_device(Isa::scalar, 1)->choose_experts(matrix(logits, kRows, kExperts), rule, chosen, weights);
            for (int64_t r = 0; r < kRows; ++r) {
              const Choice wanted = brute_force(logits.data() + r * kExperts, kExperts, rule);
              for (int64_t i = 0; i < 6; ++i) {
                ASSERT_EQ(chosen[static_cast<size_t>(r * 6 + i)], wanted.experts[static_cast<size_t>(i)])
                    << groups << " groups, row " << r << ", choice " << i;
                ASSERT_NEAR(weights[static_cast<size_t>(r * 6 + i)], wanted.weights[static_cast<size_t>(i)], 2e-6);
              }
            }
            for (const Isa isa : available_isas()) {
              std::vector<int32_t> same(chosen.size());
              std::vector<float> out(weights.size());
              make_cpu_device(isa, 3)->choose_experts(matrix(logits, kRows, kExperts), rule, same, out);
              EXPECT_EQ(same, chosen);
              EXPECT_EQ(out, weights);
            }
          }
        }
      }
    }
  }
}

// Where the sigmoids of all that are chosen are zero, their weights are numbers.
TEST(ChooseExperts, SharesOfNothingAreNothing) {
  const std::vector<float> logits(4, -200.0F);
  std::vector<int32_t> chosen(2);
  std::vector<float> weights(2);
  const ExpertRule rule = {.used = 2, .normalised = true, .score = Score::sigmoid};
  make_cpu_device(Isa::scalar, 1)->choose_experts(matrix(logits, 1, 4), rule, chosen, weights);
  EXPECT_EQ(chosen, (std::vector<int32_t>{0, 1}));
  for (const float weight : weights)
    EXPECT_NEAR(weight, 0, 1e-6);
}

}  // namespace
}  // namespace tidemill::tensor
