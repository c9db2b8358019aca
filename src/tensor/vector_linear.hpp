// linear() for instruction sets with vectors, written once over a vector type S of 16 lanes (kernels_avx2.cpp and
// kernels_avx512_vnni.cpp define theirs): few rows here, straight from the packed weights, as decoding has them; many
// rows in vector_tiles.hpp. Everything has internal linkage: each including file gets a copy of its own, compiled for
// its own instruction set. kernels.hpp says what must be computed, in which order.
#pragma once

#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/vector_bit_sums.hpp"

namespace tidemill::tensor {
namespace {

// The panels of a call one after another: body(panel, outputs of it, bias of it, first column of y).
template <class Body>
[[gnu::always_inline]] inline void for_panels(const LinearCall& call, Body body) {
  for (int64_t o = 0; o < call.outputs; o += kPanelRows) {
    const int64_t left = call.outputs - o;
    body(call.panels + o / kPanelRows * call.panel_stride, left < kPanelRows ? left : kPanelRows,
         call.bias == nullptr ? nullptr : call.bias + o, o);
  }
}

// Adds the bias and writes the lanes that exist.
template <class S>
[[gnu::always_inline]] inline void finish(typename S::F acc, const float* bias, int64_t lanes, float* y) {
  if (lanes == kPanelRows) {
    S::store(y, bias == nullptr ? acc : S::add(acc, S::load(bias)));
  } else {
    S::store_first(y, lanes, bias == nullptr ? acc : S::add(acc, S::load_first(bias, lanes)));
  }
}

// Some rows of activations, as a kernel for weights of a type walks along K.
template <class S, DType type>
struct RowsAt {
  // Of 8 bits on instruction sets that have no more.
  static constexpr int kPlanes = panel_layout(type).wide ? S::kWidePlanes : 1;
  static constexpr int kBytes = panel_layout(type).wide ? S::kCodeBytes : 1;
  static constexpr int64_t kPlane = kCodeBlock * kBytes;
  static constexpr int64_t kSumGroup = panel_layout(type).sum_group;
  static constexpr int64_t kGroup = panel_layout(type).activation_group;

  const std::byte* codes;
  const float* scales;
  const int32_t* sums;
  int64_t stride;

  RowsAt(const QuantizedRows& x, int64_t first)
      : codes(x.codes + first * kPlane * kPlanes), scales(x.scales + first), sums(x.sums + first), stride(x.rows) {}

  // Where the codes of row 0 from column k on are, within a block of kCodeBlock.
  [[gnu::always_inline]] const std::byte* block(int64_t k) const {
    return codes + k / kCodeBlock * stride * (kPlane * kPlanes) + k % kCodeBlock * kBytes;
  }
  // Four codes of row r, from column 4 * line of that place on.
  [[gnu::always_inline]] static const std::byte* at(const std::byte* block, int r, int line, int plane = 0) {
    return block + r * (kPlane * kPlanes) + plane * kPlane + line * 4 * kBytes;
  }
  // [rows]
  [[gnu::always_inline]] const float* scale(int64_t k) const { return scales + k / kGroup * stride; }
  [[gnu::always_inline]] const int32_t* sum(int64_t k) const { return sums + k / kSumGroup * stride; }
};

// The next steps of the panel are wanted soon: the hardware's prefetcher alone stops at page borders. Into L2, which
// was better than L1. How far ahead is LinearCall's word for one row. Several rows want it far on any processor: four
// of Q4_0 reached 0.42 of plain reading at 1 KiB and 0.74 at 6 KiB on Zen 4, 0.63 and 0.87 on Emerald Rapids.
constexpr int64_t kAheadOfRows = 6144;

template <int64_t bytes>
[[gnu::always_inline]] inline void prefetch_ahead(const void* step, int64_t ahead) {
  for (int64_t at = 0; at < bytes; at += kLineBytes) {
    __builtin_prefetch(static_cast<const std::byte*>(step) + ahead + at, 0, 2);
  }
}

// The same for a step of T. What is more than a dozen lines is spread over the work: each slot asks for its share. A
// burst of them fills up what a core can wait for at once, and loads that the second cache could serve stand behind it:
// on each of two cores of a Zen 3, spreading took Q8_0 from 7.2 to 8.5 GB/s and Q5_K, of 45 lines a step, from 6.7 to
// 9.5. Steps of nine to twelve lines gained nothing by it (docs/performance.md).
//
// Lines are spread in the order of memory. Scales and Q3_K's third bits, which come first, are wanted with the codes
// and not before them, so all is asked for as much further ahead. A step is worked on in `parts`, of some slots each;
// what they ask for may overlap by a few lines.
template <class T, int parts, int slots>
struct AskAhead {
  static constexpr int kLines = (sizeof(T) + kLineBytes * parts - 1) / (kLineBytes * parts);  // of a part
  static constexpr bool kSpread = sizeof(T) > 12 * kLineBytes;
  const std::byte* from;

