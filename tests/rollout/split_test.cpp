#include "rollout/split.hpp"

#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::rollout {
namespace {

Split split_of(SplitOptions options) {
  auto split = Split::create(std::move(options));
  EXPECT_TRUE(split) << (split ? "" : split.error().to_string());
  return std::move(split).value();
}

std::vector<size_t> choices(const Split& split, int keys) {
  std::vector<size_t> all;
  for (int i = 0; i < keys; ++i)
    all.push_back(split.choose("session-" + std::to_string(i)));
  return all;
}

TEST(Split, SharesFollowWeights) {
  constexpr int kKeys = 40'000;
  const Split split = split_of({.salt = "r", .versions = {{"a", 6}, {"b", 3}, {"c", 1}, {"d", 0}}});
  std::vector<double> counts(4);
  for (const size_t choice : choices(split, kKeys))
    ++counts[choice];
  const std::vector<double> shares = {0.6, 0.3, 0.1, 0};
  for (size_t i = 0; i < 4; ++i) {
    const double deviation = std::sqrt(kKeys * shares[i] * (1 - shares[i]));
    EXPECT_NEAR(counts[i], kKeys * shares[i], 4 * deviation) << i;
  }
}

TEST(Split, RaisingAWeightMovesKeysToThatVersionAlone) {
  constexpr int kKeys = 20'000;
  const auto before = choices(split_of({.salt = "r", .versions = {{"a", 5}, {"b", 4}, {"c", 1}}}), kKeys);
  const auto after = choices(split_of({.salt = "r", .versions = {{"a", 5}, {"b", 4}, {"c", 3}}}), kKeys);
  int moved = 0;
  for (size_t i = 0; i < kKeys; ++i) {
    if (before[i] == after[i]) continue;
    EXPECT_EQ(after[i], 2U);
    ++moved;
  }
  // c's share grows from 1/10 to 3/12: no more than that difference moves.
  EXPECT_NEAR(moved, kKeys * 0.15, 4 * std::sqrt(kKeys * 0.15));
}

TEST(Split, RemovingAVersionMovesItsKeysAlone) {
  const auto before = choices(split_of({.salt = "r", .versions = {{"a", 1}, {"b", 1}, {"c", 1}}}), 5'000);
  const auto after = choices(split_of({.salt = "r", .versions = {{"a", 1}, {"b", 1}, {"c", 0}}}), 5'000);
  for (size_t i = 0; i < before.size(); ++i) {
    if (before[i] != 2) {
      EXPECT_EQ(before[i], after[i]);
    }
  }
}

TEST(Split, SaltsSplitTheSameKeysIndependently) {
  const auto one = choices(split_of({.salt = "one", .versions = {{"a", 1}, {"b", 1}}}), 10'000);
  const auto two = choices(split_of({.salt = "two", .versions = {{"a", 1}, {"b", 1}}}), 10'000);
  int both = 0;
  for (size_t i = 0; i < one.size(); ++i)
    both += one[i] == 1 && two[i] == 1 ? 1 : 0;
  EXPECT_NEAR(both, 2'500, 4 * std::sqrt(10'000 * 0.25 * 0.75));
}

TEST(Split, HeadersDecideFirst) {
  const Split split = split_of({.salt = "r",
                                .versions = {{"stable", 1}, {"beta", 0}, {"debug", 0}},
                                .headers = {{"x-version", "beta", "beta"}, {"x-debug", std::nullopt, "debug"}}});
  const auto with = [&](std::string_view name, std::string_view value) {
    return split
        .versions()[split.choose("k",
                                 [=](std::string_view asked) -> std::optional<std::string_view> {
                                   if (asked == name) return value;
                                   return std::nullopt;
                                 })]
        .name;
  };
  EXPECT_EQ(with("x-version", "beta"), "beta");
  EXPECT_EQ(with("x-version", "gamma"), "stable");
  EXPECT_EQ(with("x-debug", ""), "debug");
  EXPECT_EQ(with("x-other", "beta"), "stable");
}

TEST(Split, SaysWhatIsWrong) {
  const auto message = [](SplitOptions options) {
    auto split = Split::create(std::move(options));
    return split ? std::string("accepted") : split.error().message();
  };
  EXPECT_NE(message({}).find("1 to 64 versions, not 0"), std::string::npos);
  EXPECT_NE(message({.versions = {{"a", -1}}}).find("'a' has weight -1"), std::string::npos);
  EXPECT_NE(message({.versions = {{"a", std::nan("")}}}).find("'a' has weight nan"), std::string::npos);
  // The whole of it: another file's words once stood before it.
  EXPECT_EQ(message({.versions = {{"a", 0}}}), "every version of a split has weight 0: one must be above");
  EXPECT_NE(message({.versions = {{"a", 1}, {"a", 1}}}).find("'a' twice"), std::string::npos);
  EXPECT_NE(message({.versions = {{"", 1}}}).find("no name"), std::string::npos);
  EXPECT_NE(
      message({.versions = {{"a", 1}}, .headers = {{"x", std::nullopt, "b"}}}).find("'b', which the split has not"),
      std::string::npos);
  EXPECT_NE(message({.versions = {{"a", 1}}, .headers = {{"", std::nullopt, "a"}}}).find("no header"),
            std::string::npos);
}

}  // namespace
}  // namespace tidemill::rollout
