#include "tensor/dtype.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::tensor {
namespace {

std::vector<float> decode(DType type, const std::vector<uint8_t>& bytes) {
  const DTypeInfo& t = info(type);
  const int64_t elements = static_cast<int64_t>(bytes.size()) / t.block_bytes * t.block_elements;
  std::vector<float> out(static_cast<size_t>(elements));
  dequantize(type, reinterpret_cast<const std::byte*>(bytes.data()), elements, out.data());
  return out;
}

TEST(DType, NamesAndNumbers) {
  EXPECT_EQ(dtype_from_name("q4_k"), DType::q4_k);
  EXPECT_EQ(dtype_from_name("BF16"), DType::bf16);
  EXPECT_EQ(dtype_from_name("iq4_NL"), DType::iq4_nl);
  EXPECT_EQ(dtype_from_name("Q8_1"), std::nullopt);
  EXPECT_EQ(dtype_from_name(""), std::nullopt);
  EXPECT_EQ(dtype_from_ggml(14), DType::q6_k);
  EXPECT_EQ(dtype_from_ggml(39), DType::mxfp4);
  EXPECT_EQ(dtype_from_ggml(9), std::nullopt);
  EXPECT_EQ(all_dtypes().size(), kDTypes);
  for (const DType type : all_dtypes()) {
    EXPECT_EQ(dtype_from_name(info(type).name), type);
    EXPECT_EQ(dtype_from_ggml(info(type).ggml_type), type);
  }
  EXPECT_EQ(row_bytes(DType::q4_k, 512), 288);
  EXPECT_EQ(row_bytes(DType::f16, 3), 6);
}

TEST(DType, HalfRoundTripsEveryPattern) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = f16_to_f32(static_cast<uint16_t>(bits));
    const uint32_t exponent = bits >> 10 & 31;
    const uint32_t mantissa = bits & 0x3ff;
    if (exponent == 31 && mantissa != 0) {
      EXPECT_TRUE(std::isnan(value));
      continue;
    }
    double expected = exponent == 0    ? std::ldexp(mantissa, -24)
                      : exponent == 31 ? std::numeric_limits<double>::infinity()
                                       : std::ldexp(1024 + mantissa, static_cast<int>(exponent) - 25);
    if ((bits & 0x8000) != 0) expected = -expected;
    ASSERT_EQ(value, expected) << bits;
    ASSERT_EQ(f32_to_f16(value), bits);
  }
}

TEST(DType, HalfRoundsToNearestEven) {
  EXPECT_EQ(f32_to_f16(1.0F + 0x1p-11F), 0x3c00);             // tie: stays even
  EXPECT_EQ(f32_to_f16(1.0F + 0x1p-10F + 0x1p-11F), 0x3c02);  // tie: goes to even
  EXPECT_EQ(f32_to_f16(1.0F + 0x1.002p-11F), 0x3c01);
  EXPECT_EQ(f32_to_f16(65504.0F), 0x7bff);
  EXPECT_EQ(f32_to_f16(65519.0F), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(f32_to_f16(-1e30F), 0xfc00);
  EXPECT_EQ(f32_to_f16(0x1p-25F), 0);  // tie with zero
  EXPECT_EQ(f32_to_f16(0x1.8p-25F), 1);
  EXPECT_EQ(f32_to_f16(-0x1p-24F), 0x8001);
  EXPECT_EQ(f32_to_f16(0x1.ffbp-15F), 0x03ff);
  EXPECT_EQ(f32_to_f16(0x1.ffcp-15F), 0x0400);  // tie: goes to even
  EXPECT_EQ(f32_to_f16(0x1.fffp-15F), 0x0400);
  EXPECT_EQ(f32_to_f16(std::numeric_limits<float>::quiet_NaN()) & 0x7e00, 0x7e00);
}

TEST(DType, BrainFloatRoundsToNearestEven) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = bf16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(value))));
    } else {
      ASSERT_EQ(f32_to_bf16(value), bits);
    }
  }
  EXPECT_EQ(f32_to_bf16(1.0F + 0x1p-8F), 0x3f80);
  EXPECT_EQ(f32_to_bf16(1.0F + 0x1p-7F + 0x1p-8F), 0x3f82);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
}

