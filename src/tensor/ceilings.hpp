// What this machine can do at most: the yardsticks that measured speeds are held against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/clock.hpp"
#include "base/memory.hpp"
#include "base/result.hpp"
#include "base/thread_team.hpp"
#include "tensor/isa.hpp"

namespace tidemill::tensor {

// One kind of arithmetic that a core may offer.
enum class Peak : uint8_t {
  scalar_f32,
  scalar_int8,
  avx2_f32,
  avx2_int8,
  avx512_f32,
  avx512_bf16,
  avx512_fp16,
  avx512_vnni,
  amx_bf16,
  amx_int8,
};

struct PeakInfo {
  Peak peak;
  std::string_view name;         // "avx512-vnni"
  std::string_view instruction;  // "vpdpbusd zmm"
  std::string_view inputs;       // "u8 x s8"
  bool present;                  // on this CPU, under this operating system
  // The loop that is timed (peak_loops.hpp): `rounds` rounds take about a tenth of a millisecond, and each of them does
  // `operations`, two per multiply-accumulate.
  void (*loop)(int64_t rounds);
  int64_t rounds;
  double operations;
};

// All of them, absent ones too, in the order of the enumeration.
std::span<const PeakInfo> peaks();

// Those that the kernels of `isa` are bound by: for quantised weights, and for weights in F32, F16 and BF16.
Peak int8_peak(Isa isa);
Peak float_peak(Isa isa);

// Bytes of memory that are read over and over to see how fast that goes: several times what the last-level caches that
// the process may use hold together, but no more than half of what is free. At least 16 MiB, and whole rounds of these.
int64_t bytes_to_read(size_t cache_bytes, size_t free_bytes);

// Measures with `threads` threads. Each figure takes less than half a second and is the median of rounds of about a
// millisecond: what the machine gives, not what it gave once, since the speeds that are held against it are medians
// too.
class CeilingMeter {
 public:
  // threads >= 1. Fails with `exhausted` where there is no memory to read.
  static base::Result<CeilingMeter> create(int threads, const base::Clock& clock = base::SystemClock::instance());

  // Bytes per second: sequential reading of memory far larger than the caches, on 2 MiB pages where granted, ahead of
  // the reader where that is faster (CpuFeatures::reads_far_ahead).
  double read();
  // Operations per second of all threads together; 0 where the kind is absent.
  double operations(Peak peak);
  // Cycles per second of the core that runs the calling thread, while it computes.
  double clock_rate();
  // Seconds from the start of a parallel region until every member has begun its part and the caller knows that all are
  // done: what each region costs when nothing is to be done in it. A team of one costs nothing.
  double region();

 private:
  CeilingMeter(int threads, const base::Clock& clock, base::Buffer buffer);
  double read_by(void (*loop)(const std::byte*, int64_t));

  const base::Clock* clock_;
  std::unique_ptr<base::ThreadTeam> team_;
  base::Buffer buffer_;
};

// What the kernels of one instruction set can reach.
struct Ceilings {
  double read_bytes_per_s = 0;
  double int8_ops_per_s = 0;   // of int8_peak()
  double float_ops_per_s = 0;  // of float_peak()
};
base::Result<Ceilings> measure_ceilings(Isa isa, int threads, const base::Clock& clock = base::SystemClock::instance());

}  // namespace tidemill::tensor
