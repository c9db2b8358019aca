// Random numbers by what they are for: which does not depend on what was drawn before, so that work which was stopped
// goes on as if it had not been.
#pragma once

#include <cstdint>

namespace tidemill::distill {

// A uniformly random number for (seed, a, b): SplitMix64's finaliser (Steele, Lea, Flood 2014) over each in turn.
inline uint64_t drawn(uint64_t seed, uint64_t a, uint64_t b) {
  const auto mix = [](uint64_t z) {
    z += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  };
  return mix(mix(mix(seed) ^ a) ^ b);
}

// The same in [0, 1), with 53 bits.
inline double drawn_share(uint64_t seed, uint64_t a, uint64_t b) {
  return static_cast<double>(drawn(seed, a, b) >> 11) * 0x1p-53;
}

}  // namespace tidemill::distill
