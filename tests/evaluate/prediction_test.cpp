#include "evaluate/prediction.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include <gtest/gtest.h>

namespace tidemill::evaluate {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Logits whose softmax is these probabilities, shifted.
std::vector<float> logits_of(const std::vector<double>& probabilities, double shift) {
  std::vector<float> logits;
  logits.reserve(probabilities.size());
  for (const double p : probabilities)
    logits.push_back(p > 0 ? static_cast<float>(std::log(p) + shift) : -kInfinity);
  return logits;
}

TEST(Predict, GivesTheTokensLogProbability) {
  const std::vector<float> logits = logits_of({0.1, 0.6, 0.3, 0}, 5);
  const auto second = predict(logits, 2);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->best, 1);
  EXPECT_FALSE(second->right);
  EXPECT_NEAR(second->surprise, -std::log(0.3), 1e-6);
  EXPECT_TRUE(predict(logits, 1)->right);
  EXPECT_NEAR(predict(logits, 1)->surprise, -std::log(0.6), 1e-6);
  EXPECT_EQ(predict(logits, std::nullopt)->surprise, 0);
  EXPECT_EQ(predict(std::array{2.0F, 7.0F, 7.0F}, 2)->best, 1);  // of equals the first
}

TEST(Predict, LargeLogitsDoNotOverflow) {
  const auto large = predict(std::array{30'000.0F, 29'999.0F}, 0);
  ASSERT_TRUE(large);
  EXPECT_NEAR(large->surprise, std::log1p(std::exp(-1.0)), 1e-9);
}

TEST(Predict, RefusesWhatIsNoDistribution) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(predict({}, std::nullopt));
  EXPECT_FALSE(predict(std::array{nan, 1.0F}, 1));
  EXPECT_FALSE(predict(std::array{1.0F, nan, 0.0F}, 0));
  EXPECT_FALSE(predict(std::array{1.0F, kInfinity}, 0));
  EXPECT_FALSE(predict(std::array{-kInfinity, -kInfinity}, 0));
}

TEST(Compare, IsTheDivergenceOfTheDefinition) {
  const std::vector<double> p = {0.5, 0.25, 0.25, 0};
  const std::vector<double> q = {0.2, 0.5, 0.2, 0.1};
  const std::vector<float> reference = logits_of(p, -3);
  const std::vector<float> logits = logits_of(q, 11);
  const Compared compared =
      compare(logits, *predict(logits, std::nullopt), reference, *predict(reference, std::nullopt));
  double expected = 0;
  for (size_t i = 0; i < 3; ++i)
    expected += p[i] * std::log(p[i] / q[i]);
  EXPECT_NEAR(compared.divergence, expected, 1e-5);
  EXPECT_FALSE(compared.agrees);
  EXPECT_NEAR(compared.margin, std::log(2.0), 1e-5);
  EXPECT_NEAR(compared.shift, std::log(0.5 / 0.2), 1e-5);
  const auto same = predict(reference, std::nullopt);
  const Compared itself = compare(reference, *same, reference, *same);
  EXPECT_EQ(itself.divergence, 0);
  EXPECT_TRUE(itself.agrees);
}

TEST(TextScore, SumsUp) {
  TextScore score;
  for (const double nats : {1.0, 2.0, 3.0, 6.0}) {
    Prediction prediction;
    prediction.surprise = nats;
    prediction.right = nats < 2;
    score.add(prediction);
  }
  score.bytes = 6;
  EXPECT_DOUBLE_EQ(score.nats_per_token(), 3);
  EXPECT_DOUBLE_EQ(score.perplexity(), std::exp(3.0));
  EXPECT_DOUBLE_EQ(score.bits_per_byte(), 12 / std::numbers::ln2 / 6);
  EXPECT_DOUBLE_EQ(score.accuracy(), 0.25);
  EXPECT_NEAR(score.nats_error(), std::sqrt((4 + 1 + 0 + 9) / 3.0 / 4), 1e-12);
  EXPECT_NEAR(score.accuracy_error(), std::sqrt(0.25 * 0.75 / 4), 1e-12);
}

TEST(Comparison, TellsNearTiesApart) {
  Comparison comparison(0.5);
  comparison.add({.divergence = 0.1, .agrees = true, .margin = 2, .shift = 0.1});
  comparison.add({.divergence = 0.2, .agrees = false, .margin = 0.1, .shift = 0.2});
  comparison.add({.divergence = 0.3, .agrees = false, .margin = 1, .shift = 0.3});
  comparison.add({.divergence = 0.4, .agrees = true, .margin = 0.4, .shift = 0.4});
  EXPECT_DOUBLE_EQ(comparison.top1_agreement(), 0.5);
  EXPECT_DOUBLE_EQ(comparison.divergence_mean(), 0.25);
  EXPECT_FLOAT_EQ(static_cast<float>(comparison.divergence_quantile(1)), 0.4F);
  EXPECT_DOUBLE_EQ(comparison.ties_share(), 0.5);
  EXPECT_DOUBLE_EQ(comparison.agreement_without_ties(), 0.5);
  EXPECT_EQ(comparison.disagreements(), 2);
  EXPECT_EQ(comparison.disagreements_at_ties(), 1);
  EXPECT_NEAR(comparison.shift_mean(), 0.25, 1e-12);
}

TEST(Quantile, IsTheRankBelow) {
  std::vector<float> values;
  for (int i = 100; i >= 0; --i)
    values.push_back(static_cast<float>(i));
  EXPECT_EQ(quantile(values, 0.99), 99);
  EXPECT_EQ(quantile(values, 0), 0);
  EXPECT_EQ(quantile(values, 1), 100);
  EXPECT_EQ(quantile({}, 0.5), 0);
}

}  // namespace
}  // namespace tidemill::evaluate
