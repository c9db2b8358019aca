// How many threads this process should compute with.
#pragma once

#include <filesystem>
#include <string_view>

namespace tidemill::base {

// The smaller of the affinity mask's size and the cgroup's CPU quota (v2 and v1; rounded up), at least 1. Containers on
// a large host see the host's core count elsewhere: trusting that is what makes engines many times slower there.
int cpu_budget();

// The quota part alone, read from a cgroup file system at `root` for the process whose /proc/self/cgroup content is
// `membership`: cores rounded up, or 0 when there is no quota. Split out for tests.
int cgroup_cpu_quota(const std::filesystem::path& root, std::string_view membership);

}  // namespace tidemill::base
