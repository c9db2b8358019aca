// Large aligned buffers for weights, KV blocks and activations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <utility>

#include "base/result.hpp"

namespace tidemill::base {

// Zeroed memory from the operating system, 64-byte aligned (page-aligned in fact), asked to be on 2 MiB pages where it
// is large enough to gain from them. Owned; movable, not copyable.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  // `bytes` may be 0. Fails with `exhausted` when the system has not enough memory.
  static Result<Buffer> allocate(size_t bytes);

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }

  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(data_);
  }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Resident set of this process in bytes, now.
size_t resident_bytes();
// The most memory this process may use: the machine's, or the cgroup's limit where that is lower, in bytes.
size_t memory_limit_bytes();
// What is still available to this process of that limit, in bytes.
size_t memory_available_bytes();

// Gives the system back what has been freed and is kept for reuse: milliseconds, for after something large.
void release_freed_memory();

struct MemoryBudget {
  size_t limit;
  size_t available;
};
// Both numbers, from a cgroup file system at `root`, the process's /proc/self/cgroup content and a /proc/meminfo
// content. Page cache that the kernel would drop under pressure counts as available. Split out for tests.
MemoryBudget memory_budget(const std::filesystem::path& root, std::string_view membership, std::string_view meminfo);

}  // namespace tidemill::base
