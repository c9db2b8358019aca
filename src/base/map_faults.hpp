// What a process says that reads a map of a file which is not there any more: somebody cut the file short in place, or
// its disk fails. The system ends the process then (SIGBUS), and says nothing.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

namespace tidemill::base {

// For main(): from now on such a process names the file on standard error, and ends with status 1. SIGBUS for another
// reason does what it did before. Once.
void explain_map_faults();

// A map by the name of its file, as long as this lives. Thread-safe; the name of a map beyond the first 1,024 at a time
// is not kept. Movable.
class NamedMap {
 public:
  NamedMap() = default;
  NamedMap(std::span<const std::byte> bytes, const std::filesystem::path& path);
  NamedMap(NamedMap&& other) noexcept { *this = std::move(other); }
  NamedMap& operator=(NamedMap&& other) noexcept;
  ~NamedMap();

 private:
  int place_ = -1;
};

}  // namespace tidemill::base
