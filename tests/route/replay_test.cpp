// The bars that routing has to clear, on parts of recorded traces (bench/route.cpp prints them whole), and checks of
// the simulation that they stand on.
#include "replay/replay.hpp"

#include <gtest/gtest.h>

#include "data.hpp"

namespace tidemill::replay {
namespace {

Fleet fleet(size_t count, double speed, int64_t cache_tokens, const Trace& trace) {
  return {.hardware = std::vector<Hardware>(count, {.prefill_tokens_per_second = speed, .cache_tokens = cache_tokens}),
          .block_tokens = trace.block_tokens};
}

double of_unlimited(const Report& report, const Trace& trace) {
  return static_cast<double>(report.hit_tokens) / static_cast<double>(single_cache_hits(trace, 0));
}

// A trace of one request at a time, far apart: everything about it is known.
TEST(Replay, ServesOneRequestAfterAnother) {
  Trace trace{.name = "two", .block_tokens = 100, .requests = {}, .blocks = {}};
  trace.blocks.push_back({1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  for (const double at : {0.0, 100.0}) {
    trace.requests.push_back({.at = at, .prompt_tokens = 1050, .output_tokens = 31, .blocks = &trace.blocks.back()});
  }
  trace.requests.push_back({.at = 240, .prompt_tokens = 100, .output_tokens = 1, .blocks = &trace.blocks.back()});
  Fleet one = fleet(1, 1000, 1'000'000, trace);
  one.hardware[0].overhead_seconds = 0.5;
  const auto policy = round_robin(one);
  const Report report = replay(trace, one, *policy);
  EXPECT_EQ(report.requests, 3);
  EXPECT_EQ(report.prompt_tokens, 2200);
  EXPECT_EQ(report.hit_tokens, 1000 + 99);
  EXPECT_EQ(single_cache_hits(trace, 0), 1000 + 99);
  EXPECT_NEAR(report.ttft_mean, (1.55 + 0.55 + 0.501) / 3, 1e-9);
  EXPECT_DOUBLE_EQ(report.imbalance, 1);
  EXPECT_DOUBLE_EQ(report.imbalance_of_all, 1);
  EXPECT_DOUBLE_EQ(report.imbalance_of_open, 1);
  // 30 tokens at 30 a second, of which each takes as long as 4 of a prompt's.
  EXPECT_NEAR(report.utilisation * 240, 1.55 + 0.55 + 2 * 30 * 4 / 1000.0, 1e-6);
}

// In turn at two backends, one at a time: whenever anything is open, it is at one of them; and one has the most work.
TEST(Replay, MeasuresBalanceInSeveralWays) {
  Trace trace{.name = "turns", .block_tokens = 100, .requests = {}, .blocks = {}};
  for (uint64_t i = 0; i < 5; ++i) {
    trace.blocks.push_back({10 * i + 1, 10 * i + 2});
    trace.requests.push_back({.at = 60 * static_cast<double>(i),
                              .prompt_tokens = i % 2 == 0 ? 3000 : 1000,
                              .output_tokens = 1,
                              .blocks = &trace.blocks.back()});
  }
  Fleet two = fleet(2, 1000, 1'000'000, trace);
  for (Hardware& hardware : two.hardware)
    hardware.overhead_seconds = 0;
  const auto policy = round_robin(two);
  const Report report = replay(trace, two, *policy);
  EXPECT_DOUBLE_EQ(report.imbalance, 2);
  EXPECT_DOUBLE_EQ(report.imbalance_of_open, 2);
  EXPECT_NEAR(report.imbalance_of_all, 6 / 4.0, 1e-9) << "until the last arrival 3 + 3 seconds of work, and 1 + 1";
}

TEST(Replay, ACacheHoldsWhatWasUsedLast) {
  BlockCache cache(4);
  using Blocks = std::vector<route::BlockHash>;
  cache.insert(Blocks{1, 2, 3});
  cache.insert(Blocks{1, 4});
  EXPECT_EQ(cache.match(Blocks{1, 2, 3}), 3U);
  cache.insert(Blocks{5});
  EXPECT_EQ(cache.match(Blocks{1, 2, 3}), 2U);
  EXPECT_EQ(cache.match(Blocks{1, 4}), 2U);
  EXPECT_EQ(cache.size(), 4U);
  cache.clear();
  EXPECT_EQ(cache.match(Blocks{1}), 0U);
}

TEST(Replay, ARestartLosesNoRequest) {
  Trace trace{.name = "many", .block_tokens = 100, .requests = {}, .blocks = {}};
  for (uint64_t i = 0; i < 200; ++i) {
    trace.blocks.push_back({i + 1, i + 1001, i + 2001});
    trace.requests.push_back({.at = static_cast<double>(i) * 0.1,
                              .prompt_tokens = 350,
                              .output_tokens = 60,
                              .blocks = &trace.blocks.back()});
  }
  const Fleet three = fleet(3, 2000, 1'000'000, trace);
  for (const auto make : {round_robin, least_ttft}) {
    const auto policy = make(three);
    const Report report =
        replay(trace, three, *policy, {.window_seconds = 5, .restarts = {{.backend = 1, .down_at = 7, .up_at = 12}}});
    EXPECT_EQ(report.requests, 200);
    EXPECT_GT(report.resent, 0);
  }
  const auto policy = tidemill_policy(three);
  const Report report =
      replay(trace, three, *policy, {.window_seconds = 5, .restarts = {{.backend = 1, .down_at = 7, .up_at = 12}}});
  EXPECT_EQ(report.requests, 200);
  EXPECT_GT(report.resent, 0);
}

class Bars : public testing::Test {
 protected:
  static std::filesystem::path traces() { return test::data_root() / "traces"; }
};

TEST_F(Bars, Conversations) {
  const auto file = traces() / "mooncake" / "conversation_trace.jsonl";
  TM_SKIP_WITHOUT(file);
  const Trace trace = load_mooncake(file, 1200).value();
  const Fleet eight = fleet(8, 6000, 12'000'000, trace);
  const Report report = replay(trace, eight, *tidemill_policy(eight));
  EXPECT_GE(of_unlimited(report, trace), 0.95);
  EXPECT_LT(report.imbalance, 1.3);
  // The same again is the same.
  const Report again = replay(trace, eight, *tidemill_policy(eight));
  EXPECT_EQ(again.hit_tokens, report.hit_tokens);
  EXPECT_DOUBLE_EQ(again.ttft_mean, report.ttft_mean);
}

TEST_F(Bars, ConversationsOnMixedHardware) {
  const auto file = traces() / "mooncake" / "conversation_trace.jsonl";
  TM_SKIP_WITHOUT(file);
  const Trace trace = load_mooncake(file, 1200).value();
  Fleet mixed = fleet(8, 6000, 12'000'000, trace);
  mixed.hardware[2].prefill_tokens_per_second = 3000;
  const Report report = replay(trace, mixed, *tidemill_policy(mixed));
  EXPECT_GE(of_unlimited(report, trace), 0.95);
  EXPECT_LT(report.imbalance, 1.3);
}

TEST_F(Bars, Agents) {
  TM_SKIP_WITHOUT(traces() / "agentic");
  const Trace trace = load_agentic(traces() / "agentic", {.users = 160, .seconds = 900, .ramp = 300}).value();
  const Fleet eight = fleet(8, 4000, 3'000'000, trace);
  const Report report = replay(trace, eight, *tidemill_policy(eight));
  EXPECT_GE(of_unlimited(report, trace), 0.95);
  EXPECT_LT(report.imbalance, 1.3);
}

TEST_F(Bars, AgentsWhoseBackendRestarts) {
  TM_SKIP_WITHOUT(traces() / "agentic");
  const Trace trace = load_agentic(traces() / "agentic", {.users = 160, .seconds = 900, .ramp = 300}).value();
  const Fleet eight = fleet(8, 4000, 3'000'000, trace);
  const Options options{.restarts = {{.backend = 5, .down_at = 500, .up_at = 560}}};
  const Report report = replay(trace, eight, *tidemill_policy(eight), options);
  EXPECT_GE(of_unlimited(report, trace), 0.90);  // an eighth of all that was cached is lost on the way
  EXPECT_EQ(report.requests, static_cast<int64_t>(trace.requests.size()));
}

}  // namespace
}  // namespace tidemill::replay
