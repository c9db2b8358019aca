#include "base/cgroup.hpp"

#include <algorithm>
#include <system_error>

namespace tidemill::base {
namespace {

namespace fs = std::filesystem;

bool lists(std::string_view comma_separated, std::string_view word) {
  while (true) {
    const size_t comma = comma_separated.find(',');
    if (comma_separated.substr(0, comma) == word) return true;
    if (comma == std::string_view::npos) return false;
    comma_separated.remove_prefix(comma + 1);
  }
}

void add_upwards(const fs::path& mount, std::string_view group, std::vector<fs::path>& folders) {
  const auto add = [&folders](const fs::path& folder) {
    std::error_code ignored;
    if (fs::is_directory(folder, ignored) && std::find(folders.begin(), folders.end(), folder) == folders.end()) {
      folders.push_back(folder);
    }
  };
  fs::path relative = fs::path(group).relative_path().lexically_normal();
  // "/../.." is a group outside our cgroup namespace: only the mount is visible.
  if (relative.begin() != relative.end() && *relative.begin() == "..") relative.clear();
  for (; !relative.empty() && relative != "."; relative = relative.parent_path())
    add(mount / relative);
  add(mount);
}

}  // namespace

std::vector<fs::path> cgroup_folders(const fs::path& root, std::string_view membership, std::string_view controller) {
  std::vector<fs::path> folders;
  while (!membership.empty()) {
    const std::string_view line = membership.substr(0, membership.find('\n'));
    membership.remove_prefix(std::min(membership.size(), line.size() + 1));
    // "<hierarchy>:<controllers>:<path>"; v2 is the hierarchy without controllers.
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string_view group = line.substr(second + 1);
    if (controllers.empty()) {
      add_upwards(root, group, folders);
      add_upwards(root / "unified", group, folders);  // where a hybrid system mounts v2
    } else if (lists(controllers, controller)) {
      add_upwards(root / controllers, group, folders);
      add_upwards(root / controller, group, folders);
    }
  }
  return folders;
}

}  // namespace tidemill::base
