#include "engine/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "engine/philox.hpp"
#include "engine/softmax.hpp"
#include "engine/truncation.hpp"

namespace tidemill::engine {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<float> random_logits(std::mt19937& random, size_t size, float spread = 3.0f) {
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> logits(size);
  for (float& x : logits)
    x = normal(random);
  return logits;
}

// The known answers that the paper's authors publish with Random123 (kat_vectors).
TEST(Philox, KnownAnswers) {
  using Counter = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformFillsTheUnitInterval) {
  double sum = 0;
  for (uint64_t i = 0; i < 10000; ++i) {
    const double u = uniform(42, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.02);
  EXPECT_NE(uniform(1, 0), uniform(2, 0));
}

TEST(Softmax, ExponentialsAreWithinTwoUlp) {
  std::vector<float> x;
  for (float v = 0; v > -90; v -= 0.0137f)
    x.push_back(v);
  std::vector<float> weights(x.size());
  exp_sum(x, 0.0f, 1.0f, weights);
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = x[i] < -87.0f ? 0.0 : std::exp(static_cast<double>(x[i]));
    ASSERT_NEAR(static_cast<double>(weights[i]), exact, exact * 2.4e-7) << x[i];
  }
}

TEST(Softmax, SumAndMaximumOfRaggedRows) {
  std::mt19937 random(3);
  for (const size_t size : {1u, 2u, 3u, 4u, 5u, 7u, 8u, 9u, 63u, 1000u}) {
    const auto logits = random_logits(random, size);
    const float max = *std::ranges::max_element(logits);
    EXPECT_EQ(finite_max(logits), max);
    double exact = 0;
    for (const float x : logits)
      exact += std::exp(static_cast<double>(x - max) * 0.5);
    EXPECT_NEAR(exp_sum(logits, max, 0.5f, {}), exact, exact * 1e-6);
  }
}

TEST(Softmax, LargeTermsAreThoseOfTheSum) {
  std::mt19937 random(5);
  for (const size_t size : {1u, 3u, 4u, 5u, 8u, 1001u}) {
    const auto logits = random_logits(random, size);
    const float max = *std::ranges::max_element(logits);
    std::vector<float> all(size);
    std::vector<float> large(size);
    exp_sum(logits, max, 0.8f, all);
    exp_above(logits, max, 0.8f, -3.0f, large);
    for (size_t i = 0; i < size; ++i) {
      if ((logits[i] - max) * 0.8f >= -3.0f || large[i] != 0) {
        EXPECT_EQ(large[i], all[i]) << i << " of " << size;
      }
    }
  }
}

TEST(Softmax, RefusesWhatIsNoDistribution) {
  EXPECT_EQ(finite_max(std::vector<float>{1, kNan, 2, 3, 4}), std::nullopt);
  EXPECT_EQ(finite_max(std::vector<float>{1, 2, 3, 4, kNan}), std::nullopt);
  EXPECT_EQ(finite_max(std::vector<float>{1, kInfinity}), std::nullopt);
  EXPECT_EQ(finite_max(std::vector<float>{-kInfinity, -kInfinity}), std::nullopt);
  EXPECT_EQ(finite_max(std::vector<float>{}), std::nullopt);
  EXPECT_EQ(finite_max(std::vector<float>{-kInfinity, -5.0f}), -5.0f);
}

// The definition in Sampling's comment, on a fully sorted list.
std::vector<int32_t> brute_force_kept(std::span<const float> logits, std::span<const float> weights,
                                      const Sampling& s) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::ranges::stable_sort(
      ids, [&](int32_t a, int32_t b) { return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]; });
  const auto weight = [&](int32_t id) { return weights[static_cast<size_t>(id)]; };
  std::erase_if(ids, [&](int32_t id) { return weight(id) == 0 || weight(id) < s.min_p; });
  if (s.top_k > 0 && ids.size() > static_cast<size_t>(s.top_k)) ids.resize(static_cast<size_t>(s.top_k));
  if (s.top_p < 1.0f) {
    double total = 0;
    for (const int32_t id : ids)
      total += static_cast<double>(weight(id));
    double sum = 0;
    size_t count = 0;
    while (count < ids.size() && (count == 0 || sum < static_cast<double>(s.top_p) * total))
      sum += static_cast<double>(weight(ids[count++]));
    ids.resize(count);
  }
  std::ranges::sort(ids);
  return ids;
}

