#include "base/thread_team.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/file.hpp"

namespace tidemill::base {
namespace {

// Runs one region and checks that every index was covered once, in chunks of the right shape.
void check_region(ThreadTeam& team, int64_t count, int64_t chunk) {
  std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
  std::vector<std::atomic<bool>> busy(static_cast<size_t>(team.size()));
  std::atomic<int> faults{0};
  const auto body = [&](int64_t begin, int64_t end, int member) {
    if (member < 0 || member >= team.size() || busy[static_cast<size_t>(member)].exchange(true)) return void(++faults);
    if (begin % chunk != 0 || end <= begin || end > count || (end - begin != chunk && end != count)) ++faults;
    for (int64_t i = std::max<int64_t>(begin, 0); i < std::min(end, count); ++i)
      ++visits[static_cast<size_t>(i)];
    busy[static_cast<size_t>(member)] = false;
  };
  team.parallel_for(count, chunk, body);
  EXPECT_EQ(faults, 0) << count << " by " << chunk << " on " << team.size();
  EXPECT_TRUE(std::all_of(visits.begin(), visits.end(), [](const auto& n) { return n == 1; }))
      << count << " by " << chunk << " on " << team.size();
}

TEST(ThreadTeam, CoversEveryIndexOnce) {
  for (const int size : {1, 2, 3, 8}) {
    ThreadTeam team(size);
    ASSERT_EQ(team.size(), size);
    for (const int64_t count : {0, 1, 2, 3, 7, 8, 9, 64, 100, 1000, 1023}) {
      for (const int64_t chunk : {1, 2, 3, 8, 100, 1000, 4096})
        check_region(team, count, chunk);
    }
  }
}

TEST(ThreadTeam, ExtremeCountsDoNotOverflow) {
  ThreadTeam team(3);
  const int64_t most = std::numeric_limits<int64_t>::max();
  for (const int64_t chunk : {most, most - 1, most / 2, most / 7}) {
    std::atomic<int64_t> covered{0};
    team.parallel_for(most, chunk, [&](int64_t begin, int64_t end, int) { covered += end - begin; });
    EXPECT_EQ(covered, most);
  }
  bool called = false;
  team.parallel_for(0, 1, [&](int64_t, int64_t, int) { called = true; });
  EXPECT_FALSE(called);
}

// Plain memory passes from region to region and to the caller: a lost barrier shows as a wrong sum, and under
// ThreadSanitizer as a race. The bodies are different objects, so late work against a new body would show as well.
TEST(ThreadTeam, ManyRegionsBackToBack) {
  for (const int size : {2, 4}) {
    ThreadTeam team(size);
    std::array<int64_t, 16> cells{};
    constexpr int64_t regions = 20'000;
    for (int64_t region = 0; region < regions; ++region) {
      const auto count = static_cast<int64_t>(2 + region % 15);
      team.parallel_for(count, 1,
                        [&cells, region](int64_t begin, int64_t, int) { cells[static_cast<size_t>(begin)] += region; });
      ASSERT_EQ(cells[0], region * (region + 1) / 2);
    }
    for (size_t cell = 0; cell < cells.size(); ++cell) {
      int64_t expected = 0;
      for (int64_t region = 0; region < regions; ++region) {
        if (static_cast<int64_t>(cell) < 2 + region % 15) expected += region;
      }
      EXPECT_EQ(cells[cell], expected) << cell;
    }
  }
}

TEST(ThreadTeam, MembersRunAtTheSameTime) {
  ThreadTeam team(3);
  // Each chunk waits until all three are running, which only three distinct members can bring about.
  std::atomic<int> running{0};
  std::array<std::atomic<int>, 3> runs{};
  team.parallel_for(3, 1, [&](int64_t, int64_t, int member) {
    ++runs[static_cast<size_t>(member)];
    ++running;
    running.notify_all();
    for (int n = running; n < 3; n = running)
      running.wait(n);
  });
  for (const auto& n : runs)
    EXPECT_EQ(n, 1);
}

TEST(ThreadTeam, ManyTeamsComeAndGo) {
  for (int round = 0; round < 200; ++round) {
    ThreadTeam team(1 + round % 5);
    std::atomic<int64_t> sum{0};
    if (round % 3 != 0) team.parallel_for(10, 1, [&](int64_t begin, int64_t, int) { sum += begin; });
    EXPECT_EQ(sum, round % 3 != 0 ? 45 : 0);
  }
}

// Members that the others wait for rest between chunks: nothing may be lost or done twice around a rest.
TEST(ThreadTeam, LateMembersCoverEverythingToo) {
  ThreadTeam team(2);
  for (int region = 0; region < 30; ++region) {
    std::array<std::atomic<int>, 40> visits{};
    team.parallel_for(40, 1, [&](int64_t begin, int64_t, int member) {
      ++visits[static_cast<size_t>(begin)];
      const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(member == 0 ? 0 : 2);
      while (std::chrono::steady_clock::now() < until) {
      }
    });
    ASSERT_TRUE(std::all_of(visits.begin(), visits.end(), [](const auto& n) { return n == 1; })) << region;
  }
}

// The scheduler's state letter of each thread of this process whose name begins with `prefix`.
std::string thread_states(const std::string& prefix) {
  std::string states;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    const auto stat = read_file(entry.path() / "stat", 4096);  // "<id> (<name>) <state> ..."
    if (!stat) continue;                                       // a thread that has ended meanwhile
    const size_t open = stat->find('(');
    const size_t close = stat->rfind(')');
    if (stat->compare(open + 1, prefix.size(), prefix) == 0) states += (*stat)[close + 2];
  }
  return states;
}

TEST(ThreadTeam, IdleMembersSleep) {
  ThreadTeam team(4);
  team.parallel_for(100, 1, [](int64_t, int64_t, int) {});
  // Ends as soon as all three sleep; members that spun on would keep it until the test's time is over.
  while (thread_states("compute-") != "SSS")
    std::this_thread::yield();
}

}  // namespace
}  // namespace tidemill::base
