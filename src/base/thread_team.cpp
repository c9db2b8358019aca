#include "base/thread_team.hpp"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <pthread.h>
#include <signal.h>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/cpu_budget.hpp"
#include "base/log.hpp"

namespace tidemill::base {
namespace {

using Body = FunctionRef<void(int64_t, int64_t, int)>;

// Long enough to bridge the gaps between the regions of a decode step, short against a time slice.
constexpr auto spin_time = std::chrono::microseconds(50);

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until `ready()` or for `spin_time`; returns what `ready()` last said.
template <typename Ready>
bool spin_until(const Ready& ready) {
  if (ready()) return true;
  const auto deadline = std::chrono::steady_clock::now() + spin_time;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  return ready();
}

}  // namespace

// How a region runs. The owner writes `region`, then sets `remaining` to the number of chunks. Whoever lowers
// `remaining` from a positive value owns the chunk of that number, and only then reads `region`: it cannot change
// before this chunk is counted in `done`, for which the owner waits. So a member that comes late either takes a chunk
// of the region that is running, or lowers a number that is not positive, finds nothing and has read nothing. The owner
// never waits for a member that has taken no chunk.
struct ThreadTeam::State {
  struct Region {
    const Body* body = nullptr;
    int64_t count = 0;
    int64_t chunk = 0;
    int64_t chunks = 0;
  };

  Region region;
  alignas(64) std::atomic<int64_t> remaining{0};
  std::atomic<uint64_t> epoch{0};  // regions so far, and one for the end
  alignas(64) std::atomic<int64_t> done{0};
  alignas(64) std::atomic<int> sleepers{0};
  std::atomic<bool> owner_sleeps{false};
  std::atomic<bool> stop{false};

  std::mutex mutex;
  std::condition_variable wake_members;
  std::condition_variable wake_owner;

  int size = 1;
  bool spins = true;  // not where the team has more threads than processors: a spinner would hold up a worker
  std::vector<std::thread> threads;

  // Takes chunks until none is left; returns how many it ran.
  int64_t work(int member) {
    int64_t ran = 0;
    // The load keeps idle members from lowering the number without end.
    while (remaining.load(std::memory_order_relaxed) > 0) {
      const int64_t left = remaining.fetch_sub(1, std::memory_order_acquire);
      if (left <= 0) break;
      const int64_t begin = (region.chunks - left) * region.chunk;
      (*region.body)(begin, begin + std::min(region.chunk, region.count - begin), member);
      ++ran;
    }
    return ran;
  }

  void member_loop(int member) {
    uint64_t seen = epoch.load(std::memory_order_acquire);
    while (!stop.load(std::memory_order_acquire)) {
      if (const int64_t ran = work(member); ran > 0) report(ran);
      const auto news = [this, seen] { return epoch.load(std::memory_order_acquire) != seen; };
      if (!(spins ? spin_until(news) : news())) sleep_until_news(seen);
      seen = epoch.load(std::memory_order_acquire);
    }
  }

  // The two pairs of sequentially consistent operations, (epoch, sleepers) and (done, owner_sleeps), make sure that of
  // a sleeper and its waker at least one sees what the other wrote.
  void sleep_until_news(uint64_t seen) {
    std::unique_lock lock(mutex);
    sleepers.fetch_add(1);
    wake_members.wait(lock, [&] { return epoch.load() != seen; });
    sleepers.fetch_sub(1);
  }

  void announce(int64_t useful_members) {
    epoch.fetch_add(1);
    const int asleep = sleepers.load();
    if (asleep == 0) return;
    { const std::lock_guard lock(mutex); }  // whoever counted itself a sleeper is inside wait() after this
    if (useful_members >= asleep) {
      wake_members.notify_all();
    } else {
      for (int64_t i = 0; i < useful_members; ++i)
        wake_members.notify_one();
    }
  }

  void report(int64_t ran) {
    done.fetch_add(ran);
    if (!owner_sleeps.load()) return;
    { const std::lock_guard lock(mutex); }
    wake_owner.notify_one();
  }

  void await(int64_t chunks) {
    const auto finished = [this, chunks] { return done.load() == chunks; };
    if (spins ? spin_until(finished) : finished()) return;
    std::unique_lock lock(mutex);
    owner_sleeps.store(true);
    wake_owner.wait(lock, finished);
    owner_sleeps.store(false);
  }
};

ThreadTeam::ThreadTeam(int size) : state_(std::make_unique<State>()) {
  assert(size >= 1);
  State& state = *state_;
  state.spins = size > 1 && size <= cpu_budget();
  // Members take no signals: those are for the thread that waits for them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (int member = 1; member < size; ++member) {
    try {
      state.threads.emplace_back([&state, member] { state.member_loop(member); });
    } catch (const std::system_error& error) {
      log::warn("only {} of {} compute threads could be started: {}", member, size, error.what());
      break;
    }
    pthread_setname_np(state.threads.back().native_handle(), ("compute-" + std::to_string(member)).c_str());
    state.size = member + 1;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

ThreadTeam::~ThreadTeam() {
  state_->stop.store(true);
  state_->announce(state_->size);
  for (std::thread& thread : state_->threads)
    thread.join();
}

int ThreadTeam::size() const {
  return state_->size;
}

void ThreadTeam::parallel_for(int64_t count, int64_t chunk, Body body) {
  assert(chunk >= 1);
  if (count <= 0) return;
  State& state = *state_;
  const int64_t chunks = count / chunk + (count % chunk != 0 ? 1 : 0);
  if (state.size == 1 || chunks == 1) {
    for (int64_t begin = 0; begin < count; begin += std::min(chunk, count - begin)) {
      body(begin, begin + std::min(chunk, count - begin), 0);
    }
    return;
  }
  state.region = {&body, count, chunk, chunks};
  state.done.store(0, std::memory_order_relaxed);
  state.remaining.store(chunks, std::memory_order_release);
  state.announce(chunks - 1);
  const int64_t ran = state.work(0);
  if (state.done.fetch_add(ran) + ran != chunks) state.await(chunks);
}

}  // namespace tidemill::base
