// Chance that can be repeated: a hash of a key in place of a coin, so that every gateway, at any time, decides alike.
#pragma once

#include <cstdint>
#include <string_view>

namespace tidemill::rollout {

// The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014):
// every bit of the result depends on every bit of x.
constexpr uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// The hash of `key` among those of `salt`: two salts give the same keys independent hashes, so that it is not always
// the same sessions that try what is new.
uint64_t unit_of(std::string_view salt, std::string_view key);

// The number in [0, 1), a multiple of 2^-53, that the upper bits of `hash` stand for.
constexpr double fraction(uint64_t hash) {
  return static_cast<double>(hash >> 11) * 0x1p-53;
}

}  // namespace tidemill::rollout
