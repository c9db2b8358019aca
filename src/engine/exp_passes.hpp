// The passes over a row that exponentiate, written once over vectors of `width` floats. Included by files compiled for
// different instruction sets: everything has internal linkage and uses nothing of the standard library that the linker
// might keep one copy of for all. Whatever the width, the bits are the same.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tidemill::engine {
namespace {

template <int width>
struct Vectors;
template <>
struct Vectors<4> {
  using Floats = float __attribute__((vector_size(16)));
  using Ints = int32_t __attribute__((vector_size(16)));
};
template <>
struct Vectors<8> {
  using Floats = float __attribute__((vector_size(32)));
  using Ints = int32_t __attribute__((vector_size(32)));
};

template <int width>
struct ExpPasses {
  using Floats = typename Vectors<width>::Floats;
  using Ints = typename Vectors<width>::Ints;
  using TwoDoubles = double __attribute__((vector_size(16)));

  // exp(x) for x <= 0: x = n ln 2 + r with |r| <= ln 2 / 2, then Taylor's polynomial of degree 7 in r (its error there
  // is below 2^-27) and n added to the exponent. Below -87 the result is 0, for the exponent would run out.
  //
  // Inlined without fail, as all here: a call for every few elements costs as much again as the work.
  [[gnu::always_inline]] static inline Floats exp_negative(Floats x) {
    const Floats lowest = Floats{} - 87.0F;
    const Ints alive = x >= lowest;
    x = x > lowest ? x : lowest;
    constexpr float magic = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
    const Floats n = (x * 1.44269504F + magic) - magic;
    const Floats r = (x - n * 0.693359375F) - n * -2.12194440e-4F;  // ln 2 in two parts, the first exact for these n
    Floats p = Floats{} + 1.0F / 5040;
    p = p * r + 1.0F / 720;
    p = p * r + 1.0F / 120;
    p = p * r + 1.0F / 24;
    p = p * r + 1.0F / 6;
    p = p * r + 0.5F;
    p = p * r + 1.0F;
    p = p * r + 1.0F;
    const Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
    Floats scale;
    __builtin_memcpy(&scale, &power, sizeof scale);
    return alive ? p * scale : Floats{};
  }

  // body(i, lanes, count) for every `width` elements; in the last, shorter stretch the lanes past `count` are
  // -infinity. That stretch stands apart because a copy of a length known only at run time is a call.
  template <typename Body>
  [[gnu::always_inline]] static inline void for_lanes(const float* x, size_t size, Body body) {
    size_t i = 0;
    for (; i + width <= size; i += width) {
      Floats lanes;
      __builtin_memcpy(&lanes, x + i, sizeof lanes);
      body(i, lanes, static_cast<size_t>(width));
    }
    if (i == size) return;
    Floats rest = Floats{} - __builtin_inff();
    __builtin_memcpy(&rest, x + i, (size - i) * sizeof(float));
    body(i, rest, size - i);
  }

  [[gnu::always_inline]] static inline void store(const Floats& lanes, float* to, size_t count) {
    if (count == width) {
      __builtin_memcpy(to, &lanes, sizeof lanes);
    } else {
      __builtin_memcpy(to, &lanes, count * sizeof(float));
    }
  }

  // Four running sums, element i going to sum i % 4. `weights` may be null.
  static double exp_sum(const float* x, size_t size, float max, float scale, float* weights) {
    TwoDoubles low{};
    TwoDoubles high{};
    for_lanes(
        x, size, [&](size_t i, const Floats& lanes, size_t count) __attribute__((always_inline)) {
          const Floats terms = exp_negative((lanes - max) * scale);
          if (weights != nullptr) store(terms, weights + i, count);
          for (int quad = 0; quad < width; quad += 4) {
            low += TwoDoubles{terms[quad], terms[quad + 1]};
            high += TwoDoubles{terms[quad + 2], terms[quad + 3]};
          }
        });
    return (low[0] + low[1]) + (high[0] + high[1]);
  }

  static void exp_above(const float* x, size_t size, float max, float scale, float lowest, float* weights) {
    for_lanes(
        x, size, [&](size_t i, const Floats& lanes, size_t count) __attribute__((always_inline)) {
          const Floats exponent = (lanes - max) * scale;
          const Ints wanted = exponent >= lowest;
          int32_t any = 0;
          for (int lane = 0; lane < width; ++lane)
            any |= wanted[lane];
          store(any != 0 ? exp_negative(exponent) : Floats{}, weights + i, count);
        });
  }
};

}  // namespace
}  // namespace tidemill::engine