  [[gnu::always_inline]] AskAhead(const T& step, int64_t ahead)
      : from(reinterpret_cast<const std::byte*>(&step) + offsetof(T, codes) / kLineBytes * kLineBytes + ahead) {
    if constexpr (!kSpread) prefetch_ahead<sizeof(T)>(&step, ahead);
  }
  // `slot` is known when it is compiled.
  [[gnu::always_inline]] void operator()(int part, int slot) const {
    if constexpr (kSpread) {
      for (int line = slot * kLines / slots; line < (slot + 1) * kLines / slots; ++line)
        __builtin_prefetch(from + (part * kLines + line) * kLineBytes, 0, 2);
    }
  }
};

// What the kernels of few rows add up: over one group of activations, and over all.
template <class S, int R>
struct Sums {
  typename S::F group[R];
  typename S::F all[R];

  [[gnu::always_inline]] Sums() {
    for (int r = 0; r < R; ++r)
      group[r] = all[r] = S::zero();
  }
  // With the scales of the rows.
  [[gnu::always_inline]] void close_group(const float* scale) {
    for (int r = 0; r < R; ++r) {
      all[r] = S::fma(group[r], S::set1(scale[r]), all[r]);
      group[r] = S::zero();
    }
  }
};

// A type of step: how it adds to the sums of R rows from column k on, and asks for what lies `ahead` bytes behind it.
// kPanelsOfOneRow: how many panels a single row is multiplied by side by side.
template <class S>
struct RowsQ8 {
  using Step = StepQ8;
  static constexpr DType kType = DType::q8_0;
  static constexpr int kPanelsOfOneRow = S::kPanelsOfWideRow;
  using Rows = RowsAt<S, kType>;

  template <int R>
  [[gnu::always_inline]] static inline void add(const Step& step, int64_t ahead, const Rows& x, int64_t k,
                                                Sums<S, R>& sums) {
    const AskAhead<Step, 1, 16 * Rows::kPlanes> ask(step, ahead);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const std::byte* codes = x.block(k + half * 32);
      const int32_t* code_sums = x.sum(k + half * 32);
      typename S::I products[R];
      for (int r = 0; r < R; ++r)
        products[r] = S::set1_i(Rows::kPlanes == 1 ? code_sums[r] : 0);
#pragma GCC unroll 2
      for (int plane = 0; plane < Rows::kPlanes; ++plane) {
#pragma GCC unroll 8
        for (int line = 0; line < 8; ++line) {
          ask(0, (half * Rows::kPlanes + plane) * 8 + line);
          const typename S::C w = S::codes(step.codes[half][line]);
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r)
            products[r] = S::dot(products[r], w, S::load_x(Rows::at(codes, r, line, plane)));
        }
        if (plane + 1 < Rows::kPlanes) {
          for (int r = 0; r < R; ++r)
            products[r] = S::add_i(S::times_256(products[r]), S::set1_i(code_sums[r]));
        }
      }
      const typename S::F scale = S::load_f16(step.scale[half]);
      for (int r = 0; r < R; ++r)
        sums.group[r] = S::fma(S::to_float(products[r]), scale, sums.group[r]);
    }
  }
};

