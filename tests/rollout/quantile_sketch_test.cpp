#include "rollout/quantile_sketch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::rollout {
namespace {

TEST(QuantileSketch, IsWithinOnePercentOfSortedValues) {
  std::mt19937_64 random(5);
  std::lognormal_distribution<double> values(-2, 2.5);
  QuantileSketch sketch;
  std::vector<double> all;
  for (int i = 0; i < 20'000; ++i) {
    all.push_back(values(random));
    sketch.add(all.back());
  }
  std::ranges::sort(all);
  for (const double q : {0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const double exact = all[static_cast<size_t>(q * static_cast<double>(all.size() - 1))];
    EXPECT_NEAR(sketch.quantile(q), exact, 0.0101 * exact) << q;
  }
}

TEST(QuantileSketch, MergedIsWhatOneWouldBe) {
  QuantileSketch one;
  QuantileSketch two;
  QuantileSketch both;
  for (int i = 1; i <= 1000; ++i) {
    (i % 3 == 0 ? one : two).add(i * 0.01);
    both.add(i * 0.01);
  }
  two.merge(QuantileSketch());
  one.merge(two);
  EXPECT_EQ(one.count(), both.count());
  for (const double q : {0.0, 0.1, 0.5, 0.9, 1.0})
    EXPECT_EQ(one.quantile(q), both.quantile(q));
  QuantileSketch empty;
  empty.merge(both);
  EXPECT_EQ(empty.quantile(0.5), both.quantile(0.5));
}

TEST(QuantileSketch, EdgesAreBounded) {
  QuantileSketch sketch;
  EXPECT_EQ(sketch.quantile(0.5), 0);
  sketch.add(std::nan(""));
  EXPECT_EQ(sketch.count(), 0);
  sketch.add(-5);
  sketch.add(0);
  sketch.add(std::numeric_limits<double>::infinity());
  sketch.add(1e300);
  EXPECT_EQ(sketch.count(), 4);
  EXPECT_EQ(sketch.quantile(0), 1e-6);
  EXPECT_EQ(sketch.quantile(1), 1e6);
  EXPECT_LT(base::json::serialize(sketch.to_json()).size(), 8'000U);
}

TEST(QuantileSketch, TravelsAsJson) {
  QuantileSketch sketch;
  for (int i = 0; i < 100; ++i)
    sketch.add(0.02 + i);
  const auto back = QuantileSketch::from_json(base::parse_json(base::json::serialize(sketch.to_json())).value());
  ASSERT_TRUE(back);
  EXPECT_EQ(back->count(), 100);
  EXPECT_NEAR(back->sum(), sketch.sum(), 1e-9);
  EXPECT_EQ(back->quantile(0.9), sketch.quantile(0.9));
  const auto empty = QuantileSketch::from_json(QuantileSketch().to_json());
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->count(), 0);
}

TEST(QuantileSketch, RefusesWhatIsNoSketch) {
  for (const char* text :
       {"3", "{}", R"({"first":0,"counts":[1]})", R"({"first":0,"sum":0,"least":2,"most":1,"counts":[1]})",
        R"({"first":0,"sum":0,"least":0,"most":0,"counts":7})",
        R"({"first":0,"sum":0,"least":0,"most":0,"counts":[-1]})",
        R"({"first":0.5,"sum":0,"least":0,"most":0,"counts":[1]})",
        R"({"first":-9223372036854775807,"sum":0,"least":0,"most":0,"counts":[1]})",
        R"({"first":9223372036854775807,"sum":0,"least":0,"most":0,"counts":[1]})",
        R"({"first":0,"sum":0,"least":0,"most":0,"counts":[9223372036854775807]})"}) {
    const auto sketch = QuantileSketch::from_json(base::parse_json(text).value());
    ASSERT_FALSE(sketch) << text;
    EXPECT_EQ(sketch.error().code(), base::ErrorCode::invalid_argument);
  }
}

}  // namespace
}  // namespace tidemill::rollout
