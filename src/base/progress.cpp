#include "base/progress.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "base/units.hpp"
#include "base/utf8.hpp"

namespace tidemill::base {
namespace {

constexpr auto redraw_interval = std::chrono::milliseconds(100);
constexpr int bar_width = 24;
constexpr std::string_view restart_line = "\r\x1b[K";

// Labels hold file names, which hold anything: nothing in them may move the cursor.
std::string printable(std::string_view text) {
  std::string out;
  const std::string clean = utf8::sanitize(text);
  for (std::string_view rest = clean; !rest.empty();) {
    const auto decoded = utf8::decode(rest);
    const bool control = decoded.code_point < 0x20 || (decoded.code_point >= 0x7f && decoded.code_point < 0xa0);
    utf8::append(out, control ? U'?' : decoded.code_point);
    rest.remove_prefix(decoded.length);
  }
  return out;
}

std::string clock_face(double left) {
  if (!(left < 360'000)) return "--:--";
  const auto whole = static_cast<int64_t>(std::ceil(left));
  if (whole < 3600) return fmt::format("{}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

std::string amount(double value, Progress::Unit unit) {
  if (unit == Progress::Unit::bytes) return human_bytes(value);
  return value < 100 && value != std::floor(value) ? fmt::format("{:.1f}", value) : fmt::format("{:.0f}", value);
}

}  // namespace

Progress::Progress(std::string label, uint64_t total, Unit unit, Sink sink, const Clock& clock, int width)
    : label_(printable(label)),
      total_(total),
      unit_(unit),
      sink_(std::move(sink)),
      clock_(clock),
      width_(width),
      start_(clock.now()) {}

Progress::~Progress() {
  const std::lock_guard lock(mutex_);
  if (sink_ && drawn_ && !finished_) sink_(restart_line);
}

void Progress::start_at(uint64_t done) {
  const std::lock_guard lock(mutex_);
  done_before_ = done;
  update(done);
}

void Progress::advance(uint64_t by) {
  const std::lock_guard lock(mutex_);
  update(done_ + std::min(by, std::numeric_limits<uint64_t>::max() - done_));
}

void Progress::set(uint64_t done) {
  const std::lock_guard lock(mutex_);
  update(done);
}

void Progress::finish() {
  const std::lock_guard lock(mutex_);
  if (finished_) return;
  finished_ = true;
  if (!sink_ || !drawn_) return;
  draw(clock_.now());
  sink_("\n");
}

void Progress::update(uint64_t done) {
  done_ = total_ == 0 ? done : std::min(done, total_);
  if (!sink_ || finished_) return;
  const SteadyTime now = clock_.now();
  // Work that is over at once is not worth a line, and its first rate would be nonsense.
  if (now - drawn_.value_or(start_) >= redraw_interval) draw(now);
}

void Progress::draw(SteadyTime now) {
  drawn_ = now;
  const double elapsed = seconds(now - start_);
  const uint64_t done_here = done_ - std::min(done_, done_before_);
  const double rate = elapsed > 0 ? static_cast<double>(done_here) / elapsed : 0;
  std::string figures;
  if (total_ != 0) {
    const double share = static_cast<double>(done_) / static_cast<double>(total_);
    const int full = static_cast<int>(share * bar_width);
    figures = fmt::format(" [{}{}] {:3}%", std::string(static_cast<size_t>(full), '#'),
                          std::string(static_cast<size_t>(bar_width - full), '-'), static_cast<int>(share * 100));
  } else {
    figures = " " + amount(static_cast<double>(done_), unit_);
  }
  if (rate > 0) figures += fmt::format("  {}/s", amount(rate, unit_));
  if (total_ != 0 && done_ < total_ && rate > 0) {
    figures += "  ETA " + clock_face(static_cast<double>(total_ - done_) / rate);
  } else if (finished_) {
    figures += "  in " + clock_face(elapsed);
  }
  const size_t columns = static_cast<size_t>(std::max(width_, 0));
  const size_t for_label = columns - std::min(columns, figures.size());
  sink_(fmt::format("{}{}{}", restart_line, utf8::prefix(label_, for_label), utf8::prefix(figures, columns)));
}

ReportedProgress::ReportedProgress(std::string label, Progress::Unit unit, Progress::Sink sink, const Clock& clock)
    : label_(std::move(label)), unit_(unit), sink_(std::move(sink)), clock_(clock) {}

void ReportedProgress::report(uint64_t done, uint64_t total) {
  if (bar_) {
    bar_->set(done);
    return;
  }
  bar_.emplace(label_, total, unit_, sink_, clock_);
  bar_->start_at(done);
}

std::function<void(size_t, size_t)> ReportedProgress::reporter() {
  return [this](size_t done, size_t total) { report(done, total); };
}

void ReportedProgress::finish() {
  if (bar_) bar_->finish();
  bar_.reset();
}

Progress::Sink Progress::terminal(bool wanted) {
  const char* kind = std::getenv("TERM");  // NOLINT(concurrency-mt-unsafe)
  if (!wanted || ::isatty(STDERR_FILENO) == 0 || kind == nullptr || std::string_view(kind) == "dumb") return {};
  return [](std::string_view text) {
    while (!text.empty()) {
      const ssize_t put = ::write(STDERR_FILENO, text.data(), text.size());
      if (put <= 0) return;  // a lost bar is no reason to stop
      text.remove_prefix(static_cast<size_t>(put));
    }
  };
}

}  // namespace tidemill::base
