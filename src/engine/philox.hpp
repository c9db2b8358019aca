// A counter-based random number generator: the number at a place is a function of the place, so that no draw depends on
// what was drawn before it, or for whom.
#pragma once

#include <array>
#include <cstdint>

namespace tidemill::engine {

// Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Uniform in [0, 1), a multiple of 2^-53: the draw of token number `position` of an output seeded with `seed`.
double uniform(uint64_t seed, uint64_t position);

}  // namespace tidemill::engine
