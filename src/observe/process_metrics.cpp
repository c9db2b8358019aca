#include "observe/process_metrics.hpp"

#include <charconv>
#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.hpp"
#include "base/memory.hpp"
#include "base/version.hpp"

namespace tidemill::observe {

namespace {

double cpu_seconds() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  const auto in_seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return in_seconds(usage.ru_utime) + in_seconds(usage.ru_stime);
}

// The word at `index` of a line, from 0.
std::string_view word(std::string_view line, int index) {
  for (; index > 0; --index) {
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) return {};
    line.remove_prefix(space + 1);
  }
  return line.substr(0, line.find(' '));
}

double number(std::string_view text) {
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// Seconds since the Unix epoch: proc(5), field 22 of stat is in clock ticks since the system's start. The second field,
// the program's name, may hold spaces and ends with the last parenthesis.
double start_time() {
  const auto stat = base::read_file("/proc/self/stat");
  const auto system = base::read_file("/proc/stat");
  if (!stat || !system) return 0;
  const size_t name_end = stat->rfind(") ");
  const size_t boot = system->find("btime ");
  if (name_end == std::string::npos || boot == std::string::npos) return 0;
  const std::string_view since_name = std::string_view(*stat).substr(name_end + 2);
  const double ticks = number(word(since_name, 19));
  return number(std::string_view(*system).substr(boot + 6)) + ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

double open_files() {
  std::error_code error;
  double count = 0;
  for (std::filesystem::directory_iterator at("/proc/self/fd", error), end; !error && at != end; at.increment(error))
    ++count;
  return count;
}

}  // namespace

ProcessMetrics::ProcessMetrics(Metrics& metrics) {
  metrics
      .gauge({"tidemill_build_info"}, "Always 1; the version is in the label",
             {{"version", std::string(base::version())}})
      .set(1);
  metrics.gauge({"process_start_time_seconds"}, "Start time of the process since the Unix epoch").set(start_time());
  auto& memory = metrics.gauge({"process_resident_memory_bytes"}, "Resident memory");
  auto& files = metrics.gauge({"process_open_fds"}, "Open file descriptors");
  auto& cpu = metrics.counter({"process_cpu_seconds_total"}, "User and system time spent");
  hook_ = metrics.on_collect([&memory, &files, &cpu] {
    memory.set(static_cast<double>(base::resident_bytes()));
    files.set(open_files());
    cpu.add(cpu_seconds() - cpu.value());
  });
}

}  // namespace tidemill::observe
