// linear() of the quantised types that have no kernels of their own in vector_linear.hpp and vector_tiles.hpp: a format
// says how the codes, scales and minima of its steps are read, and the rest is written once. See vector_linear.hpp for
// why all of this has internal linkage.
//
// Codes are unsigned, and sums start from what makes up for the code that stands for zero. IQ4's table spans all eight
// bits: where an instruction set cannot multiply such unsigned codes exactly (S::kSignedTables) they are signed, and
// their sums start from 0.
#pragma once

#include <type_traits>

#include "tensor/code_tables.hpp"
#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/vector_linear.hpp"
#include "tensor/vector_tiles.hpp"

namespace tidemill::tensor {
namespace {

// Line `line` of the low nibbles (half 0) or the high ones.
template <class S>
[[gnu::always_inline]] inline typename S::N nibble_line(const uint8_t (*lines)[kLineBytes], int half, int line) {
  return half == 0 ? S::low_codes(lines[line]) : S::high_codes(lines[line]);
}

template <class S>
[[gnu::always_inline]] inline typename S::N five_bit_line(const FiveBits& lines, int line) {
  if (line < 5) return S::five_bits(lines[line]);
  return line < 7 ? S::five_of_tops(lines[2 * (line - 5)], lines[2 * (line - 5) + 1])
                  : S::five_of_tops(lines[4], lines[1], lines[3]);
}
template <class S>
[[gnu::always_inline]] inline typename S::N six_bit_line(const SixBits& blocks, int block, int line) {
  if (block < 3) return S::six_bits(blocks[block][line]);
  // Hidden from GCC 12, which would keep all that it has read of the other blocks, and spill it.
  const SixBits* again = &blocks;
  asm("" : "+r"(again));
  return S::six_of_tops((*again)[0][line], (*again)[1][line], (*again)[2][line]);
}

template <class S>
[[gnu::always_inline]] inline auto iq4_line(typename S::N nibbles) {
  if constexpr (S::kSignedTables) {
    return S::look_up_signed(nibbles, kIq4Values);
  } else {
    return S::look_up(nibbles, kIq4Codes);
  }
}

// A format: codes(step, first, t, line) is line `line` of the block of 32 k `first` + t, where `first` is a multiple of
// kTogether and 0 <= t < kTogether, known when it is compiled; scale and min are those of a group of the layout's
// sum_group k, the latter as it is added. kMostCode: the largest code.
template <class S>
struct FormatQ41 {
  using Step = StepQ41;
  static constexpr DType kType = DType::q4_1;
  static constexpr int kTogether = 2;
  static constexpr int kMostCode = 15;
  static constexpr bool kSigned = false;

  [[gnu::always_inline]] static inline auto codes(const Step& step, int /*first*/, int t, int line) {
    return nibble_line<S>(step.codes, t, line);
  }
  [[gnu::always_inline]] static inline auto scale(const Step& step, int g) { return S::load_f16(step.scale[g]); }
  [[gnu::always_inline]] static inline auto min(const Step& step, int g) { return S::load_f16(step.min[g]); }
};

template <class S>
struct FormatQ50 {
  using Step = StepQ50;
  static constexpr DType kType = DType::q5_0;
  static constexpr int kTogether = 2;
  static constexpr int kMostCode = 31;
  static constexpr bool kSigned = false;

  [[gnu::always_inline]] static inline auto codes(const Step& step, int /*first*/, int t, int line) {
    return five_bit_line<S>(step.codes[t], line);
  }
  [[gnu::always_inline]] static inline auto scale(const Step& step, int g) { return S::load_f16(step.scale[g]); }
};

template <class S>
struct FormatQ51 {
  using Step = StepQ51;
  static constexpr DType kType = DType::q5_1;
  static constexpr int kTogether = 2;
  static constexpr int kMostCode = 31;
  static constexpr bool kSigned = false;

