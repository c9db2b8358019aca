// AVX-512 with VNNI and BF16: VDPBF16PS for weights of BF16. The instruction is assembly, the rest is compiled with the
// flags of AVX-512 VNNI. Nothing here may be called before the CPU has been asked.
//
// The instruction does the two multiply-adds of a pair one after the other, and takes no note of MXCSR: kernels.hpp has
// its arithmetic. A sum is one chain of them over all of K, whatever the number of rows.
#include "tensor/kernels.hpp"
#include "tensor/vector_avx512.hpp"
#include "tensor/vector_bf16.hpp"
#include "tensor/vector_linear.hpp"
#include "tensor/vector_tiles.hpp"

namespace tidemill::tensor {
namespace {

using S = Avx512;

// What panels and rows advance by, from one block of K to the next.
constexpr int64_t kPanelBlock = kBf16Block * kPanelRows * int64_t{sizeof(uint16_t)};
constexpr int64_t kRowBlock = kBf16Block * int64_t{sizeof(uint16_t)};

// acc += the sums of two products per lane.
[[gnu::always_inline]] inline void add_pair(S::F& acc, S::C w, S::X x) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
}

// Rows first .. first + R - 1 of a call against its P panels.
template <int P, int R>
inline void bf16_rows(const LinearCall& call, int64_t first) {
  S::F acc[P][R];
#pragma GCC unroll 2
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
      acc[p][r] = S::zero();
  }
  const std::byte* w = call.panels;
  const std::byte* x = call.x.codes + (call.first_row + first) * kRowBlock;
  for (int64_t k = 0; k < call.cols; k += kBf16Block, w += kPanelBlock, x += call.x.rows * kRowBlock) {
    for (int pair = 0; pair < kBf16Block / 2; ++pair) {
      S::C lines[P];
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const std::byte* line = w + p * call.panel_stride + pair * kLineBytes;
        __builtin_prefetch(line + S::kPrefetchBytes, 0, 2);
        lines[p] = _mm512_loadu_si512(line);
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const S::X two = S::load_x_once(x + r * kRowBlock + pair * 4);
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p)
          add_pair(acc[p][r], lines[p], two);
      }
    }
  }
#pragma GCC unroll 2
  for (int p = 0; p < P; ++p) {
    const int64_t lanes = call.outputs - p * kPanelRows;
    const float* bias = call.bias == nullptr ? nullptr : call.bias + p * kPanelRows;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      finish<S>(acc[p][r], bias, lanes < kPanelRows ? lanes : kPanelRows,
                call.y + (first + r) * call.y_stride + p * kPanelRows);
    }
  }
}

// Few rows read one panel after the other: two at once stream at little more than half of the rate.
constexpr int64_t kFewRows = 16;

template <int P, int R>
inline int64_t bf16_tiles(const LinearCall& call, int64_t first) {
  for (; first + R <= call.rows; first += R)
    bf16_rows<P, R>(call, first);
  return first;
}

template <int P>
inline void bf16_panels(const LinearCall& call) {
  int64_t r = bf16_tiles < P, P == 1 ? 16 : 12 > (call, 0);
  if constexpr (P == 1) r = bf16_tiles<P, 8>(call, r);
  r = bf16_tiles<P, 4>(call, r);
  r = bf16_tiles<P, 2>(call, r);
  bf16_tiles<P, 1>(call, r);
}

void linear_bf16(const LinearCall& call) {
  const int64_t together = (call.rows <= kFewRows ? 1 : 2) * kPanelRows;
  LinearCall left = call;
  while (left.outputs > 0) {
    const LinearCall head = take_panels(left, left.outputs < together ? left.outputs : together);
    if (head.outputs > kPanelRows) {
      bf16_panels<2>(head);
    } else {
      bf16_panels<1>(head);
    }
  }
}

Kernels with_bf16(Kernels kernels) {
  kernels.isa = Isa::avx512_bf16;
  kernels.rounds[static_cast<size_t>(DType::bf16)] = true;
  kernels.round_row = round_row;
  kernels.linear[static_cast<size_t>(DType::bf16)] = linear_bf16;
  return kernels;
}

}  // namespace

const Kernels& avx512_bf16_kernels() {
  static const Kernels kernels = with_bf16(avx512_vnni_kernels());
  return kernels;
}

}  // namespace tidemill::tensor
