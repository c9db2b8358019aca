#include "base/map_faults.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <string>
#include <string_view>
#include <unistd.h>

namespace tidemill::base {
namespace {

constexpr size_t kPage = 4096;  // a map ends where a page does

// What a signal handler may read: nothing here is ever freed. `begin` is set last and taken away first.
struct Place {
  std::atomic<bool> taken;
  std::atomic<uintptr_t> begin;
  std::atomic<size_t> size;
  std::atomic<size_t> name_bytes;
  std::array<char, 232> name;
};
std::array<Place, 1024> places;

struct sigaction previous;

void say(std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(STDERR_FILENO, text.data(), text.size());
    if (put <= 0) return;
    text.remove_prefix(static_cast<size_t>(put));
  }
}

void on_fault(int /*signal*/, siginfo_t* info, void* /*context*/) {
  const bool sent = info->si_code <= 0;  // by a process
  const auto at = sent ? 0 : reinterpret_cast<uintptr_t>(info->si_addr);
  for (const Place& place : places) {
    const uintptr_t begin = place.begin.load(std::memory_order_acquire);
    if (begin == 0 || at < begin || at - begin >= (place.size.load() + kPage - 1) / kPage * kPage) continue;
    say("tidemill: '");
    say({place.name.data(), place.name_bytes.load()});
    say("' was cut short, or its disk failed, while it was in use; replace files in use by renaming\n");
    ::_exit(1);
  }
  ::sigaction(SIGBUS, &previous, nullptr);
  if (sent) ::raise(SIGBUS);  // else the same access comes again
}

}  // namespace

void explain_map_faults() {
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, &previous);
}

NamedMap::NamedMap(std::span<const std::byte> bytes, const std::filesystem::path& path) {
  const auto free =
      std::find_if(places.begin(), places.end(), [](Place& place) { return !place.taken.exchange(true); });
  if (free == places.end()) return;
  const std::string& name = path.native();
  const size_t kept = std::min(name.size(), free->name.size());
  std::copy_n(name.end() - static_cast<std::ptrdiff_t>(kept), kept, free->name.begin());  // the end says more
  free->name_bytes = kept;
  free->size = bytes.size();
  free->begin.store(reinterpret_cast<uintptr_t>(bytes.data()), std::memory_order_release);
  place_ = static_cast<int>(free - places.begin());
}

NamedMap& NamedMap::operator=(NamedMap&& other) noexcept {
  std::swap(place_, other.place_);
  return *this;
}

NamedMap::~NamedMap() {
  if (place_ < 0) return;
  Place& place = places[static_cast<size_t>(place_)];
  place.begin = 0;
  place.taken = false;
}

}  // namespace tidemill::base