TEST(Truncation, AgreesWithBruteForce) {
  std::mt19937 random(11);
  int short_ways = 0;
  int refusals = 0;
  for (int round = 0; round < 3000; ++round) {
    auto logits = random_logits(random, 1 + random() % 300, round % 3 == 0 ? 0.1f : 4.0f);
    if (round % 4 == 0) {
      for (float& x : logits)
        x = std::round(x);  // many equal logits
    }
    if (round % 5 == 0) logits[random() % logits.size()] = -kInfinity;
    const auto max = finite_max(logits);
    if (!max) continue;
    std::vector<float> weights(logits.size());
    Sampling s;
    s.temperature = random() % 3 == 0 ? 0.1f : 1.0f;
    const double total = exp_sum(logits, *max, 1.0f / s.temperature, weights);
    if (random() % 2) s.top_k = static_cast<int>(random() % 40);
    if (random() % 2)
      s.top_p = random() % 8 == 0 ? 0.999999f : std::uniform_real_distribution<float>(0.001f, 1.0f)(random);
    if (random() % 3 == 0) s.min_p = std::uniform_real_distribution<float>(0.0f, 1.0f)(random);
    std::vector<int32_t> kept;
    truncate(logits, weights, s, kept);
    ASSERT_EQ(kept, brute_force_kept(logits, weights, s))
        << "round " << round << " k " << s.top_k << " p " << s.top_p << " min " << s.min_p;

    // The short way looks at the likely tokens alone: it gives the same, or says that it cannot.
    const std::vector<int32_t> expected = std::move(kept);
    exp_above(logits, *max, 1.0f / s.temperature, kLikelyExponent, weights);
    const bool knows_total = random() % 2 == 0;
    const bool decided = truncate_likely(logits, weights, knows_total ? total : 0, s, kept);
    ++(decided ? short_ways : refusals);
    if (decided) {
      ASSERT_EQ(kept, expected) << "round " << round << " k " << s.top_k << " p " << s.top_p << " min " << s.min_p;
    }
    if (s.min_p >= kLikelyWeight) {
      ASSERT_TRUE(decided);
    } else if (s.top_k == 0 && !knows_total) {
      ASSERT_FALSE(decided);
    }
  }
  EXPECT_GT(short_ways, 500);
  EXPECT_GT(refusals, 500);
}

TEST(Truncation, LargeVocabularyOfEqualLogits) {
  const std::vector<float> logits(131072, 1.5f);
  const std::vector<float> weights(logits.size(), 1.0f);
  Sampling s;
  s.top_p = 0.25f;
  std::vector<int32_t> kept;
  truncate(logits, weights, s, kept);
  ASSERT_EQ(kept.size(), logits.size() / 4);
  EXPECT_EQ(kept.back(), static_cast<int32_t>(kept.size()) - 1);
  s.top_k = 3;
  s.top_p = 1.0f;
  truncate(logits, weights, s, kept);
  EXPECT_EQ(kept, (std::vector<int32_t>{0, 1, 2}));
}

TEST(Sampler, GreedyTakesTheFirstOfTheMostLikely) {
  Sampler sampler;
  Sampling s;
  s.temperature = 0;
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 2, 3, 3}, s, {}, 0.9), 1);
  s.logit_bias = {{1, -1.0f}};
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 3, 2, 3, 3}, s, {}, 0.9), 3);
}

TEST(Sampler, PenaltiesFollowTheirDefinitions) {
  Sampler sampler;
  TokenHistory history(std::vector<Token>{0});
  history.add_generated(1);
  history.add_generated(1);
  Sampling s;
  s.temperature = 0;
  // Token 0 is in the prompt only: the repetition penalty alone touches it.
  s.repetition_penalty = 2.0f;
  EXPECT_EQ(sampler.sample(std::vector<float>{4, 4, 2.1f}, s, history, 0), 2);
  EXPECT_EQ(sampler.sample(std::vector<float>{4, 4, 1.9f}, s, history, 0), 0);
  EXPECT_EQ(sampler.sample(std::vector<float>{-1, -1, -1.9f}, s, history, 0), 2) << "negative logits are multiplied";
  s.repetition_penalty = 1.0f;
  s.frequency_penalty = 1.0f;  // token 1 loses 2
  EXPECT_EQ(sampler.sample(std::vector<float>{0, 5, 3.1f}, s, history, 0), 2);
  EXPECT_EQ(sampler.sample(std::vector<float>{0, 5, 2.9f}, s, history, 0), 1);
  s.frequency_penalty = 0.0f;
  s.presence_penalty = 1.0f;  // token 1 loses 1, however often it came
  EXPECT_EQ(sampler.sample(std::vector<float>{4.5f, 5, 0}, s, history, 0), 0);
  EXPECT_EQ(sampler.sample(std::vector<float>{3.9f, 5, 0}, s, history, 0), 1);
}

