// Bytes at a place of a file, all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/result.hpp"

namespace tidemill::quantize {

// Errors: `io` with the system's reason, naming `path`.
base::Result<void> write_at(int fd, std::span<const std::byte> bytes, uint64_t offset,
                            const std::filesystem::path& path);

// False where it cannot: errno says why, and is 0 where the file ends before.
bool read_at(int fd, std::span<std::byte> bytes, uint64_t offset);

}  // namespace tidemill::quantize