TEST(DType, DecodesQ8_0) {
  std::vector<uint8_t> block(34, 0);
  block[0] = 0x00;
  block[1] = 0x38;  // 0.5
  block[2] = 0x80;  // -128
  block[3] = 0x7f;
  block[33] = 0xff;  // -1
  const std::vector<float> x = decode(DType::q8_0, block);
  EXPECT_EQ(x[0], -64.0F);
  EXPECT_EQ(x[1], 63.5F);
  EXPECT_EQ(x[2], 0.0F);
  EXPECT_EQ(x[31], -0.5F);
}

TEST(DType, DecodesQ4_0) {
  std::vector<uint8_t> block(18, 0x88);
  block[0] = 0x00;
  block[1] = 0x40;   // 2
  block[2] = 0xf0;   // element 0: 0 - 8, element 16: 15 - 8
  block[17] = 0x9a;  // element 15: 10 - 8, element 31: 9 - 8
  const std::vector<float> x = decode(DType::q4_0, block);
  EXPECT_EQ(x[0], -16.0F);
  EXPECT_EQ(x[16], 14.0F);
  EXPECT_EQ(x[1], 0.0F);
  EXPECT_EQ(x[15], 4.0F);
  EXPECT_EQ(x[31], 2.0F);
}

TEST(DType, DecodesQ4_K) {
  std::vector<uint8_t> block(144, 0);
  block[1] = 0x3c;  // d = 1
  block[3] = 0x38;  // dmin = 0.5
  // Group 0: scale 5, min 3. Group 5: scale 0x2b = (low nibble 0xb, high bits 2), min 0x17 (low nibble 7, high bits 1).
  block[4 + 0] = 5;
  block[4 + 4] = 3;
  block[4 + 1] = 2 << 6;
  block[4 + 5] = 1 << 6;
  block[4 + 9] = 0x7b;
  block[16] = 0x0f;               // element 0: 15
  block[16 + 2 * 32 + 4] = 0xa2;  // elements 128 + 4: 2 (group 4), 160 + 4: 10 (group 5)
  const std::vector<float> x = decode(DType::q4_k, block);
  EXPECT_EQ(x[0], 5 * 15 - 1.5F);
  EXPECT_EQ(x[1], -1.5F);
  EXPECT_EQ(x[32], 0.0F);  // group 1: scale and min 0
  EXPECT_EQ(x[132], 0.0F);
  EXPECT_EQ(x[164], 43 * 10 - 11.5F);
  EXPECT_EQ(x[160], -11.5F);
}

TEST(DType, DecodesQ6_K) {
  std::vector<uint8_t> block(210, 0);
  block[209] = 0x3c;       // d = 1
  block[192 + 0] = 2;      // elements 0..15
  block[192 + 7] = 0xff;   // -1: elements 112..127
  block[192 + 13] = 3;     // elements 208..223
  block[0] = 0x07;         // element 0: low 7
  block[128] = 0x03;       // element 0: high 3 -> 55
  block[63] = 0x50;        // element 127: low 5
  block[128 + 31] = 0x80;  // element 127: high 2 -> 37
  block[64 + 16] = 0x90;   // element 128 + 64 + 16 = 208: low 9
  block[160 + 16] = 0x10;  // high 1 -> 25
  const std::vector<float> x = decode(DType::q6_k, block);
  EXPECT_EQ(x[0], 2 * (55 - 32));
  EXPECT_EQ(x[1], 2 * -32);
  EXPECT_EQ(x[127], -5.0F);
  EXPECT_EQ(x[126], 32.0F);
  EXPECT_EQ(x[208], 3 * (25 - 32));
  EXPECT_EQ(x[16], 0.0F);
}

