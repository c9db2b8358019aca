#include "route/backend_set.hpp"

#include <gtest/gtest.h>

namespace tidemill::route {
namespace {

TEST(BackendSet, MergesSourcesByAddress) {
  BackendSet set;
  EXPECT_TRUE(set.update("static", {{.address = "b:1"}, {.address = "a:1"}}));
  EXPECT_TRUE(set.update("dns", {{.address = "b:1"}, {.address = "c:1"}}));
  ASSERT_EQ(set.merged().size(), 3U);
  EXPECT_EQ(set.merged()[0].address, "a:1");
  EXPECT_EQ(set.merged()[2].address, "c:1");
  EXPECT_TRUE(set.remove("static"));
  ASSERT_EQ(set.merged().size(), 2U);
  EXPECT_EQ(set.merged()[0].address, "b:1");
  EXPECT_TRUE(set.remove("dns"));
  EXPECT_TRUE(set.merged().empty());
}

TEST(BackendSet, CountsChangesOnly) {
  BackendSet set;
  EXPECT_FALSE(set.update("a", {}));
  EXPECT_TRUE(set.update("a", {{.address = "x:1"}, {.address = "y:1"}}));
  EXPECT_FALSE(set.update("a", {{.address = "y:1"}, {.address = "x:1"}}));
  EXPECT_FALSE(set.update("b", {{.address = "x:1"}}));
  EXPECT_EQ(set.generation(), 1U);
  EXPECT_FALSE(set.remove("c"));
  EXPECT_FALSE(set.remove("b"));
  EXPECT_TRUE(set.update("a", {{.address = "x:1"}, {.address = "y:1", .instance = "uid"}}));
  EXPECT_EQ(set.generation(), 2U);
}

TEST(BackendSet, ReadyWhereAnySourceSaysSo) {
  BackendSet set;
  set.update("slice-1", {{.address = "x:1", .ready = false, .instance = "u1"}});
  EXPECT_FALSE(set.merged()[0].ready);
  set.update("slice-2", {{.address = "x:1", .ready = true, .instance = "u1"}});
  ASSERT_EQ(set.merged().size(), 1U);
  EXPECT_TRUE(set.merged()[0].ready);
}

TEST(BackendSet, ReadsAddresses) {
  const auto good = [](std::string_view text, uint16_t port = 0) { return parse_address(text, port).value(); };
  EXPECT_EQ(good("host:80"), "host:80");
  EXPECT_EQ(good("host", 8000), "host:8000");
  EXPECT_EQ(good("10.0.0.1:9"), "10.0.0.1:9");
  EXPECT_EQ(good("[::1]:9"), "[::1]:9");
  EXPECT_EQ(good("[::1]", 7), "[::1]:7");
  EXPECT_EQ(good("http://host/"), "host:80");
  EXPECT_EQ(good("https://host"), "host:443");
  EXPECT_EQ(good("http://host:8080"), "host:8080");
  for (const std::string_view text : {"", ":80", "host", "host:", "host:x", "host:0", "host:65536", "::1:80", "[::1",
                                      "[]:1", "[::1]x", "[::1]:", "http://host/v1", "a b:1", "u@host:1"}) {
    const auto parsed = parse_address(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code(), base::ErrorCode::invalid_argument);
    EXPECT_NE(parsed.error().message().find("host:port"), std::string::npos) << parsed.error().message();
  }
}

}  // namespace
}  // namespace tidemill::route
