#include "rollout/mirror_gate.hpp"

#include <utility>

#include <fmt/core.h>

#include "rollout/chance.hpp"

namespace tidemill::rollout {

struct MirrorGate::Ticket::Room {
  Room(int64_t copies_at_most, int64_t bytes_at_most) : most_copies(copies_at_most), most_bytes(bytes_at_most) {}

  const int64_t most_copies;
  const int64_t most_bytes;
  std::atomic<int64_t> copies{0};
  std::atomic<int64_t> bytes{0};

  // Takes first and looks then, so that two never take the same room.
  static bool take(std::atomic<int64_t>& taken, int64_t amount, int64_t most) {
    if (taken.fetch_add(amount, std::memory_order_relaxed) + amount <= most) return true;
    taken.fetch_sub(amount, std::memory_order_relaxed);
    return false;
  }
};

MirrorGate::Ticket& MirrorGate::Ticket::operator=(Ticket&& other) noexcept {
  if (this == &other) return *this;
  release();
  room_ = std::move(other.room_);
  bytes_ = other.bytes_;
  return *this;
}

bool MirrorGate::Ticket::grow(int64_t bytes) {
  if (!Room::take(room_->bytes, bytes, room_->most_bytes)) return false;
  bytes_ += bytes;
  return true;
}

void MirrorGate::Ticket::release() {
  if (!room_) return;
  room_->bytes.fetch_sub(bytes_, std::memory_order_relaxed);
  room_->copies.fetch_sub(1, std::memory_order_relaxed);
  room_.reset();
}

base::Result<std::unique_ptr<MirrorGate>> MirrorGate::create(MirrorOptions options) {
  const auto invalid = [](std::string message) {
    return base::Error(base::ErrorCode::invalid_argument, std::move(message));
  };
  if (!(options.share >= 0 && options.share <= 1))
    return invalid(fmt::format("a mirror's share is {}: it is between 0 and 1", options.share));
  if (!(options.max_pressure >= 0 && options.max_pressure <= 1))
    return invalid(fmt::format("a mirror's max_pressure is {}: it is between 0 and 1", options.max_pressure));
  if (options.max_in_flight < 0 || options.max_bytes < 0)
    return invalid(fmt::format("a mirror holds at most {} copies and {} bytes: neither is below 0",
                               options.max_in_flight, options.max_bytes));
  return std::unique_ptr<MirrorGate>(new MirrorGate(std::move(options)));
}

MirrorGate::MirrorGate(MirrorOptions options)
    : options_(std::move(options)), room_(std::make_shared<Ticket::Room>(options_.max_in_flight, options_.max_bytes)) {}

std::optional<MirrorGate::Ticket> MirrorGate::admit(std::string_view id, int64_t bytes, double pressure) {
  if (fraction(unit_of(options_.name, id)) >= options_.share) {
    not_sampled_.fetch_add(1, std::memory_order_relaxed);
    return std::nullopt;
  }
  if (!(pressure < options_.max_pressure)) {
    dropped_pressure_.fetch_add(1, std::memory_order_relaxed);
    return std::nullopt;
  }
  if (!Ticket::Room::take(room_->copies, 1, room_->most_copies)) {
    dropped_busy_.fetch_add(1, std::memory_order_relaxed);
    return std::nullopt;
  }
  Ticket ticket(room_, 0);
  if (!ticket.grow(bytes)) {
    dropped_busy_.fetch_add(1, std::memory_order_relaxed);
    return std::nullopt;
  }
  mirrored_.fetch_add(1, std::memory_order_relaxed);
  return ticket;
}

MirrorCounts MirrorGate::counts() const {
  return {.mirrored = mirrored_.load(std::memory_order_relaxed),
          .not_sampled = not_sampled_.load(std::memory_order_relaxed),
          .dropped_busy = dropped_busy_.load(std::memory_order_relaxed),
          .dropped_pressure = dropped_pressure_.load(std::memory_order_relaxed),
          .in_flight = room_->copies.load(std::memory_order_relaxed)};
}

}  // namespace tidemill::rollout