TEST(DType, DecodesQ4_1) {
  std::vector<uint8_t> block(20, 0);
  block[1] = 0x40;   // d = 2
  block[3] = 0xbc;   // m = -1
  block[4] = 0xf3;   // element 0: 3, element 16: 15
  block[19] = 0x10;  // element 31: 1
  const std::vector<float> x = decode(DType::q4_1, block);
  EXPECT_EQ(x[0], 5.0F);
  EXPECT_EQ(x[16], 29.0F);
  EXPECT_EQ(x[15], -1.0F);
  EXPECT_EQ(x[31], 1.0F);
}

TEST(DType, DecodesQ5_0) {
  std::vector<uint8_t> block(22, 0);
  block[1] = 0x38;   // d = 0.5
  block[2] = 0x01;   // fifth bit of element 0
  block[5] = 0x80;   // and of element 31
  block[6] = 0x2f;   // element 0: 15, element 16: 2
  block[21] = 0x90;  // element 31: 9
  const std::vector<float> x = decode(DType::q5_0, block);
  EXPECT_EQ(x[0], 0.5F * 15);
  EXPECT_EQ(x[16], 0.5F * -14);
  EXPECT_EQ(x[1], -8.0F);
  EXPECT_EQ(x[31], 0.5F * 9);
}

TEST(DType, DecodesQ5_1) {
  std::vector<uint8_t> block(24, 0);
  block[1] = 0x3c;   // d = 1
  block[3] = 0xc4;   // m = -4
  block[6] = 0x01;   // fifth bit of element 16
  block[8] = 0x7a;   // element 0: 10, element 16: 7
  block[23] = 0x0c;  // element 15: 12
  const std::vector<float> x = decode(DType::q5_1, block);
  EXPECT_EQ(x[0], 6.0F);
  EXPECT_EQ(x[16], 19.0F);
  EXPECT_EQ(x[15], 8.0F);
  EXPECT_EQ(x[31], -4.0F);
}

TEST(DType, DecodesQ2_K) {
  std::vector<uint8_t> block(84, 0);
  block[81] = 0x3c;  // d = 1
  block[83] = 0x38;  // dmin = 0.5
  block[0] = 0x35;   // group 0: scale 5, min 3
  block[7] = 0x1f;   // group 7: scale 15, min 1
  block[8] = 0xf2;   // group 8: scale 2, min 15
  block[16] = 0x03;  // element 0: 3
  block[47] = 0x80;  // element 96 + 31 = 127: 2
  block[48] = 0x0d;  // element 128: 1, element 160: 3 (group 10: scale 0)
  const std::vector<float> x = decode(DType::q2_k, block);
  EXPECT_EQ(x[0], 5 * 3 - 1.5F);
  EXPECT_EQ(x[1], -1.5F);
  EXPECT_EQ(x[16], 0.0F);
  EXPECT_EQ(x[127], 15 * 2 - 0.5F);
  EXPECT_EQ(x[128], 2 * 1 - 7.5F);
  EXPECT_EQ(x[160], 0.0F);
}

TEST(DType, DecodesQ3_K) {
  std::vector<uint8_t> block(110, 0);
  block[109] = 0x3c;  // d = 1
  // Group 0: 33 = 1 + 2 * 16; group 9: 45 = 13 + 2 * 16; all others 0, less 32.
  block[96 + 0] = 0x01;
  block[96 + 1] = 0xd0;
  block[104 + 0] = 0x02;
  block[104 + 1] = 0x20;
  block[0] = 0x21;        // third bits of elements 0 and 160
  block[16] = 0x10;       // third bit of element 128 + 16 = 144 (group 9)
  block[32] = 0x02;       // element 0: 2
  block[64 + 16] = 0x01;  // element 144: 1
  block[64] = 0x0c;       // element 128 + 32 = 160 (group 10): 3
  const std::vector<float> x = decode(DType::q3_k, block);
  EXPECT_EQ(x[0], 1 * (6 - 4));
  EXPECT_EQ(x[1], 1 * -4);
  EXPECT_EQ(x[144], 13 * (5 - 4));
  EXPECT_EQ(x[145], 13 * -4);
  EXPECT_EQ(x[160], -32 * (7 - 4));
  EXPECT_EQ(x[255], -32 * -4);
}

