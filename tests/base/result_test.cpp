#include "base/result.hpp"

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
  const Error outer = std::move(half(1).error()).wrap("cannot halve 1");
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

}  // namespace
}  // namespace tidemill::base
