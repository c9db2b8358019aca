// What this machine can do at most with a given instruction set and number of threads: the yardsticks that measured
// speeds are held against.
#pragma once

#include "base/clock.hpp"
#include "base/result.hpp"
#include "tensor/isa.hpp"

namespace tidemill::tensor {

struct Ceilings {
  double read_bytes_per_s = 0;  // plain reading of memory far larger than the caches, on 2 MiB pages where granted
  double int8_ops_per_s = 0;    // two per multiply-accumulate, u8 x s8 into int32, on registers
  double f32_flops_per_s = 0;   // two per fused multiply-add, on registers
};

// Runs each workload for less than a second on `threads` >= 1 threads and takes the median of its rounds. Scalar
// figures are those of the plain code of the scalar kernels. Fails with `exhausted` where there is no memory for the
// reading.
base::Result<Ceilings> measure_ceilings(Isa isa, int threads, const base::Clock& clock = base::SystemClock::instance());

}  // namespace tidemill::tensor
