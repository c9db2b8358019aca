// What a prefix cache holds, in a file: blocks of keys and values with the tokens that they stand for.
//
//   "TMPREFIX", u32 version (1), u32 number of tenants, u64 number of blocks, u64 bytes of a block's content, u32
//   tokens of a block, u32 bytes of the identity; the identity; for each tenant u32 bytes and its name; for each block
//   i64 place (>= 0: the block above it, counted from 0; -1 - t: none, it is of tenant t), its tokens as i32, its
//   content; u64 base::PiecewiseChecksum of all that.
//
// Little-endian. A block comes after the one above it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "base/result.hpp"
#include "engine/kv_blocks.hpp"
#include "tensor/device.hpp"

namespace tidemill::engine {

inline constexpr uint32_t kPrefixFileVersion = 2;

// Whether something stands at `path` that is neither one of these files nor empty: it is never written over. Error
// `io`: that cannot be found out.
base::Result<bool> is_foreign_to_prefixes(const std::filesystem::path& path);
// That a file can be made at `path`.
base::Result<void> check_prefix_path(const std::filesystem::path& path);

// Both as Engine::save_prefixes and restore_prefixes. The file replaces an older one when it is whole, and may be read
// by its owner alone; with nothing to keep, none is written.
base::Result<int64_t> write_prefix_file(const std::filesystem::path& path, std::string_view identity,
                                        const KvBlocks& blocks, const tensor::KvCache& cache);
base::Result<int64_t> read_prefix_file(const std::filesystem::path& path, std::string_view identity, KvBlocks& blocks,
                                       tensor::KvCache& cache);

}  // namespace tidemill::engine
