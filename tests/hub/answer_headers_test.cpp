#include "hub/answer_headers.hpp"

#include <string>

#include <gtest/gtest.h>

namespace tidemill::hub {
namespace {

using namespace std::chrono_literals;

TEST(HubHeaders, NextPage) {
  const auto next = [](const char* value) { return next_page({{"Link", value}}).value_or("none"); };
  EXPECT_EQ(next("<https://h/a?cursor=x,y%3D>; rel=\"next\""), "https://h/a?cursor=x,y%3D");
  EXPECT_EQ(next("</first>; rel=\"first\", </next?a>; title=x; rel=\"next\""), "/next?a");
  EXPECT_EQ(next("</first>; rel=\"first\""), "none");
  EXPECT_EQ(next("nonsense"), "none");
  EXPECT_EQ(next("<unended; rel=\"next\""), "none");
  EXPECT_EQ(next(""), "none");
  EXPECT_EQ(next_page({}), std::nullopt);
}

TEST(HubHeaders, HowLongToWait) {
  EXPECT_EQ(asked_wait({{"Retry-After", "7"}}), base::Duration(7s));
  EXPECT_EQ(asked_wait({{"Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT"}}), std::nullopt);
  EXPECT_EQ(asked_wait({{"Retry-After", "99999999999999999999"}}), std::nullopt);
  EXPECT_EQ(asked_wait({{"Retry-After", "9999999999"}}), std::nullopt);
  EXPECT_EQ(asked_wait({{"RateLimit", "\"api\";r=0;t=55"}}), base::Duration(55s));
  EXPECT_EQ(asked_wait({{"RateLimit", "\"api\";r=0"}}), std::nullopt);
  EXPECT_EQ(asked_wait({}), std::nullopt);
}

TEST(HubHeaders, ContentRange) {
  const auto range = parse_content_range("bytes 5-9/10");
  ASSERT_TRUE(range);
  EXPECT_EQ(range->first, 5);
  EXPECT_EQ(range->last, 9);
  EXPECT_EQ(range->total, 10);
  EXPECT_EQ(parse_content_range("bytes 0-0/*")->total, std::nullopt);
  for (const char* text : {"", "bytes", "bytes */10", "bytes 5-4/10", "bytes 5-10/10", "bytes 5-9/10x", "bytes 5-9",
                           "items 5-9/10", "bytes 5-9/99999999999999999999"})
    EXPECT_FALSE(parse_content_range(text)) << text;
}

TEST(HubHeaders, SizesOfTheWhole) {
  EXPECT_EQ(whole_size(200, {{"Content-Length", "10"}}), 10);
  EXPECT_EQ(whole_size(206, {{"Content-Length", "5"}, {"Content-Range", "bytes 5-9/10"}}), 10);
  EXPECT_EQ(whole_size(416, {{"Content-Length", "0"}, {"Content-Range", "bytes */10"}}), 10);
  EXPECT_EQ(whole_size(206, {{"Content-Length", "5"}, {"Content-Range", "bytes 5-9/*"}}), std::nullopt);
  EXPECT_EQ(whole_size(416, {{"Content-Range", "bytes */10x"}}), std::nullopt);
  EXPECT_EQ(whole_size(416, {{"Content-Length", "10"}}), std::nullopt);
  EXPECT_EQ(whole_size(404, {{"Content-Length", "10"}}), std::nullopt);
  EXPECT_EQ(whole_size(200, {}), std::nullopt);
}

TEST(HubHeaders, StrongTags) {
  EXPECT_EQ(strong_tag({{"ETag", "\"abc\""}}), "\"abc\"");
  EXPECT_EQ(strong_tag({{"ETag", "W/\"abc\""}}), "");
  EXPECT_EQ(strong_tag({}), "");
}

}  // namespace
}  // namespace tidemill::hub
