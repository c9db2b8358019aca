#include "base/cpu_budget.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <sched.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include <fmt/core.h>

#include "base/cgroup.hpp"
#include "base/file.hpp"

namespace tidemill::base {
namespace {

constexpr size_t small_file = 64 << 10;

// Reads the integer that `text` begins with and moves past it and the white space behind it.
std::optional<int64_t> take_integer(std::string_view& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  text.remove_prefix(std::min(text.size(), text.find_first_not_of(" \t\n")));
  return value;
}

double cpus(std::optional<int64_t> quota, std::optional<int64_t> period) {
  if (!quota || !period || *quota <= 0 || *period <= 0) return 0;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

// v2: "<quota> <period>" in microseconds, or "max <period>".
double quota_v2(const std::filesystem::path& folder) {
  const auto content = read_file(folder / "cpu.max", small_file);
  if (!content) return 0;
  std::string_view text = *content;
  const auto quota = take_integer(text);
  return cpus(quota, quota ? take_integer(text) : std::nullopt);
}

// v1: two files; a quota of -1 is none.
double quota_v1(const std::filesystem::path& folder) {
  const auto quota = read_file(folder / "cpu.cfs_quota_us", small_file);
  const auto period = read_file(folder / "cpu.cfs_period_us", small_file);
  if (!quota || !period) return 0;
  std::string_view quota_text = *quota;
  std::string_view period_text = *period;
  return cpus(take_integer(quota_text), take_integer(period_text));
}

int affinity_size() {
  const std::vector<int> allowed = allowed_cpus();
  return allowed.empty() ? static_cast<int>(std::thread::hardware_concurrency()) : static_cast<int>(allowed.size());
}

}  // namespace

std::vector<int> allowed_cpus() {
  // The kernel refuses a mask smaller than its own, so grow until it fits.
  for (int cpus = CPU_SETSIZE; cpus <= 1 << 20; cpus *= 2) {
    cpu_set_t* mask = CPU_ALLOC(static_cast<size_t>(cpus));
    if (mask == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(cpus));
    const bool ok = sched_getaffinity(0, bytes, mask) == 0;
    std::vector<int> allowed;
    for (int cpu = 0; ok && cpu < cpus; ++cpu) {
      if (CPU_ISSET_S(static_cast<size_t>(cpu), bytes, mask)) allowed.push_back(cpu);
    }
    CPU_FREE(mask);
    if (ok) return allowed;
  }
  return {};
}

double cgroup_cpu_quota(const std::filesystem::path& root, std::string_view membership) {
  double least = 0;
  for (const auto& folder : cgroup_folders(root, membership, "cpu")) {
    for (const double quota : {quota_v2(folder), quota_v1(folder)}) {
      if (quota > 0 && (least == 0 || quota < least)) least = quota;
    }
  }
  return least;
}

CpuBudget cpu_budget(const std::filesystem::path& root, int allowed, int online) {
  CpuBudget budget;
  budget.allowed = std::max(allowed, 1);
  budget.online = std::max(online, budget.allowed);
  if (const auto membership = read_file(root / "proc/self/cgroup", small_file)) {
    budget.quota = cgroup_cpu_quota(root / cgroup_root.substr(1), *membership);
  }
  budget.threads = budget.allowed;
  if (budget.quota > 0 && budget.quota < budget.allowed) budget.threads = static_cast<int>(std::ceil(budget.quota));
  return budget;
}

CpuBudget cpu_budget() {
  return cpu_budget("/", affinity_size(), static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

std::string CpuBudget::source() const {
  if (quota > 0 && quota < allowed) return fmt::format("cgroup quota {:.1f} of {} CPUs", quota, online);
  if (allowed < online) return fmt::format("affinity to {} of {} CPUs", allowed, online);
  return online == 1 ? "the only CPU" : fmt::format("all {} CPUs", online);
}

}  // namespace tidemill::base
