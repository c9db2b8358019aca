// Block types against their definitions: every element read bit by bit, and encoders against what they can represent.
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/block_encoders.hpp"
#include "tensor/dtype.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/samples.hpp"

namespace tidemill::tensor {
namespace {

using test::block_types;

// A block as a string of bits, the lowest of its first byte first.
class Bits {
 public:
  explicit Bits(const std::byte* block) : block_(block) {}

  // `count` bits from bit `bit` of byte `byte` on.
  int at(int byte, int bit, int count) const {
    int value = 0;
    for (int i = 0; i < count; ++i) {
      const int place = byte * 8 + bit + i;
      value |= (static_cast<int>(block_[place / 8]) >> (place % 8) & 1) << i;
    }
    return value;
  }
  float binary16(int byte) const { return f16_to_f32(static_cast<uint16_t>(at(byte, 0, 16))); }

 private:
  const std::byte* block_;
};

// A nibble of 16 bytes from `byte` on, which hold elements 0 .. 15 below and 16 .. 31 above.
int nibble(const Bits& b, int byte, int i) {
  return b.at(byte + i % 16, i / 16 * 4, 4);
}

// The 6-bit scales (0) and minima (1) of Q4_K and Q5_K: bytes 4 .. 15.
int six_bits(const Bits& b, int g, int which) {
  if (g < 4) return b.at(4 + 4 * which + g, 0, 6);
  return b.at(12 + g - 4, 4 * which, 4) + 16 * b.at(4 + 4 * which + g - 4, 6, 2);
}

constexpr std::array<int, 16> kIq4 = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr std::array<double, 8> kE2m1 = {0, 0.5, 1, 1.5, 2, 3, 4, 6};

// Element i of a block. Products are exact in float; what is added is added once.
float element(DType type, const std::byte* block, int i) {
  const Bits b(block);
  const auto times = [](float d, int scale, int code) {
    return static_cast<float>(static_cast<double>(d) * scale * code);
  };
  switch (type) {
    case DType::q8_0:
      return times(b.binary16(0), 1, static_cast<int8_t>(b.at(2 + i, 0, 8)));
    case DType::q4_0:
      return times(b.binary16(0), 1, nibble(b, 2, i) - 8);
    case DType::q4_1:
      return times(b.binary16(0), 1, nibble(b, 4, i)) + b.binary16(2);
    case DType::q5_0:
      return times(b.binary16(0), 1, nibble(b, 6, i) + 16 * b.at(2, i, 1) - 16);
    case DType::q5_1:
      return times(b.binary16(0), 1, nibble(b, 8, i) + 16 * b.at(4, i, 1)) + b.binary16(2);
    case DType::q2_k: {
      const int code = b.at(16 + i / 128 * 32 + i % 32, i / 32 % 4 * 2, 2);
      return times(b.binary16(80), b.at(i / 16, 0, 4), code) - times(b.binary16(82), b.at(i / 16, 4, 4), 1);
    }
    case DType::q3_k: {
      const int g = i / 16;
      const int scale = b.at(96 + g % 8, g / 8 * 4, 4) + 16 * b.at(104 + g % 4, g / 4 * 2, 2) - 32;
      const int code = b.at(32 + i / 128 * 32 + i % 32, i / 32 % 4 * 2, 2) + 4 * b.at(i % 32, i / 32, 1) - 4;
      return times(b.binary16(108), scale, code);
    }
    case DType::q4_k: {
      const int code = b.at(16 + i / 64 * 32 + i % 32, i / 32 % 2 * 4, 4);
      return times(b.binary16(0), six_bits(b, i / 32, 0), code) - times(b.binary16(2), six_bits(b, i / 32, 1), 1);
    }
    case DType::q5_k: {
      const int code = b.at(48 + i / 64 * 32 + i % 32, i / 32 % 2 * 4, 4) + 16 * b.at(16 + i % 32, i / 32, 1);
      return times(b.binary16(0), six_bits(b, i / 32, 0), code) - times(b.binary16(2), six_bits(b, i / 32, 1), 1);
    }
    case DType::q6_k: {
      const int low = b.at(i / 128 * 64 + i % 64, i / 64 % 2 * 4, 4);
      const int high = b.at(128 + i / 128 * 32 + i % 32, i / 32 % 4 * 2, 2);
      return times(b.binary16(208), static_cast<int8_t>(b.at(192 + i / 16, 0, 8)), low + 16 * high - 32);
    }
    case DType::iq4_nl:
      return times(b.binary16(0), 1, kIq4[static_cast<size_t>(nibble(b, 2, i))]);
    case DType::iq4_xs: {
      const int g = i / 32;
      const int scale = b.at(4, g * 4, 4) + 16 * b.at(2, g * 2, 2) - 32;
      return times(b.binary16(0), scale, kIq4[static_cast<size_t>(nibble(b, 8 + g * 16, i % 32))]);
    }
    case DType::mxfp4: {
      const int code = nibble(b, 1, i);
      const double magnitude = std::ldexp(kE2m1[static_cast<size_t>(code % 8)], b.at(0, 0, 8) - 127);
      return static_cast<float>(code < 8 ? magnitude : -magnitude);
    }
    default:
      ADD_FAILURE() << "not a block type";
      return 0;
  }
}

std::vector<DType> searched_types() {
  return {DType::q4_1, DType::q5_0,   DType::q5_1,   DType::q2_k, DType::q3_k,
          DType::q5_k, DType::iq4_nl, DType::iq4_xs, DType::mxfp4};
}

std::vector<float> decoded(DType type, const std::vector<std::byte>& bytes) {
  const DTypeInfo& t = info(type);
  const int64_t elements = static_cast<int64_t>(bytes.size()) / t.block_bytes * t.block_elements;
  std::vector<float> out(static_cast<size_t>(elements));
  dequantize(type, bytes.data(), elements, out.data());
  return out;
}

std::vector<std::byte> encoded(DType type, const std::vector<float>& x) {
  std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(type, static_cast<int64_t>(x.size()))));
  quantize(type, x.data(), static_cast<int64_t>(x.size()), bytes.data());
  return bytes;
}

