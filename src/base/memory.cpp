#include "base/memory.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <limits>
#include <malloc.h>
#include <optional>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

#include <fmt/core.h>

#include "base/cgroup.hpp"
#include "base/file.hpp"

namespace tidemill::base {
namespace {

constexpr size_t huge_page = size_t{2} << 20;
constexpr size_t small_file = 64 << 10;

size_t page_size() {
  static const auto size = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

std::optional<uint64_t> leading_number(std::string_view text) {
  text.remove_prefix(std::min(text.size(), text.find_first_not_of(" \t")));
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  return value;
}

// The number behind `key` at the start of a line, as /proc/meminfo ("MemTotal:  16 kB") and memory.stat have it.
std::optional<uint64_t> field(std::string_view content, std::string_view key) {
  while (!content.empty()) {
    const std::string_view line = content.substr(0, content.find('\n'));
    if (line.size() > key.size() && line.substr(0, key.size()) == key) return leading_number(line.substr(key.size()));
    content.remove_prefix(std::min(content.size(), line.size() + 1));
  }
  return std::nullopt;
}

std::optional<uint64_t> number_in(const std::filesystem::path& path) {
  const auto content = read_file(path, small_file);
  if (!content) return std::nullopt;
  return leading_number(*content);  // "max" gives nothing
}

// The file names of one version of the memory controller.
struct Names {
  const char* limit;
  const char* usage;
  const char* inactive_file;  // key in memory.stat of page cache that goes first under pressure
};
constexpr Names versions[] = {{"memory.max", "memory.current", "inactive_file "},
                              {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "}};

MemoryBudget this_process() {
  const auto meminfo = read_file("/proc/meminfo", small_file);
  const auto membership = read_file("/proc/self/cgroup", small_file);
  return memory_budget(cgroup_root, membership ? std::string_view(*membership) : std::string_view(),
                       meminfo ? std::string_view(*meminfo) : std::string_view());
}

}  // namespace

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    if (data_ != nullptr) ::munmap(data_, size_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Buffer::~Buffer() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Result<Buffer> Buffer::allocate(size_t bytes) {
  Buffer buffer;
  if (bytes == 0) return buffer;
  const auto refuse = [bytes](int reason) {
    return Error(ErrorCode::exhausted,
                 fmt::format("cannot allocate {} bytes of memory: {}", bytes, std::generic_category().message(reason)));
  };
  const bool huge = bytes >= huge_page;
  if (bytes > std::numeric_limits<size_t>::max() / 2) return refuse(ENOMEM);
  const size_t size = (bytes + page_size() - 1) / page_size() * page_size();
  // A map need not begin at a huge page's border: ask for one huge page more, then give back what sticks out.
  const size_t mapped = size + (huge ? huge_page : 0);
  void* base = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return refuse(errno);
  auto* begin = static_cast<std::byte*>(base);
  if (huge) {
    const size_t past = reinterpret_cast<uintptr_t>(begin) % huge_page;
    const size_t head = past == 0 ? 0 : huge_page - past;
    if (head > 0) ::munmap(begin, head);
    if (head < huge_page) ::munmap(begin + head + size, huge_page - head);
    begin += head;
    ::madvise(begin, size, MADV_HUGEPAGE);  // a wish: where the kernel has no huge pages, small ones serve
  }
  buffer.data_ = begin;
  buffer.size_ = bytes;
  return buffer;
}

void release_freed_memory() {
#ifdef __GLIBC__
  (void)::malloc_trim(0);
#endif
}

size_t resident_bytes() {
  // "<total> <resident> ..." in pages.
  const auto statm = read_file("/proc/self/statm", small_file);
  if (!statm) return 0;
  const size_t space = statm->find(' ');
  if (space == std::string::npos) return 0;
  return leading_number(std::string_view(*statm).substr(space)).value_or(0) * page_size();
}

MemoryBudget memory_budget(const std::filesystem::path& root, std::string_view membership, std::string_view meminfo) {
  MemoryBudget budget{std::numeric_limits<size_t>::max(), std::numeric_limits<size_t>::max()};
  if (const auto total = field(meminfo, "MemTotal:")) budget.limit = *total << 10;
  if (const auto available = field(meminfo, "MemAvailable:")) budget.available = *available << 10;
  for (const auto& folder : cgroup_folders(root, membership, "memory")) {
    for (const Names& names : versions) {
      const auto limit = number_in(folder / names.limit);
      if (!limit) continue;
      budget.limit = std::min<size_t>(budget.limit, *limit);
      const auto usage = number_in(folder / names.usage);
      if (!usage) continue;
      const auto stat = read_file(folder / "memory.stat", small_file);
      const uint64_t cache = stat ? field(*stat, names.inactive_file).value_or(0) : 0;
      const uint64_t held = *usage - std::min(*usage, cache);
      budget.available = std::min<size_t>(budget.available, *limit - std::min(*limit, held));
    }
  }
  budget.available = std::min(budget.available, budget.limit);
  return budget;
}

size_t memory_limit_bytes() {
  return this_process().limit;
}
size_t memory_available_bytes() {
  return this_process().available;
}

}  // namespace tidemill::base
