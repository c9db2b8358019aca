#include "tensor/ceilings.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "base/memory.hpp"
#include "base/thread_team.hpp"
#include "tensor/kernels.hpp"

namespace tidemill::tensor {
namespace {

constexpr double kSecondsEach = 0.4;
constexpr int64_t kReadBytes = int64_t{256} << 20;
// One timed round: about a millisecond. Rounds go through the whole buffer in turn, so none finds its bytes in a cache.
constexpr int64_t kReadRound = int64_t{16} << 20;
constexpr int64_t kReadChunk = int64_t{1} << 20;
constexpr int64_t kPeakRounds = 20'000;  // about a millisecond
constexpr int64_t kLaneCount = 16;

// The median rate over rounds of `round()`, each worth `work`: what the machine gives, not what it gave once, since the
// speeds that are held against it are medians too.
template <typename Round>
double median_rate(const base::Clock& clock, double work, Round&& round) {
  const base::SteadyTime start = clock.now();
  base::SteadyTime before = start;
  std::vector<double> rates;
  // At least three rounds: the first one wakes the threads and touches the memory.
  for (int rounds = 0; rounds < 3 || base::seconds(before - start) < kSecondsEach; ++rounds) {
    round();
    const base::SteadyTime after = clock.now();
    if (const double seconds = base::seconds(after - before); seconds > 0) rates.push_back(work / seconds);
    before = after;
    if (rounds == 1'000'000) break;  // a clock that stands still
  }
  if (rates.empty()) return 0;
  const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
  std::nth_element(rates.begin(), middle, rates.end());
  return *middle;
}

}  // namespace

base::Result<Ceilings> measure_ceilings(Isa isa, int threads, const base::Clock& clock) {
  const Kernels& kernels = kernels_for(isa);
  base::ThreadTeam team(threads);
  std::atomic<uint64_t> sink = 0;
  Ceilings found;

  // Half of what is free, at most: measuring must not push anybody out of memory.
  const auto half_of_free = static_cast<int64_t>(base::memory_available_bytes() / 2);
  const int64_t bytes = std::max(kReadRound, std::min(kReadBytes, half_of_free) / kReadRound * kReadRound);
  TM_TRY(base::Buffer buffer, base::Buffer::allocate(static_cast<size_t>(bytes)));
  // Written first: untouched pages would all be the one zero page, read from the cache.
  team.parallel_for(bytes, kReadChunk, [&](int64_t begin, int64_t end, int /*member*/) {
    std::memset(buffer.data() + begin, 1, static_cast<size_t>(end - begin));
  });
  int64_t at = 0;
  found.read_bytes_per_s = median_rate(clock, static_cast<double>(kReadRound), [&] {
    team.parallel_for(kReadRound, kReadChunk, [&](int64_t begin, int64_t end, int /*member*/) {
      sink += kernels.read_bytes(buffer.data() + at + begin, end - begin);
    });
    at = (at + kReadRound) % bytes;
  });

  const auto on_all = [&](auto&& work) {
    team.parallel_for(threads, 1, [&](int64_t /*begin*/, int64_t /*end*/, int /*member*/) { sink += work(); });
  };
  const double operations = 2.0 * kPeakRounds * kPeakChains * kLaneCount * threads;
  found.int8_ops_per_s = median_rate(
      clock, operations * 4, [&] { on_all([&] { return static_cast<uint64_t>(kernels.peak_int8(kPeakRounds)); }); });
  found.f32_flops_per_s = median_rate(
      clock, operations, [&] { on_all([&] { return static_cast<uint64_t>(kernels.peak_fma(kPeakRounds)); }); });
  return found;
}

}  // namespace tidemill::tensor
