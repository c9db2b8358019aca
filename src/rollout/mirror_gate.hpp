// Which requests are copied to a shadow: a share of them, and fewer or none where there is no room.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace tidemill::rollout {

struct MirrorOptions {
  std::string name = {};                  // of the mirror: the salt that decides which requests are copied
  double share = 0.01;                    // of the requests, 0 to 1
  int64_t max_in_flight = 16;             // copies at a time; more are dropped, never queued
  int64_t max_bytes = int64_t{64} << 20;  // of copies at a time, requests and answers
  double max_pressure = 0.7;              // of the gateway, 0 to 1, from which on nothing is copied
};

struct MirrorCounts {
  int64_t mirrored = 0;
  int64_t not_sampled = 0;
  int64_t dropped_busy = 0;      // max_in_flight or max_bytes was reached
  int64_t dropped_pressure = 0;  // the gateway had better things to do
  int64_t in_flight = 0;
};

// Thread-safe, without locks. Whether a request is sampled depends on its id and the mirror's name alone, so that a
// retry, or another gateway, decides alike.
class MirrorGate {
 public:
  // Holds the room of one copy until it is destroyed. May outlive the gate.
  class Ticket {
   public:
    Ticket(Ticket&&) noexcept = default;
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket() { release(); }
    // Whether there is room for `bytes` more, of the copy's answer, say; if not, give the copy up.
    bool grow(int64_t bytes);

   private:
    friend class MirrorGate;
    struct Room;
    Ticket(std::shared_ptr<Room> room, int64_t bytes) : room_(std::move(room)), bytes_(bytes) {}
    void release();

    std::shared_ptr<Room> room_;
    int64_t bytes_;
  };

  // Errors: invalid_argument.
  static base::Result<std::unique_ptr<MirrorGate>> create(MirrorOptions options);

  // A ticket if the request `id`, of `bytes`, is to be copied now. `pressure`: how much of what the gateway can do it
  // is doing, 0 to 1.
  std::optional<Ticket> admit(std::string_view id, int64_t bytes, double pressure);
  MirrorCounts counts() const;

 private:
  explicit MirrorGate(MirrorOptions options);

  const MirrorOptions options_;
  const std::shared_ptr<Ticket::Room> room_;
  std::atomic<int64_t> mirrored_{0};
  std::atomic<int64_t> not_sampled_{0};
  std::atomic<int64_t> dropped_busy_{0};
  std::atomic<int64_t> dropped_pressure_{0};
};

}  // namespace tidemill::rollout
