#include "base/cpu_cache.hpp"

#include <charconv>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/core.h>

#include "base/cpu_budget.hpp"
#include "base/file.hpp"

namespace tidemill::base {
namespace {

constexpr size_t most_of_a_line = 64 << 10;

// The line that the file holds; nullopt without the file.
std::optional<std::string> line_of(const std::filesystem::path& file) {
  auto content = read_file(file, most_of_a_line);
  if (!content) return std::nullopt;
  return content->substr(0, content->find('\n'));
}

// "266240K", "4M" or "3"; 0 for anything else.
size_t amount(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return 0;
  const std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  if (unit.empty()) return value;
  if (unit == "K") return value << 10;
  if (unit == "M") return value << 20;
  if (unit == "G") return value << 30;
  return 0;
}

}  // namespace

size_t last_level_cache_bytes(const std::filesystem::path& root, std::span<const int> cpus) {
  size_t last_level = 0;
  std::map<std::string, size_t> bytes;  // of the caches of that level, by the CPUs that share them
  for (const int cpu : cpus) {
    for (int index = 0;; ++index) {
      const auto folder = root / fmt::format("sys/devices/system/cpu/cpu{}/cache/index{}", cpu, index);
      const auto level = line_of(folder / "level");
      if (!level) break;
      const size_t size = amount(line_of(folder / "size").value_or(""));
      if (size == 0 || line_of(folder / "type") == "Instruction" || amount(*level) < last_level) continue;
      if (amount(*level) > last_level) bytes.clear();
      last_level = amount(*level);
      bytes[line_of(folder / "shared_cpu_list").value_or(std::to_string(cpu))] = size;
    }
  }
  size_t sum = 0;
  for (const auto& [sharers, size] : bytes)
    sum += size;
  return sum;
}

size_t last_level_cache_bytes() {
  return last_level_cache_bytes("/", allowed_cpus());
}

}  // namespace tidemill::base
