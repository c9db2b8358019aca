#include "base/thread_team.hpp"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/courtesy.hpp"
#include "base/cpu_budget.hpp"
#include "base/log.hpp"

namespace tidemill::base {
namespace {

using Body = FunctionRef<void(int64_t, int64_t, int)>;

using SteadyClock = std::chrono::steady_clock;

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
  const auto deadline = SteadyClock::now() + spin_time;
  do {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      pause();
    }
  } while (SteadyClock::now() < deadline);
  return ready();
}

// Moves the calling thread off the processor that it is on, if its mask has another one; the mask is left as it was.
void change_processor() {
  const int here = sched_getcpu();
  cpu_set_t allowed;
  if (here < 0 || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  cpu_set_t others = allowed;
  CPU_CLR(static_cast<size_t>(here), &others);
  if (CPU_COUNT(&others) == 0) return;
  if (sched_setaffinity(0, sizeof others, &others) == 0) sched_setaffinity(0, sizeof allowed, &allowed);
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
  std::atomic<SteadyClock::rep> late_after{0};  // valid while the owner sleeps: chunks that end later are late
  std::atomic<int> owner_cpu{-1};
  std::atomic<bool> stop{false};

  std::mutex mutex;
  std::condition_variable wake_members;
  std::condition_variable wake_owner;

  int size = 1;
  bool spins = true;  // not where the team has more threads than processors: a spinner would hold up a worker
  std::vector<std::thread> threads;

  // Takes one chunk and runs it, if there is one.
  bool work_once(int member) {
    // The load keeps idle members from lowering the number without end.
    if (remaining.load(std::memory_order_relaxed) <= 0) return false;
    const int64_t left = remaining.fetch_sub(1, std::memory_order_acquire);
    if (left <= 0) return false;
    const int64_t begin = (region.chunks - left) * region.chunk;
    (*region.body)(begin, begin + std::min(region.chunk, region.count - begin), member);
    return true;
  }

  void member_loop(int member) {
    Courtesy courtesy;
    uint64_t seen = epoch.load(std::memory_order_acquire);
    while (!stop.load(std::memory_order_acquire)) {
      // The system pulls a waiting member to the owner's processor when the owner goes to sleep. It would stay there,
      // and the two would take turns on one processor, while the other one is the other process's alone.
      if (spins && sched_getcpu() == owner_cpu.load(std::memory_order_relaxed)) change_processor();
      int64_t ran = 0;
      Courtesy::Seconds rest{0};
      while (rest.count() == 0 && work_once(member)) {
        ++ran;
        if (courtesy.active()) rest = courtesy.due(SteadyClock::now());
      }
      if (ran > 0) report(ran, courtesy);
      if (rest.count() > 0) {
        std::this_thread::sleep_for(rest);
        courtesy.rested(SteadyClock::now());
        continue;
      }
      const auto news = [this, seen] { return epoch.load(std::memory_order_acquire) != seen; };
      if (!(spins ? spin_until(news) : news())) {
        sleep_until_news(seen);
        if (courtesy.active()) courtesy.rested(SteadyClock::now());
      }
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

  void report(int64_t ran, Courtesy& courtesy) {
    done.fetch_add(ran);
    if (!owner_sleeps.load()) return;
    // The owner may be asleep over a later region already: then this is not late.
    const auto now = SteadyClock::now();
    const SteadyClock::duration late(now.time_since_epoch().count() - late_after.load(std::memory_order_relaxed));
    if (spins && late.count() > 0) courtesy.waited_for(late, now);
    { const std::lock_guard lock(mutex); }
    wake_owner.notify_one();
  }

  // `chunk_time` is what a chunk of this region takes.
  void await(int64_t chunks, SteadyClock::duration chunk_time) {
    const auto finished = [this, chunks] { return done.load() == chunks; };
    const auto since = SteadyClock::now();
    if (spins ? spin_until(finished) : finished()) return;
    std::unique_lock lock(mutex);
    late_after.store((since + spin_time + 2 * chunk_time).time_since_epoch().count(), std::memory_order_relaxed);
    owner_sleeps.store(true);
    wake_owner.wait(lock, finished);
    owner_sleeps.store(false);
  }
};

ThreadTeam::ThreadTeam(int size) : state_(std::make_unique<State>()) {
  assert(size >= 1);
  State& state = *state_;
  state.spins = size > 1 && size <= cpu_budget().threads;
  // Members take no signals: those are for the thread that waits for them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  // But for those about what the thread itself does: blocked, they would end the program past any handler.
  for (const int own : {SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGTRAP})
    sigdelset(&all, own);
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
  if (state.spins) state.owner_cpu.store(sched_getcpu(), std::memory_order_relaxed);
  state.region = {&body, count, chunk, chunks};
  state.done.store(0, std::memory_order_relaxed);
  state.remaining.store(chunks, std::memory_order_release);
  state.announce(chunks - 1);
  const auto start = SteadyClock::now();
  int64_t ran = 0;
  while (state.work_once(0))
    ++ran;
  if (state.done.fetch_add(ran) + ran == chunks) return;
  state.await(chunks, (SteadyClock::now() - start) / std::max<int64_t>(ran, 1));
}

}  // namespace tidemill::base
