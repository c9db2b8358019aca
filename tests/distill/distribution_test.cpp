// Rows of logits, against sums in double precision and a full sort.
#include "distill/distribution.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "distill/random.hpp"

namespace tidemill::distill {
namespace {

std::vector<float> random_logits(size_t count, uint64_t seed, double spread) {
  std::vector<float> logits(count);
  for (size_t i = 0; i < count; ++i)
    logits[i] = static_cast<float>(spread * (drawn_share(seed, i, 0) - 0.5));
  return logits;
}

TEST(Distribution, IsTheSoftmax) {
  for (const double spread : {0.0, 5.0, 60.0}) {
    const std::vector<float> logits = random_logits(1000, 1, spread);
    std::vector<float> found(logits.size());
    ASSERT_TRUE(to_probabilities(logits, found));
    double sum = 0;
    for (const float logit : logits)
      sum += std::exp(static_cast<double>(logit));
    for (size_t i = 0; i < logits.size(); ++i)
      EXPECT_NEAR(found[i], std::exp(static_cast<double>(logits[i])) / sum, 1e-6);
  }
}

TEST(Distribution, RefusesWhatIsNone) {
  std::vector<float> out(3);
  EXPECT_FALSE(to_probabilities(std::vector<float>{0, std::numeric_limits<float>::quiet_NaN(), 1}, out));
  EXPECT_FALSE(to_probabilities(std::vector<float>{0, HUGE_VALF, 1}, out));
  EXPECT_FALSE(to_probabilities(std::vector<float>(3, -HUGE_VALF), out));
  EXPECT_FALSE(to_probabilities({}, {}));
  // Tokens that are ruled out are fine.
  ASSERT_TRUE(to_probabilities(std::vector<float>{0, -HUGE_VALF, 0}, out));
  EXPECT_EQ(out, (std::vector<float>{0.5F, 0, 0.5F}));
}

TEST(Distribution, MostLikelyAreThoseOfAFullSort) {
  for (const double spread : {0.0, 4.0, 40.0}) {
    const std::vector<float> logits = random_logits(777, 2, spread);
    std::vector<float> probabilities(logits.size());
    ASSERT_TRUE(to_probabilities(logits, probabilities));
    std::vector<int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](int32_t a, int32_t b) {
      return probabilities[static_cast<size_t>(a)] > probabilities[static_cast<size_t>(b)];
    });
    for (const size_t kept : {size_t{1}, size_t{32}, size_t{777}}) {
      std::vector<int32_t> tokens(kept);
      std::vector<float> shares(kept);
      most_likely(probabilities, tokens, shares);
      for (size_t i = 0; i < kept; ++i) {
        EXPECT_EQ(tokens[i], order[i]);
        EXPECT_EQ(shares[i], probabilities[static_cast<size_t>(order[i])]);
      }
    }
  }
}

TEST(Distribution, DrawsEachTokenByItsShare) {
  const std::vector<float> probabilities = {0.5F, 0, 0.25F, 0.25F, 0};
  EXPECT_EQ(drawn_token(probabilities, 0), 0);
  EXPECT_EQ(drawn_token(probabilities, 0.4999), 0);
  EXPECT_EQ(drawn_token(probabilities, 0.5), 2);
  EXPECT_EQ(drawn_token(probabilities, 0.75), 3);
  EXPECT_EQ(drawn_token(probabilities, 0.999999), 3);
  // Where rounding has left the sum short of one, the last that is possible.
  EXPECT_EQ(drawn_token(std::vector<float>{0.3F, 0.3F, 0}, 0.99), 1);
}

TEST(Drawn, IsUniformAndItsOwn) {
  double sum = 0;
  for (uint64_t i = 0; i < 10'000; ++i) {
    const double share = drawn_share(1, i, 2);
    EXPECT_GE(share, 0);
    EXPECT_LT(share, 1);
    sum += share;
  }
  EXPECT_NEAR(sum / 10'000, 0.5, 0.01);
  EXPECT_EQ(drawn(1, 2, 3), drawn(1, 2, 3));
  EXPECT_NE(drawn(1, 2, 3), drawn(1, 3, 2));
  EXPECT_NE(drawn(1, 2, 3), drawn(2, 2, 3));
}

}  // namespace
}  // namespace tidemill::distill
