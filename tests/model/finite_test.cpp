// Weights that are no numbers, in every type, against what dequantising each element shows.
#include "model/finite.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::model {
namespace {

using tensor::DType;

std::optional<NotFinite> one_by_one(DType type, std::span<const std::byte> bytes) {
  const tensor::DTypeInfo& t = tensor::info(type);
  const int64_t elements = static_cast<int64_t>(bytes.size()) / t.block_bytes * t.block_elements;
  std::vector<float> values(static_cast<size_t>(elements));
  tensor::dequantize(type, bytes.data(), elements, values.data());
  const auto odd = std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  if (odd == values.end()) return std::nullopt;
  return NotFinite{.element = odd - values.begin(), .value = *odd};
}

class Finite : public testing::TestWithParam<DType> {
 protected:
  // Blocks of any bits; how often a number or scale has all bits of its exponent set differs from type to type.
  std::vector<std::byte> random_blocks(size_t blocks) {
    std::vector<std::byte> bytes(blocks * static_cast<size_t>(tensor::info(GetParam()).block_bytes));
    for (std::byte& byte : bytes)
      byte = static_cast<std::byte>(random_() & 255U);
    return bytes;
  }

  std::mt19937 random_{7};
};

TEST_P(Finite, IsWhatDequantisingShows) {
  int odd = 0;
  int fine = 0;
  for (int round = 0; round < 3000; ++round) {
    const std::vector<std::byte> bytes = random_blocks(random_() % 24);
    const auto expected = one_by_one(GetParam(), bytes);
    const auto found = find_not_finite(GetParam(), bytes, nullptr);
    ASSERT_EQ(found.has_value(), expected.has_value()) << round;
    ++(expected ? odd : fine);
    if (!expected) continue;
    ASSERT_EQ(found->element, expected->element) << round;
    ASSERT_EQ(std::isnan(found->value), std::isnan(expected->value));
  }
  EXPECT_GT(odd, 20);
  EXPECT_GT(fine, 20);
}

TEST_P(Finite, ManyThreadsFindTheFirst) {
  base::ThreadTeam team(3);
  const tensor::DTypeInfo& t = tensor::info(GetParam());
  const size_t blocks = (size_t{2} << 20) / static_cast<size_t>(t.block_bytes);
  std::vector<std::byte> bytes(blocks * static_cast<size_t>(t.block_bytes));
  EXPECT_FALSE(find_not_finite(GetParam(), bytes, &team));
  // All bits of a block are as far from a number as can be.
  for (const size_t block : {blocks - 1, blocks / 2, blocks / 2 - 7}) {
    std::memset(bytes.data() + block * static_cast<size_t>(t.block_bytes), 0xff, static_cast<size_t>(t.block_bytes));
    for (base::ThreadTeam* of : {&team, static_cast<base::ThreadTeam*>(nullptr)}) {
      const auto found = find_not_finite(GetParam(), bytes, of);
      ASSERT_TRUE(found);
      EXPECT_EQ(found->element, static_cast<int64_t>(block) * t.block_elements);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Finite, testing::ValuesIn(tensor::all_dtypes().begin(), tensor::all_dtypes().end()),
                         [](const auto& instance) { return std::string(tensor::info(instance.param).name); });

TEST(FiniteNumbers, TheLargestAreAndInfinitiesAreNot) {
  const auto element = [](DType type, uint32_t bits, size_t at, size_t count, size_t shift) {
    const auto size = static_cast<size_t>(tensor::info(type).block_bytes);
    std::vector<std::byte> bytes(shift + count * size);  // at any alignment
    std::memcpy(bytes.data() + shift + at * size, &bits, size);
    const auto found = find_not_finite(type, std::span(bytes).subspan(shift), nullptr);
    return found ? found->element : -1;
  };
  for (size_t at = 0; at < 37; ++at) {
    for (const size_t shift : {0U, 1U, 3U}) {
      const auto place = static_cast<int64_t>(at);
      for (const uint32_t sign : {0U, 1U}) {
        EXPECT_EQ(element(DType::f32, sign << 31U | 0x7f7fffffU, at, 37, shift), -1);
        EXPECT_EQ(element(DType::f32, sign << 31U | 0x7f800000U, at, 37, shift), place);
        EXPECT_EQ(element(DType::f32, sign << 31U | 0x7f800001U, at, 37, shift), place);
        EXPECT_EQ(element(DType::f16, sign << 15U | 0x7bffU, at, 37, shift), -1);
        EXPECT_EQ(element(DType::f16, sign << 15U | 0x7c00U, at, 37, shift), place);
        EXPECT_EQ(element(DType::bf16, sign << 15U | 0x7f7fU, at, 37, shift), -1);
        EXPECT_EQ(element(DType::bf16, sign << 15U | 0x7f80U, at, 37, shift), place);
      }
    }
  }
  EXPECT_FALSE(find_not_finite(DType::f32, {}, nullptr));
}

// MXFP4's scales go beyond F32: what they make of a code decides.
TEST(FiniteNumbers, LargeExponentsOfMxfp4Depend) {
  std::vector<std::byte> block(17);
  block[0] = std::byte{253};
  block[5] = std::byte{0x05};  // 3
  EXPECT_FALSE(find_not_finite(DType::mxfp4, block, nullptr));
  block[5] = std::byte{0xf0};  // -6, of the second half
  const auto found = find_not_finite(DType::mxfp4, block, nullptr);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->element, 20);
  EXPECT_EQ(found->value, -std::numeric_limits<float>::infinity());
}

}  // namespace
}  // namespace tidemill::model