  [[gnu::always_inline]] static inline auto codes(const Step& step, int /*first*/, int t, int line) {
    return five_bit_line<S>(step.codes[t], line);
  }
  [[gnu::always_inline]] static inline auto scale(const Step& step, int g) { return S::load_f16(step.scale[g]); }
  [[gnu::always_inline]] static inline auto min(const Step& step, int g) { return S::load_f16(step.min[g]); }
};

template <class S>
struct FormatQ5K {
  using Step = StepQ5K;
  static constexpr DType kType = DType::q5_k;
  static constexpr int kTogether = 2;
  static constexpr int kMostCode = 31;
  static constexpr bool kSigned = false;

  [[gnu::always_inline]] static inline auto codes(const Step& step, int first, int t, int line) {
    return five_bit_line<S>(step.codes[first + t], line);
  }
  [[gnu::always_inline]] static inline auto scale(const Step& step, int g) {
    return S::mul(S::load_f16(step.d), S::to_float(S::load_u8(step.scale[g])));
  }
  [[gnu::always_inline]] static inline auto min(const Step& step, int g) {
    return S::mul(S::negate(S::load_f16(step.dmin)), S::to_float(S::load_u8(step.min[g])));
  }
};

template <class S>
struct FormatQ2K {
  using Step = StepQ2K;
  static constexpr DType kType = DType::q2_k;
  static constexpr int kTogether = 4;
  static constexpr int kMostCode = 3;
  static constexpr bool kSigned = false;

  [[gnu::always_inline]] static inline auto codes(const Step& step, int first, int t, int line) {
    return S::quarter_codes(step.codes[first / 4][line], t);
  }
  [[gnu::always_inline]] static inline auto scale(const Step& step, int g) {
    return S::mul(S::load_f16(step.d), S::to_float(S::load_low_u4(step.scale[g])));
  }
  [[gnu::always_inline]] static inline auto min(const Step& step, int g) {
    return S::mul(S::negate(S::load_f16(step.dmin)), S::to_float(S::load_high_u4(step.scale[g])));
  }
};

template <class S>
struct FormatQ3K {
  using Step = StepQ3K;
  static constexpr DType kType = DType::q3_k;
  static constexpr int kTogether = 4;
  static constexpr int kMostCode = 7;
  static constexpr bool kSigned = false;

  [[gnu::always_inline]] static inline auto codes(const Step& step, int first, int t, int line) {
    return S::with_third_bit(S::quarter_codes(step.codes[first / 4][line], t), step.third[first + t], line);
  }
  [[gnu::always_inline]] static inline auto scale(const Step& step, int g) {
    return S::mul(S::load_f16(step.d), S::to_float(S::load_s8(step.scale[g])));
  }
};

template <class S>
struct FormatQ6K {
  using Step = StepQ6K;
  static constexpr DType kType = DType::q6_k;
  static constexpr int kTogether = 4;
  static constexpr int kMostCode = 63;
  static constexpr bool kSigned = false;

  [[gnu::always_inline]] static inline auto codes(const Step& step, int first, int t, int line) {
    return six_bit_line<S>(step.codes[first / 4], t, line);
  }
  [[gnu::always_inline]] static inline auto scale(const Step& step, int g) {
    return S::mul(S::load_f16(step.d), S::to_float(S::load_s8(step.scale[g])));
  }
};

template <class S>
struct FormatIq4Nl {
  using Step = StepQ4;
  static constexpr DType kType = DType::iq4_nl;
  static constexpr int kTogether = 2;
  static constexpr int kMostCode = 241;
  static constexpr bool kSigned = S::kSignedTables;

  [[gnu::always_inline]] static inline auto codes(const Step& step, int /*first*/, int t, int line) {
    return iq4_line<S>(nibble_line<S>(step.codes, t, line));
  }
  [[gnu::always_inline]] static inline auto scale(const Step& step, int g) { return S::load_f16(step.scale[g]); }
};

template <class S>
struct FormatIq4Xs {
  using Step = StepIq4Xs;
  static constexpr DType kType = DType::iq4_xs;
  static constexpr int kTogether = 2;
  static constexpr int kMostCode = 241;
  static constexpr bool kSigned = S::kSignedTables;

