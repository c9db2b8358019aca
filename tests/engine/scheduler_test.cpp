#include "engine/scheduler.hpp"

#include <array>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::engine {
namespace {

constexpr int64_t kBlockTokens = 4;

// A scheduler without an engine: every token is "computed" as planned, and every sequence goes on with token 0.
struct Bench {
  Bench(int64_t block_count, SchedulerLimits limits, bool cache = true)
      : blocks(block_count, kBlockTokens, cache), scheduler(blocks, limits) {}

  Sequence& add(int64_t prompt, int64_t due = 0, int priority = 0, Token first = 1) {
    SequenceSpec spec;
    spec.prompt.assign(static_cast<size_t>(prompt), 7);
    spec.prompt[0] = first;
    spec.rank = {due, static_cast<uint64_t>(sequences.size()), 0};
    spec.priority = priority;
    sequences.push_back(std::make_unique<Sequence>(std::move(spec)));
    scheduler.add(*sequences.back());
    return *sequences.back();
  }
  Sequence& follow(const Sequence& leader) {
    SequenceSpec spec;
    spec.prompt.assign(leader.prompt().begin(), leader.prompt().end());
    spec.rank = leader.rank();
    spec.rank.choice = static_cast<int>(sequences.size());
    sequences.push_back(std::make_unique<Sequence>(std::move(spec), &leader));
    scheduler.add(*sequences.back());
    return *sequences.back();
  }
  std::vector<Slice> step() {
    auto plan = scheduler.plan();
    for (const Slice& slice : plan) {
      if (const auto proof = scheduler.computed(slice)) slice.sequence->append(*proof, std::array<Token, 1>{0});
    }
    const auto books = scheduler.audit();
    EXPECT_TRUE(books) << books.error().to_string();
    return plan;
  }
  static int64_t planned(const std::vector<Slice>& plan, const Sequence& sequence) {
    for (const Slice& slice : plan) {
      if (slice.sequence == &sequence) return slice.count;
    }
    return 0;
  }

