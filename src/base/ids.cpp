#include "base/ids.hpp"

#include <random>

namespace tidemill::base {

uint64_t random_u64() {
  thread_local uint64_t state = [] {
    std::random_device device;
    return (uint64_t{device()} << 32) ^ device();
  }();
  // SplitMix64, Steele, Lea and Flood 2014.
  uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::string random_hex(int bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text;
  text.reserve(static_cast<size_t>(bytes) * 2);
  for (int i = 0; i < bytes; ++i) {
    const uint64_t r = random_u64();
    text += digits[(r >> 60) & 15];
    text += digits[(r >> 52) & 15];
  }
  return text;
}

std::string random_id(std::string_view prefix) {
  constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  std::string text(prefix);
  for (int i = 0; i < 24; ++i)
    text += alphabet[random_u64() % alphabet.size()];
  return text;
}

}  // namespace tidemill::base
