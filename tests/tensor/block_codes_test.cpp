// Codes in blocks: what they are worth against dequantize(), the nearest by brute force, and putting others in. And the
// encoders that weigh errors.
#include "tensor/block_codes.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/block_encoders.hpp"
#include "tensor/quant_blocks.hpp"
#include "tensor/samples.hpp"

namespace tidemill::tensor {
namespace {

using test::block_types;

int codes_of(DType type) {
  switch (type) {
    case DType::q8_0:
      return 256;
    case DType::q6_k:
      return 64;
    case DType::q5_0:
    case DType::q5_1:
    case DType::q5_k:
      return 32;
    case DType::q3_k:
      return 8;
    case DType::q2_k:
      return 4;
    default:
      return 16;
  }
}

// Any block with finite scales, as bytes.
std::vector<std::byte> any_block(test::Samples& samples, DType type) {
  return samples.hostile_weights(type, 1, info(type).block_elements);
}

TEST(BlockCodes, AreWorthWhatDequantisingGives) {
  test::Samples samples(11);
  for (const DType type : block_types()) {
    for (int round = 0; round < 20; ++round) {
      const std::vector<std::byte> block = any_block(samples, type);
      const auto n = static_cast<int>(info(type).block_elements);
      std::vector<float> values(static_cast<size_t>(n));
      dequantize(type, block.data(), n, values.data());
      UnpackedBlock unpacked;
      unpack_block(type, block.data(), unpacked);
      const BlockGrid grid(type, block.data());
      ASSERT_EQ(grid.elements(), n);
      for (int i = 0; i < n; ++i)
        ASSERT_EQ(grid.worth(i, unpacked.codes[i]), values[static_cast<size_t>(i)]) << info(type).name << " " << i;
    }
  }
}

TEST(BlockCodes, OthersTakeTheirPlaceAndScalesStay) {
  test::Samples samples(12);
  for (const DType type : block_types()) {
    for (int round = 0; round < 20; ++round) {
      const std::vector<std::byte> original = any_block(samples, type);
      std::vector<std::byte> block = original;
      const auto n = static_cast<size_t>(info(type).block_elements);
      UnpackedBlock unpacked;
      unpack_block(type, original.data(), unpacked);
      const std::vector<uint8_t> before(unpacked.codes, unpacked.codes + n);
      std::vector<uint8_t> wanted(n);
      for (uint8_t& code : wanted)
        code = static_cast<uint8_t>(samples.below(codes_of(type)));
      store_codes(type, wanted.data(), block.data());
      unpack_block(type, block.data(), unpacked);
      ASSERT_EQ(std::vector<uint8_t>(unpacked.codes, unpacked.codes + n), wanted) << info(type).name;
      store_codes(type, before.data(), block.data());
      ASSERT_EQ(block, original) << info(type).name;
    }
  }
}

TEST(BlockCodes, NearestIsTheNearest) {
  test::Samples samples(13);
  for (const DType type : block_types()) {
    const auto n = info(type).block_elements;
    std::vector<std::byte> block(static_cast<size_t>(info(type).block_bytes));
    const std::vector<float> x = samples.normal(n);
    encode_block(type, x.data(), block.data());
    const BlockGrid grid(type, block.data());
    const std::vector<float> values = samples.normal(n, 1.5F);
    for (int i = 0; i < static_cast<int>(n); ++i) {
      const float value = values[static_cast<size_t>(i)];
      float least = INFINITY;
      for (int code = 0; code < codes_of(type); ++code)
        least = std::min(least, std::fabs(grid.worth(i, static_cast<uint8_t>(code)) - value));
      const float off = std::fabs(grid.worth(i, grid.nearest(i, value)) - value);
      // In the middle between two either will do.
      ASSERT_LE(off, least + 1e-5F * (1 + std::fabs(value))) << info(type).name << " " << i;
    }
  }
}

// Sum of squared errors of a block, each times its importance.
double weighted_error(DType type, const std::vector<float>& x, const std::vector<float>& importance,
                      const std::vector<std::byte>& block) {
  std::vector<float> values(x.size());
  dequantize(type, block.data(), static_cast<int64_t>(x.size()), values.data());
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i)
    sum += importance[i] * std::pow(static_cast<double>(values[i]) - x[i], 2);
  return sum;
}

TEST(BlockEncoders, FollowImportance) {
  test::Samples samples(14);
  for (const DType type : block_types()) {
    const auto n = info(type).block_elements;
    double alike = 0;
    double followed = 0;
    for (int round = 0; round < 50; ++round) {
      const std::vector<float> x = samples.normal(n);
      std::vector<float> importance = samples.normal(n, 1.5F);
      for (float& weight : importance)
        weight = std::exp(2 * weight);  // a few count for most
      std::vector<std::byte> plain(static_cast<size_t>(info(type).block_bytes));
      std::vector<std::byte> weighted(plain.size());
      encode_block(type, x.data(), plain.data());
      encode_block(type, x.data(), importance.data(), weighted.data());
      const double total = weighted_error(type, x, std::vector<float>(importance.size(), 1), plain);
      ASSERT_TRUE(std::isfinite(total));
      alike += weighted_error(type, x, importance, plain);
      followed += weighted_error(type, x, importance, weighted);
    }
    // MXFP4 has two scales to choose from, and many a block one that is best either way.
    EXPECT_LE(followed, alike) << info(type).name;
    EXPECT_TRUE(type == DType::mxfp4 || followed < 0.9 * alike) << info(type).name;
  }
}

TEST(BlockEncoders, AllAlikeIsNoImportance) {
  test::Samples samples(15);
  const std::vector<float> ones(256, 1);
  for (const DType type : block_types()) {
    const std::vector<float> x = samples.normal(info(type).block_elements);
    std::vector<std::byte> plain(static_cast<size_t>(info(type).block_bytes));
    std::vector<std::byte> weighted(plain.size());
    encode_block(type, x.data(), plain.data());
    encode_block(type, x.data(), ones.data(), weighted.data());
    EXPECT_EQ(plain, weighted) << info(type).name;
  }
}

// Those that quantize() makes in a simpler way come no further off by searching for scales.
TEST(BlockEncoders, SearchingBeatsTheSimpleWay) {
  test::Samples samples(16);
  for (const DType type : {DType::q4_0, DType::q4_k, DType::q6_k}) {
    const auto n = info(type).block_elements;
    const std::vector<float> alike(static_cast<size_t>(n), 1);
    double simple = 0;
    double searched = 0;
    for (int round = 0; round < 50; ++round) {
      const std::vector<float> x = samples.normal(n);
      std::vector<std::byte> block(static_cast<size_t>(info(type).block_bytes));
      quantize(type, x.data(), n, block.data());
      simple += weighted_error(type, x, alike, block);
      encode_block(type, x.data(), block.data());
      searched += weighted_error(type, x, alike, block);
    }
    EXPECT_LT(searched, simple) << info(type).name;
  }
}

}  // namespace
}  // namespace tidemill::tensor
