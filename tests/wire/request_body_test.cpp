// What a request's body may hold, whatever it asks for.
#include <string>

#include <gtest/gtest.h>

#include "wire/conversation_body.hpp"
#include "wire/json_fields.hpp"
#include "wire/responses_request.hpp"

namespace tidemill::wire {
namespace {

using base::ErrorCode;

// An object and arrays inside of each other.
std::string nested(int depth) {
  const auto arrays = static_cast<size_t>(depth - 1);
  return R"({"a":)" + std::string(arrays, '[') + std::string(arrays, ']') + "}";
}

TEST(RequestBody, IsNoDeeperThanItMayBe) {
  EXPECT_TRUE(parse_body(nested(max_body_depth)));
  const auto deeper = parse_body(nested(max_body_depth + 1));
  ASSERT_FALSE(deeper);
  EXPECT_EQ(deeper.error().code(), ErrorCode::unsupported);
}

// It would come back as another number, or as none that JSON knows.
TEST(RequestBody, HasNoNumberPastDoubles) {
  const auto in_schema = parse_responses_request(
      R"({"input":"x","tools":[{"type":"function","name":"f","parameters":{"type":"object",
          "maximum": 1e400}}]})");
  ASSERT_FALSE(in_schema);
  EXPECT_EQ(in_schema.error().code(), ErrorCode::invalid_argument);
  EXPECT_NE(in_schema.error().message().find("line 2, column 22"), std::string::npos) << in_schema.error().message();
  for (const char* number : {"1e400", "-1e400", "1e9999999999"}) {
    const std::string body = R"({"items":[{"role":"user","content":"x","n":)" + std::string(number) + "}]}";
    const auto item = parse_conversation_body(body, "items", ItemKinds::any);
    ASSERT_FALSE(item) << number;
    EXPECT_EQ(item.error().code(), ErrorCode::invalid_argument) << number;
    EXPECT_NE(item.error().message().find("line 1, column 44"), std::string::npos) << item.error().message();
  }
  EXPECT_TRUE(parse_body(R"({"a":1.7976931348623157e308,"b":1e-400,"c":18446744073709551616})"));
}

}  // namespace
}  // namespace tidemill::wire
