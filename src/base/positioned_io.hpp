// Bytes at a place of an open file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/result.hpp"

namespace tidemill::base {

// Writes all of them. Errors: `io` with the system's reason, naming `path`.
Result<void> write_at(int fd, std::span<const std::byte> bytes, uint64_t offset, const std::filesystem::path& path);

// Reads as many as there are, and says how many: fewer than were asked for where the file ends. Errors as above.
Result<size_t> read_at(int fd, std::span<std::byte> bytes, uint64_t offset, const std::filesystem::path& path);

}  // namespace tidemill::base
