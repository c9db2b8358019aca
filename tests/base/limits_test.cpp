// Memory and processors: what this process may use.
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/cpu_budget.hpp"
#include "base/cpu_cache.hpp"
#include "base/memory.hpp"
#include "temporary_folder.hpp"

namespace tidemill::base {
namespace {

constexpr const char* meminfo = "MemTotal:        1000 kB\nMemFree:  1 kB\nMemAvailable:     600 kB\n";

TEST(CpuBudget, OfThisProcess) {
  const CpuBudget budget = cpu_budget();
  EXPECT_GE(budget.threads, 1);
  EXPECT_LE(budget.threads, budget.allowed);
  EXPECT_LE(budget.allowed, budget.online);
  EXPECT_FALSE(budget.source().empty());
  EXPECT_EQ(allowed_cpus().size(), static_cast<size_t>(budget.allowed));
}

// What a process on `allowed` of 8 CPUs should use, and why, where `root` is the root of the file system.
std::string budget_on(const test::TemporaryFolder& root, int allowed) {
  const CpuBudget budget = cpu_budget(root.path(), allowed, 8);
  return std::to_string(budget.threads) + ": " + budget.source();
}

TEST(CpuBudget, IsTheSmallerOfAffinityAndQuota) {
  const test::TemporaryFolder root;
  EXPECT_EQ(budget_on(root, 8), "8: all 8 CPUs");  // no cgroups at all
  root.put("proc/self/cgroup", "0::/box\n");
  EXPECT_EQ(budget_on(root, 4), "4: affinity to 4 of 8 CPUs");
  root.put("sys/fs/cgroup/box/cpu.max", "max 100000\n");
  EXPECT_EQ(budget_on(root, 8), "8: all 8 CPUs");
  root.put("sys/fs/cgroup/box/cpu.max", "250000 100000\n");
  EXPECT_EQ(budget_on(root, 8), "3: cgroup quota 2.5 of 8 CPUs");
  EXPECT_EQ(budget_on(root, 3), "3: cgroup quota 2.5 of 8 CPUs");
  EXPECT_EQ(budget_on(root, 2), "2: affinity to 2 of 8 CPUs");
  root.put("sys/fs/cgroup/cpu.max", "20000 100000\n");
  EXPECT_EQ(budget_on(root, 8), "1: cgroup quota 0.2 of 8 CPUs");
  root.put("sys/fs/cgroup/cpu.max", "nonsense\n");
  root.put("sys/fs/cgroup/box/cpu.max", "9000000000000 1\n");
  EXPECT_EQ(budget_on(root, 8), "8: all 8 CPUs");
}

TEST(CpuBudget, NeverIsNothing) {
  const test::TemporaryFolder root;
  EXPECT_EQ(cpu_budget(root.path(), 0, 0).threads, 1);
  EXPECT_EQ(cpu_budget(root.path(), -5, -1).threads, 1);
  EXPECT_EQ(cpu_budget(root.path(), 1, 1).source(), "the only CPU");
}

// CPU `cpu` has a cache of that level, with the CPUs `sharers`.
void put_cache(const test::TemporaryFolder& root, int cpu, int index, const std::string& level, const std::string& type,
               const std::string& size, const std::string& sharers) {
  const std::string folder =
      "sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cache/index" + std::to_string(index) + "/";
  root.put(folder + "level", level + "\n");
  root.put(folder + "type", type + "\n");
  root.put(folder + "size", size + "\n");
  root.put(folder + "shared_cpu_list", sharers + "\n");
}

TEST(CpuCache, OfTheLastLevelIsCountedOnceForItsCpus) {
  const test::TemporaryFolder root;
  const auto bytes = [&](const std::vector<int>& cpus) { return last_level_cache_bytes(root.path(), cpus); };
  EXPECT_EQ(bytes({0, 1}), 0U) << "nobody says";
  for (int cpu = 0; cpu < 4; ++cpu) {
    put_cache(root, cpu, 0, "1", "Data", "48K", std::to_string(cpu));
    put_cache(root, cpu, 1, "1", "Instruction", "64K", std::to_string(cpu));
  }
  EXPECT_EQ(bytes({0, 1}), 96U << 10) << "one each";
  for (int cpu = 0; cpu < 4; ++cpu) {
    put_cache(root, cpu, 2, "2", "Unified", "2048K", std::to_string(cpu));
    put_cache(root, cpu, 3, "3", "Unified", "32M", cpu < 2 ? "0-1" : "2-3");
  }
  EXPECT_EQ(bytes({0}), 32U << 20);
  EXPECT_EQ(bytes({0, 1}), 32U << 20) << "one for both";
  EXPECT_EQ(bytes({0, 1, 2}), 64U << 20);
  EXPECT_EQ(bytes({7}), 0U);
  put_cache(root, 3, 3, "3", "Unified", "lots", "2-3");
  EXPECT_EQ(bytes({2, 3}), 32U << 20);
}

TEST(CpuBudget, V2TakesTheLeastQuotaOnTheWayUp) {
  const test::TemporaryFolder root;
  root.put("cpu.max", "max 100000\n");
  root.put("a/cpu.max", "250000 100000\n");
  root.put("a/b/cpu.max", "800000 100000\n");
  EXPECT_EQ(cgroup_cpu_quota(root.path(), "0::/a/b\n"), 2.5);
  EXPECT_EQ(cgroup_cpu_quota(root.path(), "0::/a/b/not/visible\n"), 2.5);
  EXPECT_EQ(cgroup_cpu_quota(root.path(), "0::/\n"), 0);
  root.put("cpu.max", "50000 100000\n");
  EXPECT_EQ(cgroup_cpu_quota(root.path(), "0::/a/b\n"), 0.5);
  EXPECT_EQ(cgroup_cpu_quota(root.path(), "0::/../../outside\n"), 0.5);
}

TEST(CpuBudget, V1ReadsItsOwnHierarchy) {
  const test::TemporaryFolder root;
  root.put("cpu,cpuacct/docker/x/cpu.cfs_quota_us", "150000\n");
  root.put("cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n");
  root.put("cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  root.put("cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  root.put("memory/docker/x/cpu.cfs_quota_us", "1\n");
  root.put("memory/docker/x/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpu_quota(root.path(), "7:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n"), 1.5);
  EXPECT_EQ(cgroup_cpu_quota(root.path(), "3:cpu,cpuacct:/elsewhere\n"), 0);
  EXPECT_EQ(cgroup_cpu_quota(root.path(), "3:cpuset:/docker/x\n"), 0);
}

TEST(CpuBudget, HybridSystemsMountV2Beside) {
  const test::TemporaryFolder root;
  root.put("unified/box/cpu.max", "300000 100000\n");
  root.put("cpu/box/cpu.cfs_quota_us", "400000\n");
  root.put("cpu/box/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpu_quota(root.path(), "1:cpu:/box\n0::/box\n"), 3);
  EXPECT_EQ(cgroup_cpu_quota(root.path(), "1:cpu:/box\n0::/\n"), 4);
}

TEST(CpuBudget, NonsenseIsNoQuota) {
  const test::TemporaryFolder root;
  for (const char* content :
       {"", "max", "0 100000", "-5 100000", "100000", "100000 0", "x y", "99999999999999999999 1"}) {
    root.put("cpu.max", content);
    EXPECT_EQ(cgroup_cpu_quota(root.path(), "0::/\n"), 0) << content;
  }
  for (const char* membership : {"", "\n\n", "0", "0:", "::", "no colons at all"}) {
    EXPECT_EQ(cgroup_cpu_quota(root.path(), membership), 0) << membership;
  }
}

TEST(Memory, BuffersAreZeroedAlignedAndMove) {
  for (const size_t size : {size_t{1}, size_t{4095}, size_t{2} << 20, (size_t{2} << 20) + 1, size_t{7'000'001}}) {
    auto made = Buffer::allocate(size);
    ASSERT_TRUE(made) << made.error().message();
    Buffer buffer = std::move(made).value();
    ASSERT_EQ(buffer.size(), size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % (size >= size_t{2} << 20 ? size_t{2} << 20 : 64), 0);
    for (size_t i = 0; i < size; ++i)
      ASSERT_EQ(buffer.as<uint8_t>()[i], 0);
    buffer.as<uint8_t>()[size - 1] = 7;
    Buffer moved;
    moved = std::move(buffer);
    EXPECT_EQ(moved.as<uint8_t>()[size - 1], 7);
    EXPECT_EQ(buffer.data(), nullptr);  // NOLINT(bugprone-use-after-move)
  }
}

TEST(Memory, NothingAndTooMuch) {
  ASSERT_TRUE(Buffer::allocate(0));
  EXPECT_EQ(Buffer::allocate(0)->size(), 0);
  for (const size_t size :
       {std::numeric_limits<size_t>::max(), std::numeric_limits<size_t>::max() / 2, size_t{1} << 60}) {
    const auto refused = Buffer::allocate(size);
    ASSERT_FALSE(refused) << size;
    EXPECT_EQ(refused.error().code(), ErrorCode::exhausted);
  }
}

TEST(Memory, BudgetIsTheLeastOfMachineAndGroups) {
  const test::TemporaryFolder root;
  const MemoryBudget machine = memory_budget(root.path(), "0::/a\n", meminfo);
  EXPECT_EQ(machine.limit, 1000 << 10);
  EXPECT_EQ(machine.available, 600 << 10);
  root.put("a/memory.max", "max\n");
  EXPECT_EQ(memory_budget(root.path(), "0::/a\n", meminfo).limit, 1000 << 10);
  root.put("memory.max", "512000\n");
  root.put("memory.current", "300000\n");
  root.put("memory.stat", "anon 5\nfile 6\ninactive_file 100000\n");
  const MemoryBudget grouped = memory_budget(root.path(), "0::/a\n", meminfo);
  EXPECT_EQ(grouped.limit, 512000);
  EXPECT_EQ(grouped.available, 312000);
  root.put("memory.current", "900000\n");
  EXPECT_EQ(memory_budget(root.path(), "0::/a\n", meminfo).available, 0);
}

TEST(Memory, V1LimitCounts) {
  const test::TemporaryFolder root;
  root.put("memory/memory.limit_in_bytes", "9223372036854771712\n");
  root.put("memory/g/memory.limit_in_bytes", "4096\n");
  EXPECT_EQ(memory_budget(root.path(), "5:memory:/g\n", meminfo).limit, 4096);
  EXPECT_EQ(memory_budget(root.path(), "5:memory:/other\n", meminfo).limit, 1000 << 10);
}

TEST(Memory, ThisProcessFitsItsLimit) {
  EXPECT_GT(resident_bytes(), 0);
  EXPECT_LE(resident_bytes(), memory_limit_bytes());
  EXPECT_LE(memory_available_bytes(), memory_limit_bytes());
}

}  // namespace
}  // namespace tidemill::base