std::string name_of(const testing::TestParamInfo<DType>& instance) {
  return std::string(info(instance.param).name);
}

class FormatOf : public testing::TestWithParam<DType> {};

TEST_P(FormatOf, AnyBytesAreWorthWhatTheDefinitionSays) {
  test::Samples samples(31);
  const DTypeInfo& t = info(GetParam());
  const int64_t blocks = 64;
  const std::vector<std::byte> bytes = samples.hostile_weights(GetParam(), blocks, t.block_elements);
  const std::vector<float> x = decoded(GetParam(), bytes);
  for (size_t i = 0; i < x.size(); ++i) {
    const auto block = static_cast<int64_t>(i) / t.block_elements;
    const int at = static_cast<int>(static_cast<int64_t>(i) % t.block_elements);
    ASSERT_EQ(x[i], element(GetParam(), bytes.data() + block * t.block_bytes, at)) << "block " << block << ", " << at;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, FormatOf, testing::ValuesIn(block_types()), name_of);

// Every exponent of MXFP4, from subnormal scales to those whose products pass float's range.
TEST(Mxfp4, EveryExponent) {
  std::vector<std::byte> block(17, std::byte{0x00});
  block[1] = std::byte{0x97};   // element 0: 6, element 16: -0.5
  block[16] = std::byte{0x80};  // element 31: minus zero
  for (int exponent = 0; exponent < 255; ++exponent) {
    block[0] = static_cast<std::byte>(exponent);
    const std::vector<float> x = decoded(DType::mxfp4, block);
    EXPECT_EQ(x[0], static_cast<float>(std::ldexp(6.0, exponent - 127))) << exponent;
    EXPECT_EQ(x[16], static_cast<float>(-std::ldexp(0.5, exponent - 127))) << exponent;
    EXPECT_EQ(x[1], 0.0F);
    EXPECT_EQ(x[31], 0.0F);
  }
  block[0] = std::byte{255};
  for (const float v : decoded(DType::mxfp4, block))
    EXPECT_TRUE(std::isnan(v));
}

class EncoderOf : public testing::TestWithParam<DType> {
 protected:
  // A block whose groups use the whole range of codes, and its scales the whole range of scales, so that nothing else
  // than it can be what an encoder finds for its values. Made of random bytes.
  void use_whole_range(std::byte* block) const {
    const auto set = [&](int byte, int value) { block[byte] = static_cast<std::byte>(value); };
    switch (GetParam()) {
      case DType::q4_1:  // elements 0 and 16
        return set(4, 0xf0);
      case DType::q5_0:  // the same; the fifth bits 0 and 16
        set(6, 0xf0);
        set(2, 0xfe);
        return set(4, 0xff);
      case DType::q5_1:
        set(8, 0xf0);
        set(4, 0xfe);
        return set(6, 0xff);
      case DType::q2_k:
        set(0, 0xff);
        for (const int half : {16, 48}) {  // elements 0 and 1 of each group
          for (const int group : {0, 16}) {
            set(half + group, 0x00);
            set(half + group + 1, 0xff);
          }
        }
        return;
      case DType::q3_k:
        set(96, 0x00);  // group 0: -32
        set(96 + 8, 0x00);
        for (const int group : {0, 16}) {
          set(group, 0x00);
          set(group + 1, 0xff);
          for (const int half : {32, 64}) {
            set(half + group, 0x00);
            set(half + group + 1, 0xff);
          }
        }
        return;
      case DType::q5_k:
        set(4, 0x3f);
        set(8, 0x3f);
        set(16, 0x00);
        set(17, 0xff);
        for (const int pair : {48, 80, 112, 144}) {
          set(pair, 0x00);
          set(pair + 1, 0xff);
        }
        return;
      case DType::iq4_nl:
        return set(2, 0xf0);
      case DType::iq4_xs:
        set(4, 0x00);  // groups 0 and 1: -32
        set(2, 0x00);
        for (int group = 0; group < 8; ++group)
          set(8 + group * 16, 0xf0);
        return;
      case DType::mxfp4:
        set(0, 0x70);
        return set(1, 0xf7);
      default:
        FAIL() << "has no search";
    }
  }
};

TEST_P(EncoderOf, FindsWhatCanBeRepresented) {
  test::Samples samples(32);
  const DTypeInfo& t = info(GetParam());
  for (int round = 0; round < 20; ++round) {
    std::vector<std::byte> block(static_cast<size_t>(t.block_bytes));
    for (std::byte& byte : block)
      byte = static_cast<std::byte>(samples.below(256));
    for (const int64_t at : test::binary16_places(GetParam())) {  // from 1 on, positive
      block[static_cast<size_t>(at + 1)] = std::byte{0x3c};
    }
    use_whole_range(block.data());
    const std::vector<float> x = decoded(GetParam(), block);
    ASSERT_EQ(decoded(GetParam(), encoded(GetParam(), x)), x) << "round " << round;
  }
}

// Root mean square error on normal numbers, in units of their standard deviation, against what ggml's reference
// encoders leave of such numbers (those of npm's node-llama-cpp 3.22.1).
TEST_P(EncoderOf, NormalNumbersLoseLessThanInTheReference) {
  test::Samples samples(33);
  const std::vector<float> x = samples.normal(256 * 128, 0.02F);
  const std::vector<float> back = decoded(GetParam(), encoded(GetParam(), x));
  double error = 0;
  double power = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += std::pow(static_cast<double>(x[i]) - back[i], 2);
    power += std::pow(static_cast<double>(x[i]), 2);
  }
  const double relative = std::sqrt(error / power);
  const double bound = [] {
    switch (GetParam()) {
      case DType::q4_1:
        return 0.0780;
      case DType::q5_0:
        return 0.0431;
      case DType::q5_1:
        return 0.0377;
      case DType::q2_k:
        return 0.2973;
      case DType::q3_k:
        return 0.1517;
      case DType::q5_k:
        return 0.0361;
      case DType::iq4_nl:
        return 0.0788;
      case DType::iq4_xs:
        return 0.0764;
      case DType::mxfp4:
        return 0.1139;
      default:
        return 0.0;
    }
  }();
  EXPECT_LT(relative, bound);
  RecordProperty("relative_error", std::to_string(relative));
}

