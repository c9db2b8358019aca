// What a store remembers of writes that it took none of, as it is full or may only be read: until one as large is known
// to succeed, those who ask whether it works are told that it does not.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace tidemill::session {

// Thread-safe.
class RefusedWrites {
 public:
  // One was refused whose records take `bytes`; 0: it was none of records.
  void note(uint64_t bytes) {
    uint64_t known = largest_;
    while (known < bytes && !largest_.compare_exchange_weak(known, bytes)) {
    }
    any_ = true;
  }
  bool any() const { return any_; }
  // How much to write to find out: as much as was refused, within bounds. Where there is room for little, a small write
  // would succeed, and what is waited for fail.
  uint64_t probe_bytes(uint64_t least, uint64_t most) const { return std::clamp<uint64_t>(largest_, least, most); }
  // So much was written.
  void forget() {
    largest_ = 0;
    any_ = false;
  }

 private:
  std::atomic<bool> any_{false};
  std::atomic<uint64_t> largest_{0};
};

}  // namespace tidemill::session