// The sum of the products of a block of weights with narrow codes: add() is called for its lines from 0 on.
// S::NarrowSum<most>, where no code of a weight is above `most`, is this one where products are added up in 32 bits.
template <class S>
struct PlainNarrowSum {
  typename S::I sum;

  [[gnu::always_inline]] void start(int32_t from) { sum = S::set1_i(from); }
  template <class W, class X>
  [[gnu::always_inline]] void add(int /*line*/, W w, X x) {
    sum = S::dot(sum, w, x);
  }
  [[gnu::always_inline]] typename S::I total() const { return sum; }
};

// Both blocks of 8 lines with a nibble each, whose sums have started. With `in_place`, high[r] is of codes sixteen
// times as large. before(line) is called first.
template <class S, class Rows, bool in_place, class Sum, int R, class Before>
[[gnu::always_inline]] inline void dot_nibbles(const uint8_t (*lines)[kLineBytes], const std::byte* codes,
                                               Sum (&low)[R], Sum (&high)[R], const Before& before) {
#pragma GCC unroll 8
  for (int line = 0; line < 8; ++line) {
    before(line);
    const typename S::N w_low = S::low_codes(lines[line]);
    typename S::N w_high;
    if constexpr (in_place) {
      w_high = S::high_codes_in_place(lines[line]);
    } else {
      w_high = S::high_codes(lines[line]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      low[r].add(line, w_low, S::load_narrow_x(Rows::at(codes, r, line)));
      high[r].add(line, w_high, S::load_narrow_x(Rows::at(codes, r, 8 + line)));
    }
  }
}

template <class S>
struct RowsQ4 {
  using Step = StepQ4;
  static constexpr DType kType = DType::q4_0;
  static constexpr int kPanelsOfOneRow = 1;
  using Rows = RowsAt<S, kType>;
  static_assert(Rows::kPlanes == 1 && Rows::kGroup == 32);

  template <int R>
  [[gnu::always_inline]] static inline void add(const Step& step, int64_t ahead, const Rows& x, int64_t k,
                                                Sums<S, R>& sums) {
    typename S::template NarrowSum<15> low[R];
    typename S::template NarrowSum<15> high[R];
    for (int r = 0; r < R; ++r) {
      low[r].start(x.sum(k)[r]);
      high[r].start(x.sum(k + 32)[r]);
    }
    const AskAhead<Step, 1, 8> ask(step, ahead);
    dot_nibbles<S, Rows, S::kHighInPlace>(
        step.codes, x.block(k), low, high, [&](int line) __attribute__((always_inline)) { ask(0, line); });
    const BlockScale<S> scale_low(step.scale[0], false);
    const BlockScale<S> scale_high(step.scale[1], true);
    for (int r = 0; r < R; ++r) {
      sums.all[r] = S::fma(scale_low.times(low[r].total()), S::set1(x.scale(k)[r]), sums.all[r]);
      sums.all[r] = S::fma(scale_high.times(high[r].total()), S::set1(x.scale(k + 32)[r]), sums.all[r]);
    }
  }
};

template <class S>
struct RowsQ4K {
  using Step = StepQ4K;
  static constexpr DType kType = DType::q4_k;
  static constexpr int kPanelsOfOneRow = 1;
  using Rows = RowsAt<S, kType>;
  static_assert(Rows::kPlanes == 1);

  template <int R>
  [[gnu::always_inline]] static inline void add(const Step& step, int64_t ahead, const Rows& x, int64_t k,
                                                Sums<S, R>& sums) {
    const typename S::F d = S::load_f16(step.d);
    const typename S::F dmin = S::negate(S::load_f16(step.dmin));
    const AskAhead<Step, 4, 8> ask(step, ahead);
    for (int pair = 0; pair < 4; ++pair) {
      typename S::template NarrowSum<15> products[2][R];
      for (int r = 0; r < R; ++r) {
        products[0][r].start(0);
        products[1][r].start(0);
      }
      dot_nibbles<S, Rows, false>(
          step.codes[pair], x.block(k + pair * 64), products[0],
          products[1], [&](int line) __attribute__((always_inline)) { ask(pair, line); });
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const int block = pair * 2 + half;
        const typename S::F scale = S::mul(d, S::to_float(S::load_u8(step.scale[block])));
        const typename S::F min = S::mul(dmin, S::to_float(S::load_u8(step.min[block])));
        const int32_t* code_sums = x.sum(k + block * 32);
        for (int r = 0; r < R; ++r) {
          const typename S::F codes = S::to_float(S::set1_i(code_sums[r]));
          sums.group[r] = S::fma(codes, min, S::fma(S::to_float(products[half][r].total()), scale, sums.group[r]));
        }
      }
    }
  }
};