// A block of zeros, and one with a single value.
TEST_P(EncoderOf, ZerosStayZeros) {
  std::vector<float> x(512, 0.0F);
  x[300] = 1.0F;
  const std::vector<float> back = decoded(GetParam(), encoded(GetParam(), x));
  for (size_t i = 0; i < 256; ++i)
    ASSERT_EQ(back[i], 0.0F) << i;
  EXPECT_NEAR(back[300], 1.0F, 0.1F);
}

// Constant values are the hardest case for a scale without a minimum, and trivial with one.
TEST_P(EncoderOf, ConstantsAreKept) {
  for (const float value : {0.75F, -0.75F}) {
    const std::vector<float> x(256, value);
    for (const float back : decoded(GetParam(), encoded(GetParam(), x)))
      ASSERT_NEAR(back, value, 0.06F);
  }
}

TEST_P(FormatOf, HoldsWhatIsLeftAsItIs) {
  const std::array<float, 2> infinities = {-INFINITY, INFINITY};
  std::array<float, 2> ends{};
  hold_within(GetParam(), infinities.data(), ends);
  EXPECT_TRUE(holds(GetParam(), {}));
  EXPECT_TRUE(holds(GetParam(), ends));
  EXPECT_TRUE(holds(GetParam(), std::array{0.0F, -1.0F, 65504.0F}));
  EXPECT_FALSE(holds(GetParam(), std::array{std::nextafter(ends[0], -INFINITY)}));
  EXPECT_FALSE(holds(GetParam(), std::array{0.0F, std::nextafter(ends[1], INFINITY)}));
  EXPECT_FALSE(holds(GetParam(), infinities));
  EXPECT_FALSE(holds(GetParam(), std::array{1.0F, NAN}));
}

// docs/architecture.md has these figures: bits a weight, times 10,000.
TEST(PackedLayout, TakesLittleMoreThanTheFile) {
  const std::vector<std::pair<DType, int64_t>> cases = {
      {DType::q8_0, 85000}, {DType::q4_0, 45000},   {DType::iq4_nl, 45000}, {DType::q4_1, 50000}, {DType::q5_0, 55000},
      {DType::q5_1, 60000}, {DType::q2_k, 26250},   {DType::q3_k, 36250},   {DType::q4_k, 46250}, {DType::q5_k, 56250},
      {DType::q6_k, 66250}, {DType::iq4_xs, 43750}, {DType::mxfp4, 42500}};
  EXPECT_EQ(cases.size(), block_types().size());
  for (const auto& [type, bits] : cases) {
    EXPECT_EQ(panel_bytes(type, 1024) * 8 * 10000, bits * 1024 * kPanelRows) << info(type).name;
    EXPECT_LT(panel_bytes(type, 1024) * 100, row_bytes(type, 1024) * kPanelRows * 106) << info(type).name;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, EncoderOf, testing::ValuesIn(searched_types()), name_of);

}  // namespace
}  // namespace tidemill::tensor
