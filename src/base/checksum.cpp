#include "base/checksum.hpp"

#include <algorithm>

// Compiled in, since the state of a running checksum has its size only then.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tidemill::base {

struct PiecewiseChecksum::State {
  XXH3_state_t running;
};

uint64_t checksum(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

uint64_t piecewise_checksum(std::span<const std::byte> bytes, ThreadTeam& team) {
  std::vector<uint64_t> pieces((bytes.size() + kChecksumPiece - 1) / kChecksumPiece);
  team.parallel_for(static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end, int /*member*/) {
    for (auto piece = static_cast<size_t>(begin); piece < static_cast<size_t>(end); ++piece) {
      const size_t from = piece * kChecksumPiece;
      pieces[piece] = checksum(bytes.subspan(from, std::min(kChecksumPiece, bytes.size() - from)));
    }
  });
  return checksum(std::as_bytes(std::span(pieces)));
}

PiecewiseChecksum::PiecewiseChecksum() : state_(std::make_unique<State>()) {
  XXH3_64bits_reset(&state_->running);
}

PiecewiseChecksum::~PiecewiseChecksum() = default;

void PiecewiseChecksum::add(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(bytes.size(), kChecksumPiece - in_piece_));
    XXH3_64bits_update(&state_->running, part.data(), part.size());
    in_piece_ += part.size();
    bytes = bytes.subspan(part.size());
    if (in_piece_ < kChecksumPiece) return;
    pieces_.push_back(XXH3_64bits_digest(&state_->running));
    XXH3_64bits_reset(&state_->running);
    in_piece_ = 0;
  }
}

uint64_t PiecewiseChecksum::finish() {
  if (in_piece_ > 0) pieces_.push_back(XXH3_64bits_digest(&state_->running));
  const uint64_t sum = checksum(std::as_bytes(std::span(pieces_)));
  XXH3_64bits_reset(&state_->running);
  in_piece_ = 0;
  pieces_.clear();
  return sum;
}

}  // namespace tidemill::base