// A number of panels as a type.
template <int panels>
struct PanelCount {
  static constexpr int value = panels;
};

// Adds R rows, over all columns, times P consecutive panels, a step of each in turn.
template <class S, class K, int R, int P>
[[gnu::always_inline]] inline void add_panels(const LinearCall& call, const std::byte* panel, const typename K::Rows& x,
                                              Sums<S, R> (&sums)[P]) {
  constexpr PanelLayout layout = panel_layout(K::kType);
  constexpr int64_t group = layout.activation_group < layout.step ? layout.step : layout.activation_group;
  static_assert(group % layout.step == 0);
  const int64_t cols = round_up(call.cols, layout.step);
  const int64_t ahead = R == 1 ? call.ahead_of_one_row : kAheadOfRows;
  for (int64_t begin = 0; begin < cols; begin += group) {
    const int64_t end = cols - begin < group ? cols : begin + group;
    for (int64_t k = begin; k < end; k += layout.step, panel += sizeof(typename K::Step)) {
      for (int p = 0; p < P; ++p) {
        const auto* step = reinterpret_cast<const typename K::Step*>(panel + p * call.panel_stride);
        K::template add<R>(*step, ahead, x, k, sums[p]);
      }
    }
    if constexpr (group == layout.activation_group) {
      for (int p = 0; p < P; ++p)
        sums[p].close_group(x.scale(begin));
    }
  }
}

// Rows first .. first + R - 1 of a call against its panels; K is one of the above.
template <class S, class K, int R>
inline void few_rows(const LinearCall& call, int64_t first) {
  const typename K::Rows x(call.x, call.first_row + first);
  int64_t at = 0;
  const auto take = [&](auto panels) __attribute__((always_inline)) {
    Sums<S, R> sums[panels.value];
    add_panels<S, K, R, panels.value>(call, call.panels + at / kPanelRows * call.panel_stride, x, sums);
    for (int p = 0; p < panels.value; ++p, at += kPanelRows) {
      const int64_t left = call.outputs - at;
      for (int r = 0; r < R; ++r)
        finish<S>(sums[p].all[r], call.bias == nullptr ? nullptr : call.bias + at,
                  left < kPanelRows ? left : kPanelRows, call.y + (first + r) * call.y_stride + at);
    }
  };
  if constexpr (R == 1 && K::kPanelsOfOneRow > 1) {
    while (call.outputs - at > (K::kPanelsOfOneRow - 1) * kPanelRows)
      take(PanelCount<K::kPanelsOfOneRow>{});
  }
  while (at < call.outputs)
    take(PanelCount<1>{});
}

// F32, F16 and BF16 by the type T of a loader: T::kBytes per 16 values; T::load_two(p, even, odd) has two k,
// T::load_even(p) the first of them.
template <class S, class T>
struct Plain {
  static constexpr int kMostRows = S::kRowsPlain;

  template <int R>
  static void rows(const LinearCall& call, int64_t first) {
    for_panels(
        call, [&](const std::byte* panel, int64_t lanes, const float* bias, int64_t at)
                  __attribute__((always_inline)) { panel_rows<R>(call, first, panel, lanes, bias, at); });
  }