  [[gnu::always_inline]] static inline auto codes(const Step& step, int first, int t, int line) {
    return iq4_line<S>(nibble_line<S>(step.codes[first / 2], t, line));
  }
  [[gnu::always_inline]] static inline auto scale(const Step& step, int g) {
    return S::mul(S::load_f16(step.d), S::to_float(S::load_s8(step.scale[g])));
  }
};

template <class S>
struct FormatMxfp4 {
  using Step = StepMxfp4;
  static constexpr DType kType = DType::mxfp4;
  static constexpr int kTogether = 2;
  static constexpr int kMostCode = 2 * kMxfp4Zero;
  static constexpr bool kSigned = false;

  [[gnu::always_inline]] static inline auto codes(const Step& step, int first, int t, int line) {
    return S::look_up(nibble_line<S>(step.codes[first / 2], t, line), kMxfp4Codes);
  }
  [[gnu::always_inline]] static inline auto scale(const Step& step, int g) {
    return S::load_mxfp4_scale(step.exponent[g]);
  }
};

// For few_rows(): straight from the packed weights.
template <class S, class Format>
struct RowsOf {
  using Step = typename Format::Step;
  static constexpr DType kType = Format::kType;
  static constexpr int kPanelsOfOneRow = 1;
  using Rows = RowsAt<S, kType>;
  static constexpr PanelLayout kLayout = panel_layout(kType);
  static_assert(Rows::kPlanes == 1 && (Rows::kGroup == 32 || Rows::kGroup == 256));

  using Sum = typename S::template NarrowSum<Format::kMostCode>;
  static constexpr int kGroups = 32 / kLayout.sum_group;  // in a block of 32 k
  static_assert(kGroups == 1 || (kGroups == 2 && Rows::kGroup == 256));

  template <int R>
  [[gnu::always_inline]] static inline void add(const Step& step, int64_t ahead, const Rows& x, int64_t k,
                                                Sums<S, R>& sums) {
    const Ask ask(step, ahead);
    for (int first = 0; first < kLayout.step / 32; first += Format::kTogether) {
#pragma GCC unroll 4
      for (int t = 0; t < Format::kTogether; ++t)
        add_block<R>(step, ask, first, t, x, k + (first + t) * 32, sums);
    }
  }

 private:
  using Ask = AskAhead<Step, static_cast<int>(kLayout.step) / 32 / Format::kTogether, Format::kTogether * 8>;

  template <int R>
  [[gnu::always_inline]] static inline void add_block(const Step& step, const Ask& ask, int first, int t, const Rows& x,
                                                      int64_t k, Sums<S, R>& sums) {
    Sum products[kGroups][R];
    for (int g = 0; g < kGroups; ++g) {
      for (int r = 0; r < R; ++r) {
        constexpr bool from_zero = kLayout.has_mins() || Format::kSigned;
        products[g][r].start(from_zero ? 0 : x.sum(k + g * kLayout.sum_group)[r]);
      }
    }
    const std::byte* codes = x.block(k);
#pragma GCC unroll 8
    for (int line = 0; line < 8; ++line) {
      ask(first / Format::kTogether, t * 8 + line);
      const auto w = Format::codes(step, first, t, line);
      const int g = line * kGroups / 8;
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
        products[g][r].add(line % (8 / kGroups), w, S::load_narrow_x(Rows::at(codes, r, line)));
    }
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g)
      add_group<R>(step, (first + t) * kGroups + g, products[g], x, k + g * kLayout.sum_group, sums);
  }

  template <int R>
  [[gnu::always_inline]] static inline void add_group(const Step& step, int g, const Sum (&products)[R], const Rows& x,
                                                      int64_t k, Sums<S, R>& sums) {
    const typename S::F scale = Format::scale(step, g);
    for (int r = 0; r < R; ++r) {
      const typename S::F product = S::to_float(products[r].total());
      typename S::F sum = Rows::kGroup == 32 ? S::mul(product, scale) : S::fma(product, scale, sums.group[r]);
      if constexpr (kLayout.has_mins()) sum = S::fma(S::to_float(S::set1_i(x.sum(k)[r])), Format::min(step, g), sum);
      if constexpr (Rows::kGroup == 32) {
        sums.all[r] = S::fma(sum, S::set1(x.scale(k)[r]), sums.all[r]);
      } else {
        sums.group[r] = sum;
      }
    }
  }
};

// For many_rows(), and for tiles of AMX: opened into lines of whole codes. `Shared` is Tile, where that is another one.
template <class S, class Format, class Shared = void>
struct TilesOf {
  using Step = typename Format::Step;
  using Rows = RowsOf<S, Format>;
  using Tile = std::conditional_t<std::is_void_v<Shared>, TilesOf, Shared>;
  static constexpr PanelLayout kLayout = panel_layout(Format::kType);
  static constexpr int64_t kFewRows = S::kFewRows < 4 ? S::kFewRows : 4;
  static constexpr int kMostCode = Format::kMostCode;
  static constexpr int64_t kBlock = kLayout.sum_group;
  static constexpr bool kMins = kLayout.has_mins();
  static constexpr bool kSigned = Format::kSigned;

