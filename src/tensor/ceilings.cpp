#include "tensor/ceilings.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "base/cpu_cache.hpp"
#include "tensor/peak_loops.hpp"

namespace tidemill::tensor {
namespace {

constexpr double kSecondsEach = 0.4;
// One timed round: about a millisecond. Rounds go through the whole buffer in turn, so none finds its bytes in a cache:
// it has this many bytes at least, and several times what the last cache holds.
constexpr int64_t kLeastReadBytes = int64_t{256} << 20;
constexpr int64_t kReadCaches = 4;
constexpr int64_t kReadRound = int64_t{16} << 20;
constexpr int64_t kReadChunk = int64_t{1} << 20;
constexpr int64_t kPartsPerThread = 8;  // of a round of arithmetic, so that a thread that comes late costs little
constexpr int64_t kClockRounds = 200'000;
constexpr int kRegionsPerRound = 100;

// The median of the rates of rounds of `round()`, each worth `work`.
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

// Measured on Zen 4 at 3.7 GHz, per core and cycle: one 512-bit instruction of each kind (32 operations of FMA, 64 of
// vdpbf16ps, 128 of vpdpbusd), two 256-bit FMAs (32 operations as well) and one 256-bit int8 triple (64). Those are the
// limits of its ports. Intel's server cores have two 512-bit ports for FMA, VNNI and FP16, and one TDP in 16 cycles.
std::array<PeakInfo, 10> make_peaks() {
  const CpuFeatures& cpu = cpu_features();
  constexpr double ymm = 2.0 * kPeakChains;
  constexpr double zmm = 2.0 * kPeakChainsZmm;
  constexpr double tiles = 2.0 * kPeakTiles * 16 * 16;
  return {{
      {Peak::scalar_f32, "scalar-f32", "C++", "f32", true, peak_fma_scalar, 1000, ymm * 16},
      {Peak::scalar_int8, "scalar-int8", "C++", "int8", true, peak_int8_scalar, 500, ymm * 64},
      {Peak::avx2_f32, "avx2-f32", "vfmadd231ps ymm", "f32", cpu.avx2, peak_fma_ymm, 60'000, ymm * 8},
      {Peak::avx2_int8, "avx2-int8", "vpmaddubsw ymm and two more", "u8 x s8", cpu.avx2, peak_int8_ymm, 30'000,
       ymm * 32},
      {Peak::avx512_f32, "avx512-f32", "vfmadd231ps zmm", "f32", cpu.avx512, peak_fma_zmm, 15'000, zmm * 16},
      {Peak::avx512_bf16, "avx512-bf16", "vdpbf16ps zmm", "bf16", cpu.avx512_bf16, peak_bf16_zmm, 15'000, zmm * 32},
      {Peak::avx512_fp16, "avx512-fp16", "vfmadd231ph zmm", "f16", cpu.avx512_fp16, peak_f16_zmm, 15'000, zmm * 32},
      {Peak::avx512_vnni, "avx512-vnni", "vpdpbusd zmm", "u8 x s8", cpu.avx512_vnni, peak_int8_zmm, 15'000, zmm * 64},
      {Peak::amx_bf16, "amx-bf16", "tdpbf16ps", "bf16", cpu.amx_bf16, peak_amx_bf16, 6'000, tiles * 32},
      {Peak::amx_int8, "amx-int8", "tdpbssd", "s8 x s8", cpu.amx_int8, peak_amx_int8, 6'000, tiles * 64},
  }};
}

}  // namespace

std::span<const PeakInfo> peaks() {
  static const std::array<PeakInfo, 10> all = make_peaks();
  return all;
}

Peak int8_peak(Isa isa) {
  switch (isa) {
    case Isa::amx:
      return Peak::amx_int8;
    case Isa::avx512_vnni:
    case Isa::avx512_bf16:
      return Peak::avx512_vnni;
    case Isa::avx2:
      return Peak::avx2_int8;
    case Isa::scalar:
      break;
  }
  return Peak::scalar_int8;
}

Peak float_peak(Isa isa) {
  switch (isa) {
    case Isa::amx:
    case Isa::avx512_bf16:
    case Isa::avx512_vnni:
      return Peak::avx512_f32;
    case Isa::avx2:
      return Peak::avx2_f32;
    case Isa::scalar:
      break;
  }
  return Peak::scalar_f32;
}

int64_t bytes_to_read(size_t cache_bytes, size_t free_bytes) {
  // Half of what is free, at most: measuring must not push anybody out of memory.
  const auto half_of_free = static_cast<int64_t>(free_bytes / 2);
  const int64_t wanted = std::max(kLeastReadBytes, kReadCaches * static_cast<int64_t>(cache_bytes));
  return std::max(kReadRound, std::min(wanted, half_of_free) / kReadRound * kReadRound);
}

CeilingMeter::CeilingMeter(int threads, const base::Clock& clock, base::Buffer buffer)
    : clock_(&clock), team_(std::make_unique<base::ThreadTeam>(threads)), buffer_(std::move(buffer)) {}

base::Result<CeilingMeter> CeilingMeter::create(int threads, const base::Clock& clock) {
  const int64_t bytes = bytes_to_read(base::last_level_cache_bytes(), base::memory_available_bytes());
  TM_TRY(base::Buffer buffer, base::Buffer::allocate(static_cast<size_t>(bytes)));
  CeilingMeter meter(threads, clock, std::move(buffer));
  // Written first: untouched pages would all be the one zero page, read from the cache.
  meter.team_->parallel_for(bytes, kReadChunk, [&](int64_t begin, int64_t end, int /*member*/) {
    std::memset(meter.buffer_.data() + begin, 1, static_cast<size_t>(end - begin));
  });
  return meter;
}

double CeilingMeter::read() {
  if (!cpu_features().avx2) return read_by(read_scalar);
  return read_by(cpu_features().reads_far_ahead ? read_ymm_ahead : read_ymm);
}

double CeilingMeter::read_by(void (*loop)(const std::byte*, int64_t)) {
  const auto bytes = static_cast<int64_t>(buffer_.size());
  int64_t at = 0;
  return median_rate(*clock_, static_cast<double>(kReadRound), [&] {
    team_->parallel_for(kReadRound, kReadChunk, [&](int64_t begin, int64_t end, int /*member*/) {
      loop(buffer_.data() + at + begin, end - begin);
    });
    at = (at + kReadRound) % bytes;
  });
}

double CeilingMeter::operations(Peak peak) {
  const PeakInfo& info = peaks()[static_cast<size_t>(peak)];
  if (!info.present) return 0;
  const int64_t parts = team_->size() * kPartsPerThread;
  return median_rate(*clock_, info.operations * static_cast<double>(info.rounds * parts), [&] {
    team_->parallel_for(parts, 1, [&](int64_t /*begin*/, int64_t /*end*/, int /*member*/) { info.loop(info.rounds); });
  });
}

double CeilingMeter::clock_rate() {
  return median_rate(*clock_, static_cast<double>(kClockRounds * kPeakChains), [] { peak_clock(kClockRounds); });
}

double CeilingMeter::region() {
  const int size = team_->size();
  if (size == 1) return 0;
  const double rate = median_rate(*clock_, kRegionsPerRound, [&] {
    for (int i = 0; i < kRegionsPerRound; ++i) {
      // Nobody leaves before all have come: otherwise the caller would do it all alone.
      std::atomic<int> missing = size;
      team_->parallel_for(size, 1, [&](int64_t /*begin*/, int64_t /*end*/, int /*member*/) {
        missing.fetch_sub(1, std::memory_order_relaxed);
        for (int64_t spins = 1; missing.load(std::memory_order_relaxed) > 0; ++spins) {
          if (spins % 4096 == 0) std::this_thread::yield();  // where there are more threads than processors
        }
      });
    }
  });
  return rate > 0 ? 1 / rate : 0;
}

base::Result<Ceilings> measure_ceilings(Isa isa, int threads, const base::Clock& clock) {
  TM_TRY(CeilingMeter meter, CeilingMeter::create(threads, clock));
  return Ceilings{.read_bytes_per_s = meter.read(),
                  .int8_ops_per_s = meter.operations(int8_peak(isa)),
                  .float_ops_per_s = meter.operations(float_peak(isa))};
}

}  // namespace tidemill::tensor