TEST(Sampler, DrawsByProbability) {
  std::mt19937 random(5);
  const auto logits = random_logits(random, 12, 1.0f);
  for (const float top_p : {1.0f, 0.9f}) {
    Sampling s;
    s.temperature = 0.8f;
    s.top_p = top_p;
    std::vector<float> weights(logits.size());
    exp_sum(logits, *finite_max(logits), 1.0f / s.temperature, weights);
    const auto kept = brute_force_kept(logits, weights, s);
    double total = 0;
    for (const int32_t id : kept)
      total += static_cast<double>(weights[static_cast<size_t>(id)]);
    // Draws spread evenly over [0, 1) must give each token its share of them.
    Sampler sampler;
    std::vector<int> counts(logits.size(), 0);
    constexpr int kDraws = 20000;
    for (int i = 0; i < kDraws; ++i)
      ++counts[static_cast<size_t>(*sampler.sample(logits, s, {}, (i + 0.5) / kDraws))];
    for (size_t id = 0; id < logits.size(); ++id) {
      const bool is_kept = std::ranges::binary_search(kept, static_cast<int32_t>(id));
      const double share = is_kept ? static_cast<double>(weights[id]) / total : 0.0;
      EXPECT_NEAR(static_cast<double>(counts[id]) / kDraws, share, 2.0 / kDraws) << "token " << id;
    }
  }
}

TEST(Sampler, TheEdgesOfTheDraw) {
  Sampler sampler;
  const std::vector<float> logits{-kInfinity, 0, 0, -kInfinity};
  const double almost_one = std::nextafter(1.0, 0.0);
  for (const int top_k : {0, 1, 4}) {
    Sampling s;
    s.top_k = top_k;
    EXPECT_EQ(sampler.sample(logits, s, {}, 0.0), 1);
    EXPECT_EQ(sampler.sample(logits, s, {}, almost_one), top_k == 1 ? 1 : 2);
  }
}

TEST(Sampler, NoDistributionIsNoToken) {
  Sampler sampler;
  Sampling s;
  EXPECT_EQ(sampler.sample(std::vector<float>{0, kNan}, s, {}, 0.5), std::nullopt);
  s.temperature = 0;
  EXPECT_EQ(sampler.sample(std::vector<float>{0, kNan}, s, {}, 0.5), std::nullopt);
  EXPECT_FALSE(log_probabilities(std::vector<float>{0, kNan}, 0, 1));
}

TEST(Logprobs, AgreeWithDoublePrecision) {
  std::mt19937 random(9);
  for (int round = 0; round < 50; ++round) {
    auto logits = random_logits(random, 1 + random() % 200);
    if (round % 2) {
      for (float& x : logits)
        x = std::round(x);
    }
    const auto chosen = static_cast<Token>(random() % logits.size());
    const int top = static_cast<int>(random() % 21);
    const auto result = log_probabilities(logits, chosen, top);
    ASSERT_TRUE(result);
    double sum = 0;
    for (const float x : logits)
      sum += std::exp(static_cast<double>(x));
    const auto exact = [&](Token id) { return static_cast<double>(logits[static_cast<size_t>(id)]) - std::log(sum); };
    EXPECT_NEAR(static_cast<double>(result->chosen), exact(chosen), 2e-6);
    std::vector<Token> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(
        order, [&](Token a, Token b) { return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]; });
    ASSERT_EQ(result->top.size(), std::min(static_cast<size_t>(top), logits.size()));
    for (size_t i = 0; i < result->top.size(); ++i) {
      EXPECT_EQ(result->top[i].first, order[i]);
      EXPECT_NEAR(static_cast<double>(result->top[i].second), exact(order[i]), 2e-6);
    }
  }
}

}  // namespace
}  // namespace tidemill::engine
