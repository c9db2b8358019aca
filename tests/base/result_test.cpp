#include "base/result.hpp"

#include <array>
#include <memory>

#include <gtest/gtest.h>

namespace tidemill::base {
namespace {

Result<int> half(int x) {
  if (x % 2 != 0) return Error(ErrorCode::invalid_argument, "odd").with_param("x");
  return x / 2;
}

Result<int> quarter(int x) {
  TM_TRY(const int h, half(x));
  TM_TRY(const int q, half(h));
  return q;
}

TEST(Result, PassesValuesAndErrorsUp) {
  ASSERT_TRUE(quarter(12));
  EXPECT_EQ(*quarter(12), 3);
  const auto failed = quarter(6);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), ErrorCode::invalid_argument);
  EXPECT_EQ(failed.error().param(), "x");
}

TEST(Result, WrapKeepsCodeParamAndCause) {
  const Error outer = half(1).error().wrap("cannot halve 1");
  EXPECT_EQ(outer.code(), ErrorCode::invalid_argument);
  EXPECT_EQ(outer.param(), "x");
  EXPECT_EQ(outer.to_string(), "cannot halve 1: odd");
}

TEST(Result, VoidHoldsAnErrorOrNothing) {
  const Result<void> fine;
  EXPECT_TRUE(fine);
  const Result<void> bad = Error(ErrorCode::io, "disk");
  EXPECT_FALSE(bad);
  EXPECT_EQ(bad.error().message(), "disk");
}

// Numbers to loop over, which tell through a weak pointer whether they are still there.
struct Watched {
  std::shared_ptr<const std::array<int, 3>> numbers = std::make_shared<const std::array<int, 3>>(std::array{1, 2, 3});
  const int* begin() const { return numbers->data(); }
  const int* end() const { return begin() + numbers->size(); }
};

Result<Watched> watched(std::weak_ptr<const std::array<int, 3>>& watch) {
  Watched made;
  watch = made.numbers;
  return made;
}

TEST(Result, WhatATemporaryGivesOutlivesIt) {
  std::weak_ptr<const std::array<int, 3>> watch;
  int turns = 0;
  for (const int& x : watched(watch).value()) {
    ASSERT_FALSE(watch.expired());
    EXPECT_EQ(x, ++turns);
  }
  EXPECT_EQ(turns, 3);
  EXPECT_TRUE(watch.expired());
  const Watched& kept = *watched(watch);
  ASSERT_FALSE(watch.expired());
  EXPECT_EQ(*kept.begin(), 1);
  const Error& odd = half(1).error();
  EXPECT_EQ(odd.message(), "odd");
}

TEST(Result, ValuesThatOnlyMoveAreTakenOut) {
  Result<std::unique_ptr<int>> held = std::make_unique<int>(7);
  const std::unique_ptr<int> taken = std::move(held).value();
  EXPECT_EQ(*taken, 7);
}

}  // namespace
}  // namespace tidemill::base
