// Every token counts once, with as much before it as the stride promises: by brute force over small numbers.
#include "evaluate/windows.hpp"

#include <algorithm>

#include <gtest/gtest.h>

namespace tidemill::evaluate {
namespace {

void check(size_t tokens, size_t window, size_t stride, size_t lead) {
  std::vector<int> counted(tokens, 0);
  for (const Window& w : cut(tokens, window, stride, lead)) {
    ASSERT_LE(w.begin, w.end);
    ASSERT_LE(w.end - w.begin + lead, window);
    ASSERT_LT(w.end, tokens);
    // Row r is token begin + r - lead and predicts the next one.
    for (size_t row = 0; row < w.end - w.begin + lead; ++row) {
      const size_t predicted = w.begin + row + 1 - lead;
      if (predicted < w.first_scored) continue;
      ++counted[predicted];
      const size_t before = predicted - w.begin;
      ASSERT_GE(before + lead, std::min(predicted + lead, std::max<size_t>(1, window - stride))) << predicted;
    }
  }
  for (size_t i = 0; i < tokens; ++i)
    ASSERT_EQ(counted[i], i == 0 && lead == 0 ? 0 : 1) << i << " of " << tokens << ", " << window << ", " << stride;
}

TEST(Windows, EveryTokenCountsOnce) {
  for (size_t lead = 0; lead <= 1; ++lead) {
    for (size_t tokens = 0; tokens <= 20; ++tokens) {
      for (size_t window = lead + 1; window <= 8; ++window) {
        for (size_t stride = 1; stride <= window; ++stride)
          check(tokens, window, stride, lead);
      }
    }
  }
}

TEST(Windows, ALongWindowReadsAllAtOnce) {
  const std::vector<Window> with_lead = cut(10, 512, 512, 1);
  ASSERT_EQ(with_lead.size(), 1U);
  EXPECT_EQ(with_lead[0].begin, 0U);
  EXPECT_EQ(with_lead[0].end, 9U);
  EXPECT_EQ(with_lead[0].first_scored, 0U);
  EXPECT_TRUE(cut(1, 512, 512, 0).empty());
  EXPECT_TRUE(cut(0, 512, 512, 1).empty());
  EXPECT_EQ(cut(1, 512, 512, 1).size(), 1U);
  EXPECT_EQ(scored_tokens(10, 0), 9U);
  EXPECT_EQ(scored_tokens(10, 1), 10U);
  EXPECT_EQ(scored_tokens(0, 0), 0U);
}

}  // namespace
}  // namespace tidemill::evaluate
