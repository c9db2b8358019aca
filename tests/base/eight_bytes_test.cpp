#include "base/eight_bytes.hpp"

#include <string>

#include <gtest/gtest.h>

namespace tidemill::base {
namespace {

using namespace eight_bytes;

// Each byte at each place of texts of each length up to three times eight, beside all neighbours that could borrow.
TEST(EightBytes, FindABoundAndAByteWhereverTheyStand) {
  for (const int other : {0x00, 0x1f, 0x20, 0x22, 0x61, 0x7f, 0x80, 0xff}) {
    const bool low = other < 0x20;
    const bool quote = other == '"';
    const bool high = other >= 0x80;
    for (size_t size = 1; size <= 24; ++size) {
      for (size_t at = 0; at < size; ++at) {
        for (const char neighbour : {' ', '!', '#', 'z', '\x7e'}) {
          std::string text(size, neighbour);
          text[at] = static_cast<char>(other);
          EXPECT_EQ(any_of_bytes(text, [](uint64_t eight) { return below(eight, ' '); }), low) << other << ' ' << at;
          EXPECT_EQ(any_of_bytes(text, [](uint64_t eight) { return equal(eight, '"'); }), quote) << other << ' ' << at;
          EXPECT_EQ(any_of_bytes(text, [](uint64_t eight) { return beyond_ascii(eight); }), high) << other << ' ' << at;
        }
      }
    }
  }
}

TEST(EightBytes, FindNothingInNothing) {
  EXPECT_FALSE(any_of_bytes("", [](uint64_t eight) { return below(eight, ' ') | equal(eight, 0); }));
}

}  // namespace
}  // namespace tidemill::base
