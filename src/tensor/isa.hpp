// Which instruction set the CPU kernels use. Chosen once at start-up and printed.
#pragma once

#include <span>
#include <string_view>

#include "base/result.hpp"

namespace tidemill::tensor {

// In ascending order of preference, but for avx512_bf16 (CpuFeatures::fast_bf16).
enum class Isa {
  scalar,       // plain C++, any x86-64: the oracle of every test
  avx2,         // AVX2 + FMA + F16C
  avx512_vnni,  // AVX-512 F, BW, DQ, VL + VNNI
  avx512_bf16,  // these, and BF16: for weights of that type, with activations rounded to it
  amx,          // AVX-512 with VNNI, and AMX tiles of int8 and bf16; the latter for BF16 and F16 weights
};

// What this CPU has and the operating system lets this process use, whatever the kernels make of it.
struct CpuFeatures {
  bool avx2 = false;         // with FMA and F16C
  bool avx512 = false;       // F, BW, DQ and VL
  bool avx512_vnni = false;  // these three: on top of avx512
  bool avx512_bf16 = false;
  // Whether vdpbf16ps multiplies faster than F32 does. The makers' cores differ, so it goes by them, not by a
  // measurement, which could make two runs choose different arithmetic: twice as fast on Zen 4, half as fast on Emerald
  // Rapids (docs/performance.md). Intel's server cores have AMX for it.
  bool fast_bf16 = false;
  // Whether memory should be asked for several KiB ahead of a sequential reader: the makers' cores differ. On Emerald
  // Rapids reading alone went from 28 to 33 GB/s by it, one row of Q4_0 from 26 to 32; on Zen 4 reading alone gained
  // nothing, and one row lost up to a third (docs/performance.md). Changes speed alone.
  bool reads_far_ahead = false;
  bool avx512_fp16 = false;
  bool amx_int8 = false;  // with tiles that the kernel has granted
  bool amx_bf16 = false;
};

// Asked once, then remembered. Where there is AMX, the first call asks the kernel to let this process use tiles
// (arch_prctl, ARCH_REQ_XCOMP_PERM); that holds for all its threads.
const CpuFeatures& cpu_features();

std::string_view to_string(Isa isa);

// Those this CPU and operating system can run, the best one last; always starts with scalar.
std::span<const Isa> available_isas();

// The best available one, or the one named by the environment variable TIDEMILL_ISA ("scalar", "avx2", "avx512-vnni",
// "avx512-bf16", "amx"). An unknown or unavailable name is an error that lists the available ones.
base::Result<Isa> choose_isa();

}  // namespace tidemill::tensor