TEST(DType, DecodesQ5_K) {
  std::vector<uint8_t> block(176, 0);
  block[1] = 0x3c;  // d = 1
  block[3] = 0x38;  // dmin = 0.5
  // Scales and minima as in Q4_K.
  block[4 + 0] = 5;
  block[4 + 4] = 3;
  block[4 + 1] = 2 << 6;
  block[4 + 5] = 1 << 6;
  block[4 + 9] = 0x7b;
  block[16] = 0x01;               // fifth bit of element 0
  block[16 + 4] = 0x20;           // and of element 160 + 4
  block[48] = 0x0f;               // element 0: 15
  block[48 + 2 * 32 + 4] = 0xa2;  // elements 128 + 4: 2, 160 + 4: 10
  const std::vector<float> x = decode(DType::q5_k, block);
  EXPECT_EQ(x[0], 5 * 31 - 1.5F);
  EXPECT_EQ(x[1], -1.5F);
  EXPECT_EQ(x[132], 0.0F);
  EXPECT_EQ(x[164], 43 * 26 - 11.5F);
  EXPECT_EQ(x[160], -11.5F);
}

TEST(DType, DecodesIQ4_NL) {
  std::vector<uint8_t> block(18, 0x88);
  block[0] = 0x00;
  block[1] = 0x40;   // 2
  block[2] = 0xf0;   // element 0: -127, element 16: 113
  block[17] = 0x79;  // element 15: 13, element 31: -10
  const std::vector<float> x = decode(DType::iq4_nl, block);
  EXPECT_EQ(x[0], -254.0F);
  EXPECT_EQ(x[16], 226.0F);
  EXPECT_EQ(x[1], 2.0F);
  EXPECT_EQ(x[15], 26.0F);
  EXPECT_EQ(x[31], -20.0F);
}

TEST(DType, DecodesIQ4_XS) {
  std::vector<uint8_t> block(136, 0);
  block[1] = 0x3c;        // d = 1
  block[2] = 0x02;        // group 0: high bits 2
  block[3] = 0xc0;        // group 7: high bits 3
  block[4] = 0x01;        // group 0: 33 - 32; group 1: 0 - 32
  block[7] = 0xf0;        // group 7: 63 - 32
  block[8] = 0x2f;        // element 0: 113, element 16: -83
  block[24] = 0x08;       // element 32: 1
  block[8 + 127] = 0x40;  // element 255: -49
  const std::vector<float> x = decode(DType::iq4_xs, block);
  EXPECT_EQ(x[0], 113.0F);
  EXPECT_EQ(x[16], -83.0F);
  EXPECT_EQ(x[1], -127.0F);
  EXPECT_EQ(x[32], -32.0F);
  EXPECT_EQ(x[255], 31.0F * -49);
}

TEST(DType, DecodesMXFP4) {
  std::vector<uint8_t> block(17, 0);
  block[0] = 128;    // 2
  block[1] = 0xf1;   // element 0: 0.5, element 16: -6
  block[16] = 0x5b;  // element 15: -1.5, element 31: 3
  const std::vector<float> x = decode(DType::mxfp4, block);
  EXPECT_EQ(x[0], 1.0F);
  EXPECT_EQ(x[16], -12.0F);
  EXPECT_EQ(x[1], 0.0F);
  EXPECT_EQ(x[15], -3.0F);
  EXPECT_EQ(x[31], 6.0F);
}

