#include "base/checksum.hpp"

#include <cstring>
#include <string>

#include <gtest/gtest.h>

namespace tidemill::base {
namespace {

std::string pattern(size_t size) {
  std::string text(size, '\0');
  uint32_t state = 1;
  for (char& c : text) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return text;
}

TEST(Checksum, IsXxh3) {
  // The values that xxhsum -H3 prints for the empty input and for "abc".
  EXPECT_EQ(checksum({}), 0x2d06800538d394c2U);
  EXPECT_EQ(checksum(std::as_bytes(std::span("abc", 3))), 0x78af5f94892f3950U);
}

TEST(Checksum, PiecesAreHashedAlone) {
  const std::string text = pattern(2 * kChecksumPiece + 5);
  const auto bytes = std::as_bytes(std::span(text));
  const uint64_t pieces[] = {checksum(bytes.first(kChecksumPiece)),
                             checksum(bytes.subspan(kChecksumPiece, kChecksumPiece)), checksum(bytes.last(5))};
  for (const int threads : {1, 3}) {
    ThreadTeam team(threads);
    EXPECT_EQ(piecewise_checksum(bytes, team), checksum(std::as_bytes(std::span(pieces))));
  }
}

TEST(Checksum, PortionsDoNotMatter) {
  ThreadTeam team(1);
  PiecewiseChecksum sum;
  for (const size_t size :
       {size_t{0}, size_t{1}, kChecksumPiece - 1, kChecksumPiece, kChecksumPiece + 1, 3 * kChecksumPiece + 12345}) {
    const std::string text = pattern(size);
    const auto bytes = std::as_bytes(std::span(text));
    const uint64_t whole = piecewise_checksum(bytes, team);
    for (const size_t portion : {size_t{1000}, kChecksumPiece, kChecksumPiece + 77, size + 1}) {
      for (size_t at = 0; at < size; at += portion)
        sum.add(bytes.subspan(at, std::min(portion, size - at)));
      EXPECT_EQ(sum.finish(), whole) << size << " in portions of " << portion;
    }
  }
}

TEST(Checksum, EveryBitCounts) {
  std::string text = pattern(kChecksumPiece + 100);
  ThreadTeam team(1);
  const uint64_t before = piecewise_checksum(std::as_bytes(std::span(text)), team);
  for (const size_t at : {size_t{0}, kChecksumPiece - 1, kChecksumPiece, text.size() - 1}) {
    text[at] = static_cast<char>(text[at] ^ 64);
    EXPECT_NE(piecewise_checksum(std::as_bytes(std::span(text)), team), before);
    text[at] = static_cast<char>(text[at] ^ 64);
  }
}

}  // namespace
}  // namespace tidemill::base
