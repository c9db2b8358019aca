// Control groups (v1, v2 and hybrid): where the limits of this process are written.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace tidemill::base {

inline constexpr std::string_view cgroup_root = "/sys/fs/cgroup";

// The folders under `root` that may hold limits of `controller` ("cpu", "memory") for the process whose
// /proc/self/cgroup content is `membership`: its own group first, then every parent up to the mount, because a limit
// anywhere above binds as well. Folders that do not exist are left out. Inside a container the named group is often not
// visible, and the mount itself holds the container's limits.
std::vector<std::filesystem::path> cgroup_folders(const std::filesystem::path& root, std::string_view membership,
                                                  std::string_view controller);

}  // namespace tidemill::base
