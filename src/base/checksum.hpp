// Checksums that find accidents (a flipped bit, a lost block), not forgeries: XXH3, 64 bits (https://xxhash.com).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_team.hpp"

namespace tidemill::base {

uint64_t checksum(std::span<const std::byte> bytes);

// A checksum of data large enough for several threads: that of the checksums (little-endian) of its pieces of 1 MiB, of
// which the last may be shorter. All of the below give the same number for the same bytes.
inline constexpr size_t kChecksumPiece = size_t{1} << 20;

uint64_t piecewise_checksum(std::span<const std::byte> bytes, ThreadTeam& team);

// The same for data that comes in portions of any size.
class PiecewiseChecksum {
 public:
  PiecewiseChecksum();
  ~PiecewiseChecksum();
  PiecewiseChecksum(const PiecewiseChecksum&) = delete;
  PiecewiseChecksum& operator=(const PiecewiseChecksum&) = delete;

  void add(std::span<const std::byte> bytes);
  // The checksum of all that was added; then starts anew.
  uint64_t finish();

 private:
  struct State;  // of the piece that is not whole yet
  std::unique_ptr<State> state_;
  size_t in_piece_ = 0;
  std::vector<uint64_t> pieces_;
};

}  // namespace tidemill::base
