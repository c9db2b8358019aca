// A progress bar for long work, one line redrawn in place on standard error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"

namespace tidemill::base {

// Shows label, share done, rate and time left, first drawn after a tenth of a second and redrawn at most ten times a
// second. Thread-safe.
class Progress {
 public:
  enum class Unit { items, bytes };
  // Where the line goes; empty for nowhere.
  using Sink = std::function<void(std::string_view)>;

  // `total` 0 means unknown: then there is neither a share nor a time left. `clock` must outlive the bar. Lines are at
  // most `width` columns wide.
  Progress(std::string label, uint64_t total, Unit unit, Sink sink, const Clock& clock = SystemClock::instance(),
           int width = 80);
  // Wipes the line if `finish` was not called: the work failed, and an error message follows.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // What had been done before this bar was made, where work goes on: a part of the share, and none of the rate.
  void start_at(uint64_t done);
  void advance(uint64_t by);
  void set(uint64_t done);
  // Draws the last state and ends the line, if work took long enough for one. Later calls do nothing.
  void finish();

  // Standard error if a person is watching it: it is a terminal that can redraw, and `wanted` is true (it is not with
  // --json). Otherwise nowhere.
  static Sink terminal(bool wanted);

 private:
  void update(uint64_t done);
  void draw(SteadyTime now);

  const std::string label_;
  const uint64_t total_;
  const Unit unit_;
  const Sink sink_;
  const Clock& clock_;
  const int width_;
  const SteadyTime start_;

  std::mutex mutex_;
  uint64_t done_ = 0;
  uint64_t done_before_ = 0;
  std::optional<SteadyTime> drawn_;
  bool finished_ = false;
};

// A bar for work that says itself how much of it there is: it is made with the work's first report, and what that says
// is done is none of the rate. Not thread-safe: reports come one at a time.
class ReportedProgress {
 public:
  // As Progress.
  ReportedProgress(std::string label, Progress::Unit unit, Progress::Sink sink,
                   const Clock& clock = SystemClock::instance());
  ReportedProgress(const ReportedProgress&) = delete;
  ReportedProgress& operator=(const ReportedProgress&) = delete;

  void report(uint64_t done, uint64_t total);
  // report(), as the options of what works want it. This must outlive it.
  std::function<void(size_t done, size_t total)> reporter();
  // Progress::finish(), where there is a bar. The next report makes another.
  void finish();
  // Takes the line away, for other words or where nobody needs it any more. The next report makes another.
  void wipe() { bar_.reset(); }

 private:
  const std::string label_;
  const Progress::Unit unit_;
  const Progress::Sink sink_;
  const Clock& clock_;
  std::optional<Progress> bar_;
};

}  // namespace tidemill::base
