// How much of what is read again and again never comes from memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace tidemill::base {

// Bytes of the last-level caches that this process' CPUs have, each counted once; 0 where the system does not say.
size_t last_level_cache_bytes();

// The same of the CPUs numbered, where `root` stands for the root of the file system (sys/devices/system/cpu is read
// below it).
size_t last_level_cache_bytes(const std::filesystem::path& root, std::span<const int> cpus);

}  // namespace tidemill::base