// Worst error of a round trip, in parts of the largest magnitude of the block.
TEST(DType, QuantizesWithinTheStepOfTheFormat) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.1F, 1.0F);
  const std::vector<std::pair<DType, float>> cases = {
      {DType::f32, 0.0F},       {DType::f16, 0x1p-11F},   {DType::bf16, 0x1p-8F},   {DType::q8_0, 0.5F / 127 + 1e-3F},
      {DType::q4_0, 1.01F / 8}, {DType::q4_k, 1.3F / 15}, {DType::q6_k, 1.2F / 32},
  };
  for (const auto& [type, tolerance] : cases) {
    std::vector<float> x(1024);
    for (float& v : x)
      v = normal(random);
    std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(type, 1024)));
    quantize(type, x.data(), 1024, bytes.data());
    std::vector<float> back(1024);
    dequantize(type, bytes.data(), 1024, back.data());
    const auto block = static_cast<size_t>(std::max<int64_t>(1, info(type).block_elements));
    for (size_t b = 0; b < x.size(); b += block) {
      float largest = 0;
      for (size_t i = b; i < b + block; ++i)
        largest = std::max(largest, std::fabs(x[i]));
      for (size_t i = b; i < b + block; ++i) {
        EXPECT_LE(std::fabs(x[i] - back[i]), tolerance * largest) << info(type).name << " " << i;
      }
    }
  }
}

TEST(DType, QuantizesDegenerateInput) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  for (const DType type : all_dtypes()) {
    std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(type, 256)));
    std::vector<float> back(256);
    const std::vector<float> zeros(256, 0.0F);
    quantize(type, zeros.data(), 256, bytes.data());
    dequantize(type, bytes.data(), 256, back.data());
    for (const float v : back)
      EXPECT_EQ(v, 0.0F) << info(type).name;
    for (const float odd : {nan, inf, -inf, 3e38F, -1e-45F}) {
      std::vector<float> x(256, 1.0F);
      x[77] = odd;
      quantize(type, x.data(), 256, bytes.data());
      dequantize(type, bytes.data(), 256, back.data());
      if (info(type).block_elements == 1) continue;
      for (const float v : back)
        ASSERT_TRUE(std::isfinite(v)) << info(type).name << " " << odd;
      if (!(std::fabs(odd) > 1)) continue;  // else it is the nearest that there is, which is large
      EXPECT_GE(std::copysign(1.0F, odd) * back[77], 60000) << info(type).name << " " << odd;
      EXPECT_LE(std::fabs(back[255]), 1.1F) << info(type).name << " " << odd;
    }
  }
}

// Scales and minima are binary16, which ends at 65504; a block may still hold more.
TEST(DType, QuantizesWhatOneScaleCannotHold) {
  std::vector<float> x(256);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = 70000 + 10 * static_cast<float>(i % 32);
  std::vector<float> back(256);
  for (const DType type : all_dtypes()) {
    if (info(type).block_elements == 1) continue;
    std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(type, 256)));
    quantize(type, x.data(), 256, bytes.data());
    dequantize(type, bytes.data(), 256, back.data());
    for (size_t i = 0; i < x.size(); ++i)
      ASSERT_NEAR(back[i], x[i], 0.1 * x[i]) << info(type).name << " " << i;
  }
  // With a minimum as near as steps from the largest one come.
  for (const DType type : {DType::q4_1, DType::q5_1}) {
    std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(type, 256)));
    quantize(type, x.data(), 256, bytes.data());
    dequantize(type, bytes.data(), 256, back.data());
    for (size_t i = 0; i < x.size(); ++i)
      ASSERT_NEAR(back[i], x[i], 200) << info(type).name << " " << i;
    const std::vector<float> below(256, -70000.0F);
    quantize(type, below.data(), 256, bytes.data());
    dequantize(type, bytes.data(), 256, back.data());
    EXPECT_EQ(back, std::vector<float>(256, -65504.0F)) << info(type).name;
  }
}

}  // namespace
}  // namespace tidemill::tensor
