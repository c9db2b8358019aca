// Clock, ids, JSON, log levels, units and nearest words.
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "base/clock.hpp"
#include "base/ids.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "base/nearest.hpp"
#include "base/units.hpp"

namespace tidemill::base {
namespace {

using namespace std::chrono_literals;

TEST(Clock, ManualMovesOnlyWhenTold) {
  ManualClock clock;
  const auto steady = clock.now();
  const auto wall = clock.wall_now();
  EXPECT_EQ(clock.now(), steady);
  clock.advance(1500ms);
  EXPECT_EQ(clock.now() - steady, 1500ms);
  EXPECT_EQ(unix_nanos(clock.wall_now()) - unix_nanos(wall), 1'500'000'000);
  EXPECT_EQ(seconds(1500ms), 1.5);
  const auto earlier = SystemClock::instance().now();
  EXPECT_GE((SystemClock::instance().now() - earlier).count(), 0);
}

TEST(Ids, HaveTheirShapeAndDiffer) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    const std::string id = random_id("chatcmpl-");
    ASSERT_EQ(id.size(), 9 + 24);
    ASSERT_TRUE(id.starts_with("chatcmpl-"));
    const std::string hex = random_hex(16);
    ASSERT_EQ(hex.size(), 32);
    ASSERT_EQ(hex.find_first_not_of("0123456789abcdef"), std::string::npos);
    ASSERT_TRUE(seen.insert(id).second && seen.insert(hex).second);
  }
  EXPECT_EQ(random_hex(0), "");
}

TEST(Json, ParsesAndPrints) {
  const auto value = parse_json(R"({"b": [1, {"x": []}], "a": "\u00e9", "e": {}} )");
  ASSERT_TRUE(value) << value.error().message();
  EXPECT_EQ(pretty_json(*value),
            "{\n  \"b\": [\n    1,\n    {\n      \"x\": []\n    }\n  ],\n  \"a\": \"é\",\n  \"e\": {}\n}");
  EXPECT_EQ(*parse_json(pretty_json(*value)), *value);
}

TEST(Json, ErrorsSayWhere) {
  const auto failed = parse_json("{\n  \"a\": 1,\n  oops\n}");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), ErrorCode::invalid_argument);
  EXPECT_NE(failed.error().message().find("line 3, column 3"), std::string::npos) << failed.error().message();
  for (const char* bad : {"", " ", "{", "[1,]", "1 2", "{} x", "nul", "\"\xff\"", "[1", "'a'", "{\"a\":}"}) {
    EXPECT_FALSE(parse_json(bad)) << bad;
  }
}

TEST(Json, DepthIsBounded) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(parse_json(nested(8), 8));
  EXPECT_FALSE(parse_json(nested(9), 8));
  EXPECT_FALSE(parse_json(std::string(1'000'000, '[')));
}

TEST(Log, LevelsParse) {
  EXPECT_EQ(*log::parse_level("warn"), log::Level::warn);
  EXPECT_EQ(*log::parse_level("off"), log::Level::off);
  const auto failed = log::parse_level("WARNING");
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().message().find("trace, debug, info, warn, error or off"), std::string::npos);
}

TEST(Units, Bytes) {
  EXPECT_EQ(parse_bytes("4GiB")->bytes, uint64_t{4} << 30);
  EXPECT_EQ(parse_bytes("512MB")->bytes, 512'000'000);
  EXPECT_EQ(parse_bytes("1.5 kib")->bytes, 1536);
  EXPECT_EQ(parse_bytes("123")->bytes, 123);
  EXPECT_EQ(parse_bytes("0")->bytes, 0);
  for (const char* bad : {"", "4G", "GiB", "-1B", "1e3B", "inf", "nan", "4 GiB ", "1..5B", "9999999999TiB", ".5B",
                          "99999999999999999999999", "0x10"}) {
    EXPECT_FALSE(parse_bytes(bad)) << bad;
  }
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, uint64_t{1000}, uint64_t{1024}, uint64_t{1536},
                               uint64_t{1} << 40, uint64_t{9'223'372'036'854'775'807}}) {
    EXPECT_EQ(parse_bytes(format_bytes({bytes}))->bytes, bytes) << format_bytes({bytes});
  }
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1.00 KiB");
  EXPECT_EQ(human_bytes(1.5 * (1 << 30)), "1.50 GiB");
}

TEST(Units, Durations) {
  EXPECT_EQ(*parse_duration("250ms"), 250ms);
  EXPECT_EQ(*parse_duration("30s"), 30s);
  EXPECT_EQ(*parse_duration("1.5m"), 90s);
  EXPECT_EQ(*parse_duration("0"), 0s);
  for (const char* bad : {"", "30", "s", "-1s", "1 minute", "1e9s", "300000d"})
    EXPECT_FALSE(parse_duration(bad)) << bad;
  for (const Duration d :
       {Duration(0ns), Duration(1ns), Duration(90s), Duration(24h), Duration(1001us), Duration::max()}) {
    EXPECT_EQ(*parse_duration(format_duration(d)), d) << format_duration(d);
  }
}

TEST(Nearest, CountsEditsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("port", "prot"), 1);
  EXPECT_EQ(nearest("server.prot", {"server.host", "server.port", "engine.slots"}), "server.port");
  EXPECT_EQ(nearest("x", {}), "");
}

}  // namespace
}  // namespace tidemill::base
