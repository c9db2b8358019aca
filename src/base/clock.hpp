// Time is passed in, so that schedulers, limits and failovers can be tested in simulated time.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>

namespace tidemill::base {

using Duration = std::chrono::nanoseconds;
using SteadyTime = std::chrono::time_point<std::chrono::steady_clock, Duration>;
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

// A source of time. Implementations are thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual SteadyTime now() const = 0;     // never runs backwards; for durations and deadlines
  virtual WallTime wall_now() const = 0;  // for timestamps shown to people and peers
};

// The machine's clock.
class SystemClock final : public Clock {
 public:
  SteadyTime now() const override;
  WallTime wall_now() const override;
  static const SystemClock& instance();
};

// A clock that moves only when told to.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(WallTime start = WallTime(std::chrono::seconds(1'700'000'000))) : wall_(start) {}
  SteadyTime now() const override;
  WallTime wall_now() const override;
  void advance(Duration by);

 private:
  mutable std::mutex mutex_;
  SteadyTime steady_{};
  WallTime wall_;
};

// Seconds as a double, for metrics and reports.
inline double seconds(Duration d) {
  return std::chrono::duration<double>(d).count();
}
// Nanoseconds since the Unix epoch, as OTLP wants them.
inline int64_t unix_nanos(WallTime t) {
  return t.time_since_epoch().count();
}

}  // namespace tidemill::base
