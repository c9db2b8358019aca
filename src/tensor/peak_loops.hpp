// Endless-looking work of a known amount, one loop for each kind of arithmetic and of reading that a core may offer:
// what ceilings.hpp measures. Written in assembly, so that no compiler's choice stands between a ceiling and the
// hardware: enough independent chains to hide the latency, operands in registers, nothing else in the loop.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tidemill::tensor {

// Runs `rounds` >= 1 rounds. May only be called where the CPU and the operating system have the instructions.
using PeakLoop = void (*)(int64_t rounds);

// Chains of one round: more than latency times throughput of any of these instructions on any CPU so far (4 or 5
// cycles, two a cycle).
inline constexpr int kPeakChains = 12;     // of 256 bits, in 16 registers
inline constexpr int kPeakChainsZmm = 24;  // of 512 bits, in 32 registers
inline constexpr int kPeakTiles = 4;       // AMX: four accumulators and two pairs of operands are all eight tiles

void peak_clock(int64_t rounds);        // kPeakChains dependent additions: one takes one cycle
void peak_fma_ymm(int64_t rounds);      // vfmadd231ps: 8 multiply-adds each
void peak_int8_ymm(int64_t rounds);     // vpmaddubsw, vpmaddwd, vpaddd: 32 multiply-accumulates for the three
void peak_fma_zmm(int64_t rounds);      // vfmadd231ps: 16 multiply-adds each
void peak_bf16_zmm(int64_t rounds);     // vdpbf16ps: 32 multiply-adds each
void peak_f16_zmm(int64_t rounds);      // vfmadd231ph: 32 multiply-adds each
void peak_int8_zmm(int64_t rounds);     // vpdpbusd: 64 multiply-accumulates each
void peak_amx_bf16(int64_t rounds);     // tdpbf16ps: 16 x 16 x 32 multiply-adds each
void peak_amx_int8(int64_t rounds);     // tdpbssd: 16 x 16 x 64 multiply-accumulates each
void peak_int8_scalar(int64_t rounds);  // plain C++: kPeakChains * 16 * 4 multiply-accumulates a round
void peak_fma_scalar(int64_t rounds);   // plain C++: kPeakChains * 16 multiply-adds a round

// Read every byte of [data, data + bytes); bytes is a multiple of 4096 and data of 64.
void read_scalar(const std::byte* data, int64_t bytes);
void read_ymm(const std::byte* data, int64_t bytes);
void read_ymm_ahead(const std::byte* data, int64_t bytes);  // asking for what lies 6 KiB ahead, into L2

}  // namespace tidemill::tensor
