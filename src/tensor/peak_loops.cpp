#include "tensor/peak_loops.hpp"

#include <cstring>

namespace tidemill::tensor {
namespace {

// Makes the compiler believe that all of `value` is used.
template <typename T>
void keep(const T& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

}  // namespace

// ymm and zmm registers are clobbered by the name of their lowest part. Those past xmm15 have names only in functions
// compiled for AVX-512; the assembler itself takes every instruction.
#define TM_REGISTERS_16                                                                                               \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", \
      "xmm14", "xmm15"
#define TM_REGISTERS_32                                                                                               \
  TM_REGISTERS_16, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", \
      "xmm27", "xmm28", "xmm29", "xmm30", "xmm31"
#define TM_FOR_12(instructions) "\n.irp r,0,1,2,3,4,5,6,7,8,9,10,11\n" instructions "\n.endr\n"
#define TM_FOR_24(instructions) \
  "\n.irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23\n" instructions "\n.endr\n"

// Runs `prepare` once and `body` `rounds` times.
#define TM_REPEAT(prepare, body, ...) \
  asm volatile(prepare "\n.p2align 6\n1:\n" body "\ndec %0\njnz 1b\n" : "+r"(rounds) : : "cc", "memory", __VA_ARGS__)

// The operands are ones: sums that stay ordinary numbers, where zeroes might cost less power than work does.
#define TM_ONES_YMM "vpcmpeqd %%ymm14, %%ymm14, %%ymm14\n"
#define TM_ONES_ZMM "vpternlogd $255, %%zmm30, %%zmm30, %%zmm30\n"
#define TM_ZERO_YMM TM_FOR_12("vpxor %%ymm\\r, %%ymm\\r, %%ymm\\r")
#define TM_ZERO_ZMM TM_FOR_24("vpxord %%zmm\\r, %%zmm\\r, %%zmm\\r")
#define TM_F32_YMM "vpsrld $25, %%ymm14, %%ymm14\nvpslld $23, %%ymm14, %%ymm14\nvmovdqa %%ymm14, %%ymm15\n"
#define TM_F32_ZMM "vpsrld $25, %%zmm30, %%zmm30\nvpslld $23, %%zmm30, %%zmm30\nvmovdqa64 %%zmm30, %%zmm31\n"
#define TM_BF16_ZMM "vpsrlw $9, %%zmm30, %%zmm30\nvpsllw $7, %%zmm30, %%zmm30\nvmovdqa64 %%zmm30, %%zmm31\n"
#define TM_F16_ZMM "vpsrlw $12, %%zmm30, %%zmm30\nvpsllw $10, %%zmm30, %%zmm30\nvmovdqa64 %%zmm30, %%zmm31\n"
#define TM_S8_ZMM "vpabsb %%zmm30, %%zmm30\nvmovdqa64 %%zmm30, %%zmm31\n"

void peak_clock(int64_t rounds) {
  // Of registers: Golden Cove adds constants when it renames registers, several in a cycle.
  TM_REPEAT("mov $3, %%ecx", TM_FOR_12("add %%rcx, %%rax"), "rax", "rcx");
}

void peak_fma_ymm(int64_t rounds) {
  TM_REPEAT(TM_ZERO_YMM TM_ONES_YMM TM_F32_YMM, TM_FOR_12("vfmadd231ps %%ymm14, %%ymm15, %%ymm\\r"), TM_REGISTERS_16);
  asm volatile("vzeroupper" : : : TM_REGISTERS_16);
}

void peak_int8_ymm(int64_t rounds) {
  // ymm12 is scratch, one register for all chains: the CPU renames it.
  TM_REPEAT(TM_ZERO_YMM TM_ONES_YMM "vpsrlw $15, %%ymm14, %%ymm13\nvpabsb %%ymm14, %%ymm14\nvmovdqa %%ymm14, %%ymm15\n",
            TM_FOR_12("vpmaddubsw %%ymm14, %%ymm15, %%ymm12\nvpmaddwd %%ymm12, %%ymm13, %%ymm12\n"
                      "vpaddd %%ymm12, %%ymm\\r, %%ymm\\r"),
            TM_REGISTERS_16);
  asm volatile("vzeroupper" : : : TM_REGISTERS_16);
}

[[gnu::target("avx512f")]] void peak_fma_zmm(int64_t rounds) {
  TM_REPEAT(TM_ZERO_ZMM TM_ONES_ZMM TM_F32_ZMM, TM_FOR_24("vfmadd231ps %%zmm30, %%zmm31, %%zmm\\r"), TM_REGISTERS_32);
  asm volatile("vzeroupper" : : : TM_REGISTERS_16);
}

[[gnu::target("avx512f")]] void peak_bf16_zmm(int64_t rounds) {
  TM_REPEAT(TM_ZERO_ZMM TM_ONES_ZMM TM_BF16_ZMM, TM_FOR_24("vdpbf16ps %%zmm30, %%zmm31, %%zmm\\r"), TM_REGISTERS_32);
  asm volatile("vzeroupper" : : : TM_REGISTERS_16);
}

[[gnu::target("avx512f")]] void peak_f16_zmm(int64_t rounds) {
  TM_REPEAT(TM_ZERO_ZMM TM_ONES_ZMM TM_F16_ZMM, TM_FOR_24("vfmadd231ph %%zmm30, %%zmm31, %%zmm\\r"), TM_REGISTERS_32);
  asm volatile("vzeroupper" : : : TM_REGISTERS_16);
}

[[gnu::target("avx512f")]] void peak_int8_zmm(int64_t rounds) {
  TM_REPEAT(TM_ZERO_ZMM TM_ONES_ZMM TM_S8_ZMM, TM_FOR_24("vpdpbusd %%zmm30, %%zmm31, %%zmm\\r"), TM_REGISTERS_32);
  asm volatile("vzeroupper" : : : TM_REGISTERS_16);
}

namespace {

// What LDTILECFG loads (Intel SDM, volume 1, chapter 18): eight tiles of 16 rows of 64 bytes.
struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace

// Tiles 4 to 7 are loaded with ones, `lane` being the 32 bits that they consist of. As everywhere, tiles are configured
// for the time of the call alone.
#define TM_AMX(instruction, lane)                                                                                    \
  alignas(64) const TileConfig config;                                                                               \
  alignas(64) uint32_t ones[256];                                                                                    \
  for (uint32_t & word : ones)                                                                                       \
    word = (lane);                                                                                                   \
  asm volatile(                                                                                                      \
      "ldtilecfg %1\n"                                                                                               \
      ".irp r,0,1,2,3\ntilezero %%tmm\\r\n.endr\n"                                                                   \
      ".irp r,4,5,6,7\ntileloadd (%2,%3,1), %%tmm\\r\n.endr\n"                                                       \
      ".p2align 6\n1:\n" instruction " %%tmm6, %%tmm4, %%tmm0\n" instruction " %%tmm7, %%tmm4, %%tmm1\n" instruction \
      " %%tmm6, %%tmm5, %%tmm2\n" instruction                                                                        \
      " %%tmm7, %%tmm5, %%tmm3\n"                                                                                    \
      "dec %0\njnz 1b\ntilerelease\n"                                                                                \
      : "+r"(rounds)                                                                                                 \
      : "m"(config), "r"(ones), "r"(int64_t{64}), "m"(ones)                                                          \
      : "cc")

void peak_amx_bf16(int64_t rounds) {
  TM_AMX("tdpbf16ps", 0x3f803f80);
}

void peak_amx_int8(int64_t rounds) {
  TM_AMX("tdpbssd", 0x01010101);
}

void peak_int8_scalar(int64_t rounds) {
  uint32_t sums[64] = {};
  for (int64_t i = 0; i < rounds * kPeakChains; ++i) {
    for (uint32_t lane = 0; lane < 64; ++lane)
      sums[lane] += static_cast<uint32_t>(i & 127) * lane;
  }
  keep(sums);
}

void peak_fma_scalar(int64_t rounds) {
  float sums[16] = {};
  for (int64_t i = 0; i < rounds * kPeakChains; ++i) {
    for (float& sum : sums)
      sum = sum * 0.5F + 1.0F;
  }
  keep(sums);
}

void read_scalar(const std::byte* data, int64_t bytes) {
  uint64_t total = 0;
  for (int64_t i = 0; i < bytes; i += 8) {
    uint64_t word;
    std::memcpy(&word, data + i, sizeof word);
    total += word;
  }
  keep(total);
}

#define TM_READ_256                                                            \
  "vmovdqa (%0), %%ymm0\nvmovdqa 32(%0), %%ymm1\nvmovdqa 64(%0), %%ymm2\n"     \
  "vmovdqa 96(%0), %%ymm3\nvmovdqa 128(%0), %%ymm4\nvmovdqa 160(%0), %%ymm5\n" \
  "vmovdqa 192(%0), %%ymm6\nvmovdqa 224(%0), %%ymm7\n"

// A plain stream. Two, four and eight streams, registers of 512 bits, and prefetching ahead by 2 to 8 KiB were measured
// beside it on Zen 4 (medians of 60 interleaved reads of 16 MiB): none was faster by more than 2 %, most were slower.
// On Emerald Rapids it reads 28 GB/s with two cores, four streams 31, and one with prefetching by 4 to 32 KiB 33 to 34.
void read_ymm(const std::byte* data, int64_t bytes) {
  asm volatile("1:\n" TM_READ_256 "add $256, %0\nsub $256, %1\njg 1b\nvzeroupper\n"
               : "+r"(data), "+r"(bytes)
               :
               : "cc", "memory", TM_REGISTERS_16);
}

void read_ymm_ahead(const std::byte* data, int64_t bytes) {
  asm volatile("1:\nprefetcht1 6144(%0)\nprefetcht1 6208(%0)\nprefetcht1 6272(%0)\nprefetcht1 6336(%0)\n" TM_READ_256
               "add $256, %0\nsub $256, %1\njg 1b\nvzeroupper\n"
               : "+r"(data), "+r"(bytes)
               :
               : "cc", "memory", TM_REGISTERS_16);
}

}  // namespace tidemill::tensor
