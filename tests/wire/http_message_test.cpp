#include "wire/http_message.hpp"

#include <gtest/gtest.h>

namespace tidemill::wire {
namespace {

TEST(Headers, NamesCompareWithoutCase) {
  Headers headers{{"Content-Type", "a"}, {"X-Two", "1"}, {"x-two", "2"}};
  EXPECT_EQ(headers.find("content-TYPE"), "a");
  EXPECT_EQ(headers.find("X-TWO"), "1");
  EXPECT_EQ(headers.find("content"), std::nullopt);
  headers.set("x-TWO", "3");
  EXPECT_EQ(headers.size(), 2U);
  EXPECT_EQ(headers.find("x-two"), "3");
  headers.remove("X-two");
  EXPECT_FALSE(headers.has("x-two"));
}

TEST(Headers, FramingIsTheWritersOwn) {
  for (const char* name : {"Connection", "content-LENGTH", "Transfer-Encoding"})
    EXPECT_TRUE(is_framing(name)) << name;
  for (const char* name : {"", "Date", "Content-Type", "Connections", "Transfer_Encoding"})
    EXPECT_FALSE(is_framing(name)) << name;
}

TEST(Headers, TokensOfLists) {
  const Headers headers{{"Connection", "keep-alive , Upgrade"}, {"connection", "CLOSE"}};
  EXPECT_TRUE(headers.has_token("connection", "close"));
  EXPECT_TRUE(headers.has_token("connection", "upgrade"));
  EXPECT_TRUE(headers.has_token("connection", "Keep-Alive"));
  EXPECT_FALSE(headers.has_token("connection", "keep"));
}

TEST(PercentDecode, EscapesAndTheirLimits) {
  EXPECT_EQ(percent_decode("a%20b%2fc+"), "a b/c+");
  EXPECT_EQ(percent_decode("a+b", true), "a b");
  EXPECT_EQ(percent_decode(""), "");
  EXPECT_EQ(percent_decode("%"), std::nullopt);
  EXPECT_EQ(percent_decode("a%2"), std::nullopt);
  EXPECT_EQ(percent_decode("%zz"), std::nullopt);
  EXPECT_EQ(percent_decode("%00"), std::nullopt);
}

TEST(HttpRequest, BearerToken) {
  HttpRequest request;
  EXPECT_EQ(request.bearer_token(), "");
  request.headers.set("Authorization", "bearer  sk-1 ");
  EXPECT_EQ(request.bearer_token(), "sk-1");
  request.headers.set("Authorization", "Basic abc");
  EXPECT_EQ(request.bearer_token(), "");
}

}  // namespace
}  // namespace tidemill::wire
