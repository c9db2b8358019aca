// How many threads this process should compute with.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace tidemill::base {

struct CpuBudget {
  int threads = 1;   // the smaller of `allowed` and the quota rounded up, at least 1
  double quota = 0;  // CPUs that the control group grants; 0: no limit
  int allowed = 1;   // CPUs in the affinity mask
  int online = 1;    // CPUs of the machine

  // Where the number comes from: "cgroup quota 2.0 of 8 CPUs", "affinity to 4 of 8 CPUs" or "all 8 CPUs".
  std::string source() const;
};

// The numbers of the CPUs that this process may be scheduled on; empty where the system does not say.
std::vector<int> allowed_cpus();

// The smaller of the affinity mask's size and the cgroup's CPU quota (v2 and v1; rounded up), at least 1. Containers on
// a large host see the host's core count elsewhere: trusting that is what makes engines many times slower there.
CpuBudget cpu_budget();

// The same for a process that may run on `allowed` of `online` CPUs, where `root` stands for the root of the file
// system (proc/self/cgroup and sys/fs/cgroup are read below it). Files that are missing or malformed set no limit.
CpuBudget cpu_budget(const std::filesystem::path& root, int allowed, int online);

// The quota part alone, read from a cgroup file system at `root` for the process whose /proc/self/cgroup content is
// `membership`: the least of all groups up to the mount, in CPUs, or 0 when there is none.
double cgroup_cpu_quota(const std::filesystem::path& root, std::string_view membership);

}  // namespace tidemill::base
