// Where each session was last served.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>
#include <utility>

#include "route/prefix_index.hpp"

namespace tidemill::route {

// Keeps the most recently used half of `most` sessions at least, and never more than `most`: what is used goes into the
// newer of two tables, and when that is half of all, the older is dropped for it.
//
// Not thread-safe.
class SessionHomes {
 public:
  explicit SessionHomes(size_t most) : half_(most / 2 + 1) {}

  std::optional<Backend> find(uint64_t session) const;
  void set(uint64_t session, Backend backend);
  size_t size() const { return newer_.size() + older_.size(); }

 private:
  size_t half_;
  std::unordered_map<uint64_t, Backend> newer_;
  std::unordered_map<uint64_t, Backend> older_;
};

}  // namespace tidemill::route
