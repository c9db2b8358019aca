#include "gateway/resumption.hpp"

#include <gtest/gtest.h>

#include "base/json.hpp"

namespace tidemill::gateway {
namespace {

TEST(Resumption, GathersWhatTheMarksSay) {
  Resumption progress;
  EXPECT_FALSE(progress.opened());
  ASSERT_TRUE(progress.take(R"({"open":{"id":"chatcmpl-1","created":5}})"));
  EXPECT_TRUE(progress.opened());
  EXPECT_EQ(progress.value(), R"({"open":{"id":"chatcmpl-1","created":5},"tokens":[]})");
  ASSERT_TRUE(progress.take(R"({"choice":0,"tokens":[1,2],"state":{"s":1}})"));
  ASSERT_TRUE(progress.take(R"({"choice":2,"tokens":[7]})"));
  ASSERT_TRUE(progress.take(R"({"choice":0,"tokens":[],"state":{"s":2}})"));
  ASSERT_TRUE(progress.take(R"({"choice":0,"tokens":[ 3 ]})"));
  EXPECT_EQ(*base::parse_json(progress.value()),
            *base::parse_json(R"({"open":{"id":"chatcmpl-1","created":5},"state":{"s":2},"tokens":[[1,2,3],[],[7]]})"));
  EXPECT_EQ(progress.tokens(), 4);
  EXPECT_FALSE(progress.ended());
  ASSERT_TRUE(progress.take(R"({"end":true})"));
  EXPECT_TRUE(progress.ended());
}

TEST(Resumption, ASecondServerMayOpenAnew) {
  Resumption progress;
  ASSERT_TRUE(progress.take(R"({"open":{"by":1}})"));
  ASSERT_TRUE(progress.take(R"({"choice":0,"tokens":[1]})"));
  ASSERT_TRUE(progress.take(R"({"open":{"by":2}})"));
  EXPECT_EQ(progress.value(), R"({"open":{"by":2},"tokens":[[1]]})");
}

TEST(Resumption, RefusesWhatIsNoMark) {
  for (const char* mark : {"", "[]", "{", R"({"choice":-1,"tokens":[1]})", R"({"choice":"x","tokens":[1]})",
                           R"({"choice":99999999,"tokens":[1]})", R"({"choice":0,"tokens":5})",
                           R"({"choice":0,"tokens":[1],"x":)", R"({"choice":0,"tokens":["a"]})"}) {
    Resumption progress;
    const auto taken = progress.take(mark);
    ASSERT_FALSE(taken) << mark;
    EXPECT_EQ(taken.error().code(), base::ErrorCode::corrupt);
  }
}

}  // namespace
}  // namespace tidemill::gateway