  template <int R>
  [[gnu::always_inline]] static inline void panel_rows(const LinearCall& call, int64_t first, const std::byte* w,
                                                       int64_t lanes, const float* bias, int64_t at) {
    const float* x = call.x_data + first * call.x_stride;
    typename S::F even[R];
    typename S::F odd[R];
    for (int r = 0; r < R; ++r)
      even[r] = odd[r] = S::zero();
    int64_t k = 0;
    for (; k + 8 <= call.cols; k += 8, w += 8 * T::kBytes) {
      for (int64_t line = 0; line < 8 * T::kBytes; line += kLineBytes) {
        __builtin_prefetch(w + S::kPrefetchBytes + line, 0, 3);
      }
#pragma GCC unroll 4
      for (int i = 0; i < 8; i += 2) {
        typename S::F w_even;
        typename S::F w_odd;
        T::load_two(w + i * T::kBytes, w_even, w_odd);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          even[r] = S::fma(w_even, S::set1(x[r * call.x_stride + k + i]), even[r]);
          odd[r] = S::fma(w_odd, S::set1(x[r * call.x_stride + k + i + 1]), odd[r]);
        }
      }
    }
    for (; k + 2 <= call.cols; k += 2, w += 2 * T::kBytes) {
      typename S::F w_even;
      typename S::F w_odd;
      T::load_two(w, w_even, w_odd);
      for (int r = 0; r < R; ++r) {
        even[r] = S::fma(w_even, S::set1(x[r * call.x_stride + k]), even[r]);
        odd[r] = S::fma(w_odd, S::set1(x[r * call.x_stride + k + 1]), odd[r]);
      }
    }
    if (k < call.cols) {
      const typename S::F w_even = T::load_even(w);
      for (int r = 0; r < R; ++r)
        even[r] = S::fma(w_even, S::set1(x[r * call.x_stride + k]), even[r]);
    }
    for (int r = 0; r < R; ++r)
      finish<S>(S::add(even[r], odd[r]), bias, lanes, call.y + (first + r) * call.y_stride + at);
  }
};

template <class S>
struct LoadF32 {
  static constexpr int64_t kBytes = 64;
  [[gnu::always_inline]] static inline typename S::F load(const std::byte* p) {
    return S::load(reinterpret_cast<const float*>(p));
  }
};
template <class S>
struct LoadF16 {
  static constexpr int64_t kBytes = 32;
  [[gnu::always_inline]] static inline typename S::F load(const std::byte* p) {
    return S::load_f16(reinterpret_cast<const uint16_t*>(p));
  }
};
template <class S>
struct LoadBf16 {
  static constexpr int64_t kBytes = 32;
  [[gnu::always_inline]] static inline typename S::F load(const std::byte* p) {
    return S::load_bf16(reinterpret_cast<const uint16_t*>(p));
  }
};

// For linear(): of whole panels.
template <class Load>
struct OneByOne {
  static constexpr int64_t kBytes = Load::kBytes;
  template <class F>
  [[gnu::always_inline]] static inline void load_two(const std::byte* p, F& even, F& odd) {
    even = Load::load(p);
    odd = Load::load(p + kBytes);
  }
  [[gnu::always_inline]] static inline auto load_even(const std::byte* p) { return Load::load(p); }
};
template <class S>
struct Bf16Pairs {
  static constexpr int64_t kBytes = 32;
  [[gnu::always_inline]] static inline void load_two(const std::byte* p, typename S::F& even, typename S::F& odd) {
    S::load_bf16_pairs(p, even, odd);
  }
  [[gnu::always_inline]] static inline typename S::F load_even(const std::byte* p) {
    typename S::F even;
    typename S::F odd;
    S::load_bf16_pairs(p, even, odd);
    return even;
  }
};

template <class S, class T>
void linear_plain(const LinearCall& call) {
  using K = Plain<S, T>;
  if constexpr (S::kOwnTiles) {
    if (call.rows > 8) return S::template multiply_plain<T>(call);
  }
  int64_t r = 0;
  if constexpr (K::kMostRows >= 8) {
    for (; r + 8 <= call.rows; r += 8)
      K::template rows<8>(call, r);
  }
  for (; r + 4 <= call.rows; r += 4)
    K::template rows<4>(call, r);
  for (; r < call.rows; ++r)
    K::template rows<1>(call, r);
}

}  // namespace
}  // namespace tidemill::tensor