  template <bool is_signed>
  [[gnu::always_inline]] static inline void open(const Step& step, int64_t first, OpenStretch& out) {
    constexpr int zero = is_signed && !kMins ? -kLayout.sum_factor : 0;
    for (int at = 0; at < kLayout.step / 32; at += Format::kTogether) {
#pragma GCC unroll 4
      for (int t = 0; t < Format::kTogether; ++t) {
        uint8_t(*to)[kLineBytes] = out.codes + first * (kBlock / 4) + (at + t) * 8;
#pragma GCC unroll 8
        for (int line = 0; line < 8; ++line)
          store<zero>(to[line], Format::codes(step, at, t, line));
        for (int g = (at + t) * Rows::kGroups; g < (at + t + 1) * Rows::kGroups; ++g) {
          out.lines[first + g] = out.codes + (first + g) * (kBlock / 4);
          S::store(out.scale[first + g], Format::scale(step, g));
          if constexpr (kMins) S::store(out.min[first + g], Format::min(step, g));
        }
      }
    }
  }

 private:
  template <int zero, class Codes>
  [[gnu::always_inline]] static inline void store(uint8_t* to, Codes codes) {
    if constexpr (zero == 0) {
      S::store_line(to, codes);
    } else {
      S::store_less(to, codes, zero);
    }
  }
};

// A type that opens as T does, where an instruction set's tiles do not care for the largest code, or T's is as large.
template <class S, class Format, class T>
struct ShareTilesOf {
  static constexpr bool kAlike = !Format::kSigned && (!S::kOwnTiles || Format::kMostCode <= T::kMostCode);
  static constexpr PanelLayout kLayout = panel_layout(Format::kType);
  static constexpr PanelLayout kOther = panel_layout(T::Rows::kType);
  static_assert(kLayout.sum_group == kOther.sum_group && kLayout.activation_group == kOther.activation_group &&
                kLayout.wide == kOther.wide && kLayout.has_mins() == kOther.has_mins());
  using Tiles = std::conditional_t<kAlike, TilesOf<S, Format, T>, TilesOf<S, Format>>;
};

template <class S>
using TilesQ50 = TilesOf<S, FormatQ50<S>>;
template <class S>
using TilesQ51 = TilesOf<S, FormatQ51<S>>;
template <class S>
using TilesQ41 = typename ShareTilesOf<S, FormatQ41<S>, TilesQ51<S>>::Tiles;
template <class S>
using TilesQ2K = TilesOf<S, FormatQ2K<S>>;
template <class S>
using TilesQ6K = TilesOf<S, FormatQ6K<S>>;
template <class S>
using TilesQ3K = typename ShareTilesOf<S, FormatQ3K<S>, TilesQ6K<S>>::Tiles;
template <class S>
using TilesQ5K = typename ShareTilesOf<S, FormatQ5K<S>, TilesQ4K<S>>::Tiles;
template <class S>
using TilesIq4Nl = typename ShareTilesOf<S, FormatIq4Nl<S>, TilesQ50<S>>::Tiles;
template <class S>
using TilesIq4Xs = TilesOf<S, FormatIq4Xs<S>>;
template <class S>
using TilesMxfp4 = typename ShareTilesOf<S, FormatMxfp4<S>, TilesQ50<S>>::Tiles;

}  // namespace
}  // namespace tidemill::tensor