  KvBlocks blocks;
  std::vector<std::unique_ptr<Sequence>> sequences;
  Scheduler scheduler;
};

TEST(Scheduler, DecodesFirstThenFillsTheStepWithPrefill) {
  Bench bench(100, {.step_tokens = 10, .max_running = 4});
  Sequence& first = bench.add(8, 0, 0, 1);
  Sequence& second = bench.add(30, 0, 0, 2);
  auto plan = bench.step();
  EXPECT_EQ(bench.planned(plan, first), 8);
  EXPECT_EQ(bench.planned(plan, second), 2);
  plan = bench.step();
  EXPECT_EQ(bench.planned(plan, first), 1) << "its next token";
  EXPECT_EQ(bench.planned(plan, second), 9);
  EXPECT_EQ(plan.front().sequence, &first);
}

TEST(Scheduler, RunsByRankAndNobodyOvertakesWhenBlocksAreShort) {
  Bench bench(10, {.step_tokens = 100, .max_running = 10});
  Sequence& running = bench.add(20, 0, 0, 1);
  bench.step();
  Sequence& large = bench.add(30, 1, 0, 2);
  Sequence& small = bench.add(2, 2, 0, 3);
  auto plan = bench.step();
  EXPECT_EQ(bench.planned(plan, running), 1);
  EXPECT_EQ(bench.planned(plan, large), 0);
  EXPECT_EQ(bench.planned(plan, small), 0) << "it would fit, but came later";
  bench.scheduler.remove(running);
  plan = bench.step();
  EXPECT_EQ(bench.planned(plan, large), 30);
}

TEST(Scheduler, TheLastInRankGivesItsBlocksToTheFirst) {
  Bench bench(7, {.step_tokens = 100, .max_running = 10}, false);
  Sequence& first = bench.add(10, 0, 0, 1);  // 3 blocks
  Sequence& second = bench.add(3, 1, 0, 2);  // 1 block
  Sequence& third = bench.add(1, 2, 0, 3);   // 1 block
  bench.step();
  EXPECT_EQ(bench.scheduler.running(), 3);
  for (int i = 0; i < 40 && first.state() == Sequence::State::running && first.size() < 28; ++i)
    bench.step();
  EXPECT_EQ(first.size(), 28) << "it had all seven blocks in the end";
  EXPECT_EQ(second.state(), Sequence::State::waiting);
  EXPECT_EQ(third.state(), Sequence::State::waiting);
  EXPECT_GT(bench.scheduler.preemptions(), 0u);
  bench.scheduler.remove(first);
  const auto plan = bench.step();
  EXPECT_EQ(bench.planned(plan, second), second.size() - 1) << "computed again, output and all";
}

TEST(Scheduler, OnlyLowerPriorityIsDisplacedByANewcomer) {
  Bench bench(10, {.step_tokens = 100, .max_running = 2}, false);
  Sequence& low = bench.add(8, 100, 1, 1);
  Sequence& normal = bench.add(8, 0, 0, 2);
  bench.step();
  Sequence& late = bench.add(8, 50, 0, 3);
  const auto plan = bench.step();
  EXPECT_EQ(low.state(), Sequence::State::waiting);
  EXPECT_EQ(normal.state(), Sequence::State::running);
  EXPECT_EQ(bench.planned(plan, late), 8);
  Sequence& later = bench.add(8, 60, 0, 4);
  EXPECT_EQ(bench.planned(bench.step(), later), 0) << "both running ones are of its own priority";
}

TEST(Scheduler, FollowersWaitForTheirLeaderAndShareItsBlocks) {
  for (const bool cache : {true, false}) {
    Bench bench(20, {.step_tokens = 8, .max_running = 8}, cache);
    Sequence& leader = bench.add(14);
    Sequence& follower = bench.follow(leader);
    EXPECT_EQ(bench.planned(bench.step(), follower), 0);
    const auto plan = bench.step();
    EXPECT_EQ(bench.planned(plan, leader), 6);
    EXPECT_EQ(bench.planned(plan, follower), 0);
    EXPECT_EQ(bench.planned(bench.step(), follower), 2) << "three blocks are shared, the rest of the prompt is private";
    EXPECT_EQ(follower.blocks()[2], leader.blocks()[2]);
    EXPECT_NE(follower.blocks()[3], leader.blocks()[3]);
    bench.scheduler.remove(leader);
    EXPECT_EQ(bench.planned(bench.step(), follower), 1);
  }
}

TEST(Scheduler, EqualPrefixesComputedAtOnceAreKeptOnce) {
  Bench bench(20, {.step_tokens = 100, .max_running = 8});
  Sequence& a = bench.add(9);
  Sequence& b = bench.add(9);
  bench.step();
  EXPECT_EQ(a.blocks()[0], b.blocks()[0]);
  EXPECT_EQ(a.blocks()[1], b.blocks()[1]);
  EXPECT_NE(a.blocks()[2], b.blocks()[2]);
  EXPECT_EQ(bench.blocks.free(), 20 - 4);
}

TEST(Scheduler, AtLeastTheLastTokenIsComputedAnew) {
  for (const int64_t prompt : {1, 4, 5, 8, 9}) {
    Bench bench(20, {.step_tokens = 100, .max_running = 8});
    bench.scheduler.remove(([&]() -> Sequence& {
      Sequence& s = bench.add(prompt);
      bench.step();
      return s;
    })());
    Sequence& again = bench.add(prompt);
    const auto plan = bench.step();
    EXPECT_EQ(bench.planned(plan, again), prompt - (prompt - 1) / kBlockTokens * kBlockTokens) << prompt;
    EXPECT_EQ(again.cached_at_start(), (prompt - 1) / kBlockTokens * kBlockTokens);
  }
}

TEST(Scheduler, WhatRestsKeepsItsBlocksAndGoesOnWhereItStood) {
  Bench bench(20, {.step_tokens = 100, .max_running = 1}, false);
  Sequence& resting = bench.add(8, 0, 0, 1);
  bench.step();
  bench.scheduler.rest(resting);
  EXPECT_FALSE(bench.scheduler.has_work());
  EXPECT_TRUE(bench.step().empty());
  Sequence& other = bench.add(8, 1, 0, 2);
  EXPECT_EQ(bench.planned(bench.step(), other), 8) << "the one place is free";
  EXPECT_EQ(resting.blocks().size(), 2u);
  bench.scheduler.remove(other);
  bench.scheduler.wake(resting);
  EXPECT_EQ(bench.planned(bench.step(), resting), 1) << "its next token, and nothing again";
  EXPECT_EQ(bench.scheduler.preemptions(), 0u);
}

TEST(Scheduler, WhatWakesToFullPlacesWaitsWithItsBlocks) {
  Bench bench(20, {.step_tokens = 100, .max_running = 1}, false);
  Sequence& resting = bench.add(8, 0, 0, 1);
  bench.step();
  bench.scheduler.rest(resting);
  Sequence& other = bench.add(8, 1, 0, 2);
  bench.step();
  bench.scheduler.wake(resting);
  EXPECT_EQ(resting.state(), Sequence::State::waiting);
  EXPECT_TRUE(bench.scheduler.has_work());
  EXPECT_EQ(bench.planned(bench.step(), other), 1);
  EXPECT_EQ(resting.blocks().size(), 2u);
  bench.scheduler.rest(resting);  // its reader lags again
  bench.step();
  EXPECT_EQ(resting.blocks().size(), 2u);
  bench.scheduler.wake(resting);
  bench.scheduler.remove(other);
  EXPECT_EQ(bench.planned(bench.step(), resting), 1) << "its next token, and nothing again";
  EXPECT_EQ(bench.scheduler.preemptions(), 0u);
  bench.scheduler.rest(resting);
  bench.scheduler.wake(resting);
  bench.scheduler.remove(resting);
  EXPECT_EQ(bench.blocks.free(), 20);
}

TEST(Scheduler, WhatWakesOvertakesNobody) {
  Bench bench(20, {.step_tokens = 100, .max_running = 1}, false);
  Sequence& resting = bench.add(8, 5, 0, 1);
  bench.step();
  bench.scheduler.rest(resting);
  Sequence& running = bench.add(8, 1, 0, 2);
  bench.step();
  Sequence& sooner = bench.add(8, 2, 0, 3);
  Sequence& later = bench.add(8, 6, 0, 4);
  EXPECT_EQ(bench.planned(bench.step(), running), 1);
  bench.scheduler.remove(running);
  bench.scheduler.wake(resting);
  auto plan = bench.step();
  EXPECT_EQ(bench.planned(plan, sooner), 8);
  EXPECT_EQ(bench.planned(plan, resting), 0);
  bench.scheduler.remove(sooner);
  plan = bench.step();
  EXPECT_EQ(bench.planned(plan, resting), 1) << "it has kept its blocks";
  EXPECT_EQ(bench.planned(plan, later), 0);
}

TEST(Scheduler, WhatWakesTogetherGoesOnByRank) {
  Bench bench(20, {.step_tokens = 100, .max_running = 2}, false);
  Sequence& first = bench.add(8, 0, 0, 1);
  Sequence& second = bench.add(8, 1, 0, 2);
  bench.step();
  bench.scheduler.rest(first);
  bench.scheduler.rest(second);
  Sequence& running = bench.add(8, 2, 0, 3);
  bench.step();
  bench.scheduler.wake(second);
  bench.scheduler.wake(first);
  const auto plan = bench.step();
  EXPECT_EQ(bench.planned(plan, running), 1);
  EXPECT_EQ(bench.planned(plan, first), 1);
  EXPECT_EQ(bench.planned(plan, second), 0);
  EXPECT_EQ(second.blocks().size(), 2u);
}

TEST(Scheduler, WhatWokeDecodesBeforeAnyPrefill) {
  Bench bench(40, {.step_tokens = 8, .max_running = 4}, false);
  Sequence& resting = bench.add(8, 5, 0, 1);
  bench.step();
  bench.scheduler.rest(resting);
  Sequence& large = bench.add(80, 1, 0, 2);
  EXPECT_EQ(bench.planned(bench.step(), large), 8);
  bench.scheduler.wake(resting);
  const auto plan = bench.step();
  EXPECT_EQ(bench.planned(plan, resting), 1);
  EXPECT_EQ(bench.planned(plan, large), 7);
}

TEST(Scheduler, WhatWokeGivesItsBlocksUpAfterWhatRests) {
  Bench bench(7, {.step_tokens = 100, .max_running = 1}, false);
  Sequence& woken = bench.add(8, 1, 0, 1);  // 2 blocks
  bench.step();
  bench.scheduler.rest(woken);
  Sequence& resting = bench.add(8, 0, 0, 2);  // 2 blocks
  bench.step();
  bench.scheduler.rest(resting);
  Sequence& running = bench.add(8, 2, 0, 3);
  bench.step();
  bench.scheduler.wake(woken);
  for (int i = 0; i < 20 && running.size() < 21; ++i)
    bench.step();
  EXPECT_EQ(running.blocks().size(), 5u);
  EXPECT_TRUE(resting.blocks().empty());
  EXPECT_EQ(woken.blocks().size(), 2u);
  bench.step();
  EXPECT_EQ(running.blocks().size(), 6u);
  EXPECT_TRUE(woken.blocks().empty());
  EXPECT_EQ(bench.scheduler.preemptions(), 2u);
  bench.scheduler.remove(running);
  EXPECT_EQ(bench.planned(bench.step(), woken), 9) << "computed again, output and all";
}

TEST(Scheduler, WhatWokeDoesNotGiveUpItsOwnBlocksForRoom) {
  Bench bench(6, {.step_tokens = 100, .max_running = 2}, false);
  Sequence& running = bench.add(9, 0, 0, 1);  // 3 blocks
  Sequence& resting = bench.add(8, 1, 0, 2);  // 2 blocks, and will want a third
  bench.step();
  bench.scheduler.rest(resting);
  bench.scheduler.wake(resting);
  const auto plan = bench.step();
  EXPECT_EQ(bench.planned(plan, running), 1);
  EXPECT_EQ(bench.planned(plan, resting), 0) << "one block is left, which the running one may want";
  EXPECT_EQ(resting.blocks().size(), 2u);
  bench.scheduler.remove(running);
  EXPECT_EQ(bench.planned(bench.step(), resting), 1);
}

TEST(Scheduler, WhatRestsGivesItsBlocksUpBeforeAnybodyThatRuns) {
  Bench bench(6, {.step_tokens = 100, .max_running = 4}, false);
  Sequence& resting = bench.add(8, 0, 0, 1);  // the first in rank
  Sequence& running = bench.add(7, 1, 0, 2);
  bench.step();
  bench.scheduler.rest(resting);
  for (int i = 0; i < 40 && running.size() < 24; ++i)
    bench.step();
  EXPECT_EQ(running.size(), 24) << "it had all six blocks in the end";
  EXPECT_EQ(resting.state(), Sequence::State::resting);
  EXPECT_TRUE(resting.blocks().empty());
  EXPECT_EQ(bench.scheduler.preemptions(), 1u);
  bench.scheduler.remove(running);
  bench.scheduler.wake(resting);
  EXPECT_EQ(bench.planned(bench.step(), resting), 9) << "computed again, output and all";
}

TEST(Scheduler, ANewcomerGetsTheBlocksOfWhatRests) {
  Bench bench(6, {.step_tokens = 100, .max_running = 4}, false);
  Sequence& running = bench.add(3, 0, 0, 1);   // 1 block
  Sequence& resting = bench.add(12, 1, 0, 2);  // 3 blocks
  bench.step();
  bench.scheduler.rest(resting);
  Sequence& newcomer = bench.add(8, 2, 0, 3);
  const auto plan = bench.step();
  EXPECT_EQ(bench.planned(plan, running), 1);
  EXPECT_EQ(bench.planned(plan, newcomer), 8);
  EXPECT_TRUE(resting.blocks().empty());
  bench.scheduler.remove(resting);
  EXPECT_EQ(resting.state(), Sequence::State::finished);
  EXPECT_EQ(bench.planned(bench.step(), newcomer), 1);
}

TEST(Scheduler, NothingThatRestsLosesItsBlocksInVain) {
  Bench bench(16, {.step_tokens = 100, .max_running = 4}, false);
  Sequence& running = bench.add(31, 0, 0, 1);  // 8 blocks
  Sequence& resting = bench.add(12, 1, 0, 2);  // 3 blocks
  bench.step();
  bench.scheduler.rest(resting);
  Sequence& large = bench.add(40, 2, 0, 3);  // 10 blocks, and 5 are free
  EXPECT_EQ(bench.planned(bench.step(), large), 0);
  EXPECT_EQ(resting.blocks().size(), 3u) << "with them it would not fit either";
  EXPECT_EQ(bench.scheduler.preemptions(), 0u);
  bench.scheduler.remove(running);
  EXPECT_EQ(bench.planned(bench.step(), large), 40);
  EXPECT_EQ(resting.blocks().size(), 3u);
}

TEST(Scheduler, BlocksThatAreSharedWithWhatRunsAreNoRoom) {
  Bench bench(12, {.step_tokens = 100, .max_running = 4});
  Sequence& running = bench.add(16, 0, 0, 1);
  Sequence& resting = bench.add(16, 1, 0, 1);
  bench.step();
  ASSERT_EQ(resting.blocks()[3], running.blocks()[3]);
  bench.scheduler.rest(resting);
  Sequence& newcomer = bench.add(32, 2, 0, 2);  // 8 blocks, and 7 are free beside those of the running one
  EXPECT_EQ(bench.planned(bench.step(), newcomer), 0);
  EXPECT_EQ(resting.blocks().size(), 4u);
  EXPECT_EQ(bench.scheduler.preemptions(), 0u);
}

TEST(Scheduler, NobodyIsDisplacedInVain) {
  Bench bench(16, {.step_tokens = 100, .max_running = 4}, false);
  bench.add(31, 0, 0, 1);                    // 8 blocks
  Sequence& low = bench.add(11, 100, 1, 2);  // 3 blocks
  bench.step();
  Sequence& large = bench.add(32, 2, 0, 3);  // 8 blocks, and the first one may want another
  EXPECT_EQ(bench.planned(bench.step(), large), 0);
  EXPECT_EQ(low.state(), Sequence::State::running);
  EXPECT_EQ(bench.scheduler.preemptions(), 0u);
}

TEST(Scheduler, AnOldRequestOfLowPriorityComesBeforeANewOneOfHigh) {
  Bench bench(10, {.step_tokens = 100, .max_running = 1});
  Sequence& running = bench.add(4, 0, 0, 1);
  bench.step();
  Sequence& old_low = bench.add(4, 10, 5, 2);  // rank says it is due first
  Sequence& new_high = bench.add(4, 20, 0, 3);
  bench.scheduler.remove(running);
  const auto plan = bench.step();
  EXPECT_EQ(bench.planned(plan, old_low), 4);
  EXPECT_EQ(bench.planned(plan, new_high), 0);
}

}  // namespace
}  // namespace tidemill::engine
