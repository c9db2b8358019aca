// Attention over paged keys and values: the scalar kernels against a plain softmax in double, every other instruction
// set against the scalar kernels bit for bit, and every way of cutting the work against every other.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "tensor/amx_emulator.hpp"
#include "tensor/attention_scene.hpp"

namespace tidemill::tensor {
namespace {

using test::attend;
using test::bounds;
using test::Case;
using test::exact;
using test::kRules;
using test::Rows;
using test::runnable_isas;
using test::same_bits;
using test::Samples;
using test::Scene;

class AttentionOf : public ::testing::TestWithParam<KvType> {};

TEST_P(AttentionOf, MatchesPlainSoftmaxAndEveryInstructionSetAgrees) {
  Samples samples(21);
  for (const Case& c :
       {Case{1, 1, 64}, Case{2, 4, 64}, Case{2, 7, 128}, Case{3, 2, 8}, Case{1, 3, 80}, Case{2, 6, 24}}) {
    const Scene scene({.layers = 3, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .type = GetParam()},
                      {1, 15, 16, 17, 100, 33, 391}, samples);
    const int64_t heads = c.kv_heads * c.group;
    Rows rows;
    for (size_t s = 0; s < scene.lengths.size(); ++s) {
      for (const int32_t position : {0, 7, 15, 16, 31, 32, 64, 95, 127, 128, 129, 255, 256, 300}) {
        if (position >= scene.lengths[s]) continue;
        rows.positions.push_back(position);
        rows.sequences.push_back(static_cast<int32_t>(s));
      }
      rows.positions.push_back(scene.lengths[s] - 1);
      rows.sequences.push_back(static_cast<int32_t>(s));
    }
    const auto n = static_cast<int64_t>(rows.positions.size());
    const int64_t width = heads * c.head_dim;
    const std::vector<float> q = samples.normal(n * width, 2.0F);
    const std::vector<float> reference = attend(*make_cpu_device(Isa::scalar, 1), scene, rows, q, width);
    double squares = 0;
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t h = 0; h < heads; ++h) {
        const std::vector<double> expected = exact(scene, rows, q, heads, r, h);
        for (int64_t d = 0; d < c.head_dim; ++d) {
          const double error = reference[r * width + h * c.head_dim + d] - expected[d];
          ASSERT_LE(std::abs(error), bounds(GetParam()).largest) << "row " << r << " head " << h;
          squares += error * error;
        }
      }
    }
    EXPECT_LE(std::sqrt(squares / static_cast<double>(n * width)), bounds(GetParam()).rms) << c.head_dim;
    for (const Isa isa : runnable_isas()) {
      for (const int threads : {1, 2, 3}) {
        const std::vector<float> out = attend(*make_cpu_device(isa, threads), scene, rows, q, width);
        for (size_t i = 0; i < out.size(); ++i) {
          ASSERT_TRUE(same_bits(out[i], reference[i]))
              << to_string(isa) << " head_dim " << c.head_dim << " element " << i;
        }
      }
    }
    // A row alone gives the bits it has among the others.
    auto device = make_cpu_device(available_isas().back(), 2);
    for (int64_t r = 0; r < n; r += 5) {
      const Rows one = {{rows.positions[r]}, {rows.sequences[r]}};
      const std::vector<float> alone =
          attend(*device, scene, one, {q.begin() + r * width, q.begin() + (r + 1) * width}, width);
      for (int64_t i = 0; i < width; ++i)
        ASSERT_TRUE(same_bits(alone[i], reference[r * width + i])) << "row " << r;
    }
  }
}

// As encoders ask for it: every row of a sequence sees all of it.
TEST_P(AttentionOf, RowsMaySeeWhatComesAfterThem) {
  Samples samples(24);
  const Case c{2, 1, 32};
  const Scene scene({.layers = 2, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .type = GetParam()},
                    {1, 16, 17, 40, 150}, samples);
  Rows rows;
  for (size_t s = 0; s < scene.lengths.size(); ++s) {
    rows.positions.insert(rows.positions.end(), static_cast<size_t>(scene.lengths[s]), scene.lengths[s] - 1);
    rows.sequences.insert(rows.sequences.end(), static_cast<size_t>(scene.lengths[s]), static_cast<int32_t>(s));
  }
  const auto n = static_cast<int64_t>(rows.positions.size());
  const int64_t width = c.kv_heads * c.head_dim;
  const std::vector<float> q = samples.normal(n * width, 2.0F);
  const std::vector<float> reference = attend(*make_cpu_device(Isa::scalar, 1), scene, rows, q, width);
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t h = 0; h < c.kv_heads; ++h) {
      const std::vector<double> expected = exact(scene, rows, q, c.kv_heads, r, h);
      for (int64_t d = 0; d < c.head_dim; ++d) {
        ASSERT_NEAR(reference[r * width + h * c.head_dim + d], expected[d], bounds(GetParam()).largest) << "row " << r;
      }
    }
  }
  for (const Isa isa : runnable_isas()) {
    for (const int threads : {1, 3}) {
      const std::vector<float> out = attend(*make_cpu_device(isa, threads), scene, rows, q, width);
      for (size_t i = 0; i < out.size(); ++i)
        ASSERT_TRUE(same_bits(out[i], reference[i])) << to_string(isa) << " element " << i;
    }
  }
}

TEST_P(AttentionOf, ExtremeScores) {
  Samples samples(22);
  Scene scene({.layers = 2, .kv_heads = 1, .head_dim = 16, .type = GetParam()}, {40}, samples);
  const Rows rows = {{39}, {0}};
  for (const float value :
       {0.0F, 1e4F, -1e4F, 6e4F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    scene.keys[0][37 * 16] = value;
    std::vector<float> q = samples.normal(16);
    q[0] = 1;
    const std::vector<float> reference = attend(*make_cpu_device(Isa::scalar, 1), scene, rows, q, 16);
    if (std::isfinite(value)) {
      for (const float v : reference)
        EXPECT_TRUE(std::isfinite(v)) << value;
    } else {
      EXPECT_TRUE(std::isnan(reference[0]));
    }
    for (const Isa isa : runnable_isas()) {
      const std::vector<float> out = attend(*make_cpu_device(isa, 1), scene, rows, q, 16);
      for (size_t i = 0; i < out.size(); ++i)
        EXPECT_TRUE(same_bits(out[i], reference[i])) << to_string(isa) << " " << value;
    }
  }
}

// A prompt in one piece, in ragged pieces, and token by token, on any number of threads.
TEST_P(AttentionOf, HowAPromptIsCutDoesNotMatter) {
  Samples samples(23);
  const int32_t length = 300;
  for (const Case& c : {Case{2, 4, 64}, Case{1, 3, 32}, Case{2, 1, 80}}) {
    const Scene scene({.layers = 2, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .type = GetParam()}, {length, 40},
                      samples);
    const int64_t width = c.kv_heads * c.group * c.head_dim;
    const std::vector<float> q = samples.normal(length * width);
    const auto piece = [&](Device& device, int32_t begin, int32_t end) {
      Rows rows;
      for (int32_t i = begin; i < end; ++i) {
        rows.positions.push_back(i);
        rows.sequences.push_back(0);
      }
      return attend(device, scene, rows, {q.begin() + begin * width, q.begin() + end * width}, width);
    };
    auto plain = make_cpu_device(available_isas().back(), 1);
    const std::vector<float> whole = piece(*plain, 0, length);
    for (const int threads : {1, 2, 5}) {
      auto device = make_cpu_device(available_isas().back(), threads);
      for (const int32_t step : {1, 7, 64, 299}) {
        // Single tokens are dear to check: a few, on both sides of the borders of blocks and segments.
        for (int32_t begin = 0; begin < length; begin += step) {
          if (step == 1 && begin % 16 > 1 && begin != length - 1) continue;
          const int32_t end = std::min(length, begin + step);
          const std::vector<float> out = piece(*device, begin, end);
          for (size_t i = 0; i < out.size(); ++i)
            ASSERT_TRUE(same_bits(out[i], whole[static_cast<size_t>(begin * width) + i])) << begin << " " << step;
        }
      }
    }
  }
}

// More parts of segments than there is scratch for at once.
TEST_P(AttentionOf, LongContextsOnManyThreads) {
  Samples samples(24);
  const int32_t length = 9000;
  const Scene scene({.layers = 2, .kv_heads = 1, .head_dim = 64, .type = GetParam()}, {length}, samples);
  const int64_t width = 64 * 8;
  Rows rows;
  for (int32_t i = 0; i < 40; ++i) {
    rows.positions.push_back(length - 40 + i);
    rows.sequences.push_back(0);
  }
  const std::vector<float> q = samples.normal(40 * width);
  const std::vector<float> one = attend(*make_cpu_device(available_isas().back(), 1), scene, rows, q, width);
  const std::vector<float> many = attend(*make_cpu_device(available_isas().back(), 6), scene, rows, q, width);
  for (size_t i = 0; i < one.size(); ++i)
    ASSERT_TRUE(same_bits(one[i], many[i])) << i;
}

// What is no number spoils the rows that see it, and no others: not those before it in the same tile, not those of
// other sequences.
TEST_P(AttentionOf, NotANumberStaysWithTheRowsThatSeeIt) {
  Samples samples(25);
  const int64_t width = 2 * 3 * 16;
  Scene scene({.layers = 2, .kv_heads = 2, .head_dim = 16, .type = GetParam()}, {150, 30}, samples);
  Rows rows;
  for (int32_t i = 0; i < 180; ++i) {
    rows.positions.push_back(i < 150 ? i : i - 150);
    rows.sequences.push_back(i < 150 ? 0 : 1);
  }
  const std::vector<float> q = samples.normal(180 * width);
  const std::vector<float> clean = attend(*make_cpu_device(Isa::scalar, 1), scene, rows, q, width);
  for (const bool in_keys : {true, false}) {
    for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      Scene spoiled = scene;
      for (int64_t h = 0; h < 2; ++h)
        (in_keys ? spoiled.keys : spoiled.values)[0][21 * 32 + h * 16 + 5] = value;
      std::vector<float> spoiled_q = q;
      spoiled_q[3 * width] = value;  // head 0 of row 3
      const std::vector<float> out = attend(*make_cpu_device(Isa::scalar, 1), spoiled, rows, spoiled_q, width);
      for (const Isa isa : runnable_isas()) {
        const std::vector<float> same = attend(*make_cpu_device(isa, 2), spoiled, rows, spoiled_q, width);
        for (size_t i = 0; i < out.size(); ++i)
          ASSERT_TRUE(same_bits(same[i], out[i])) << to_string(isa) << " element " << i;
      }
      for (int64_t r = 0; r < 180; ++r) {
        for (int64_t i = 0; i < width; ++i) {
          const float v = out[static_cast<size_t>(r * width + i)];
          const bool sees = r >= 21 && r < 150;
          if (r == 3 && i < 16) continue;
          if (!sees) {
            ASSERT_TRUE(same_bits(v, clean[static_cast<size_t>(r * width + i)])) << "row " << r;
          }
        }
      }
      EXPECT_FALSE(std::isfinite(out[3 * width]));
      if (GetParam() == KvType::int8) {
        EXPECT_TRUE(std::isnan(out[100 * width]));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, AttentionOf, ::testing::Values(KvType::f32, KvType::f16, KvType::bf16, KvType::int8),
                         [](const auto& type_of) { return std::string(to_string(type_of.param)); });

// Heads of every kind of size, in one piece and in several, with more queries than tiles take and fewer, that see
// nothing, some and all of a segment, in an order of their own; and that tiles were used at all.
TEST(Amx, AttentionOfManyQueriesGoesToTiles) {
  const std::vector<Isa> isas = runnable_isas();
  if (isas.back() != Isa::amx) GTEST_SKIP() << "no AVX-512 VNNI here, which the AMX kernels use too";
  if (available_isas().back() == Isa::amx) GTEST_SKIP() << "this machine has AMX: nothing is emulated";
  Samples samples(28);
  for (const Case& c : {Case{2, 4, 64}, Case{1, 7, 128}, Case{1, 3, 80}, Case{1, 2, 96}, Case{1, 5, 20}, Case{1, 1, 30},
                        Case{1, 3, 256}, Case{1, 2, 272}, Case{1, 2, 528}}) {
    const Scene scene({.layers = 2, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .type = KvType::int8}, {300},
                      samples);
    const int64_t width = c.kv_heads * c.group * c.head_dim;
    for (const std::vector<int32_t>& positions :
         {std::vector<int32_t>{299, 298, 297, 296, 295, 294, 293, 292, 291, 290, 289, 288, 287, 286, 285, 284},
          {118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 130, 131, 132},
          {0, 255, 1, 127, 63, 64, 200, 16, 15, 299, 128, 31}}) {
      const Rows rows = {positions, std::vector<int32_t>(positions.size(), 0)};
      const auto n = static_cast<int64_t>(positions.size());
      const std::vector<float> q = samples.normal(n * width, 2.0F);
      const long before = test::AmxEmulator::instructions();
      const std::vector<float> out = attend(*make_cpu_device(Isa::amx, 1), scene, rows, q, width);
      const long emulated = test::AmxEmulator::instructions() - before;
      const bool for_tiles = c.head_dim <= 256 && n * c.group >= 16;  // 272 does not come in equal pieces
      EXPECT_EQ(emulated > 0, for_tiles) << c.head_dim << " by " << c.group;
      const std::vector<float> reference = attend(*make_cpu_device(Isa::scalar, 1), scene, rows, q, width);
      for (size_t i = 0; i < out.size(); ++i)
        ASSERT_TRUE(same_bits(out[i], reference[i])) << c.head_dim << " by " << c.group << " element " << i;
      for (const AttentionRule& rule : kRules) {
        const std::vector<float> ruled = attend(*make_cpu_device(Isa::amx, 1), scene, rows, q, width, rule);
        const std::vector<float> wanted = attend(*make_cpu_device(Isa::scalar, 1), scene, rows, q, width, rule);
        for (size_t i = 0; i < ruled.size(); ++i)
          ASSERT_TRUE(same_bits(ruled[i], wanted[i])) << "window " << rule.window << " cap " << rule.soft_cap;
      }
    }
  }
}

// int8 where it hurts: a few elements of every key fifty times the others (as some models' biases make them), the first
// token's values tiny and its weight large, values of one element far larger than the others, and long flat contexts
// where many small weights count together.
struct Adversary {
  std::string_view name;
  double rms;  // of the error, relative to that of the exact output
};
std::string as_name(const ::testing::TestParamInfo<Adversary>& adversary) {
  return std::string(adversary.param.name);
}
class Int8Attention : public ::testing::TestWithParam<Adversary> {};

TEST_P(Int8Attention, StaysNearTheExactOutput) {
  Samples samples(26);
  const int32_t length = 700;
  const int64_t dim = 64;
  Scene scene({.layers = 2, .kv_heads = 1, .head_dim = dim, .type = KvType::int8}, {length}, samples);
  std::vector<float> q = samples.normal(dim);
  const std::string_view name = GetParam().name;
  for (int64_t t = 0; t < length; ++t) {
    float* key = scene.keys[0].data() + t * dim;
    float* value = scene.values[0].data() + t * dim;
    if (name == "KeyOutliers") {
      key[3] = key[3] + 50;
      key[40] = key[40] - 40;
    }
    if (name == "ValueOutliers") value[17] *= 30;
    if (name == "Sink") {
      for (int64_t d = 0; d < dim; ++d) {
        // Token 0 has four hundred times the weight of any other, and a hundredth of the value.
        if (t == 0) key[d] = q[d] * 48.0F / 64.0F;
        if (t == 0) value[d] *= 0.01F;
        if (t > 0) key[d] *= 0.05F;
        if (t > 0) value[d] += 1.0F;
      }
    }
    if (name == "Flat") {
      for (int64_t d = 0; d < dim; ++d) {
        key[d] = t == 0 ? q[d] * 47.0F / 64.0F : key[d] * 0.02F;
        value[d] += 1.0F;
      }
    }
    if (name == "Tiny" || name == "Huge") {
      const float scale = name == "Tiny" ? 0x1p-50F : 0x1p+50F;
      for (int64_t d = 0; d < dim; ++d)
        value[d] *= scale;
    }
  }
  const Rows rows = {{length - 1}, {0}};
  const std::vector<float> out = attend(*make_cpu_device(available_isas().back(), 1), scene, rows, q, dim);
  const std::vector<double> expected = exact(scene, rows, q, 1, 0, 0);
  double error = 0;
  double norm = 0;
  for (int64_t d = 0; d < dim; ++d) {
    error += (out[d] - expected[d]) * (out[d] - expected[d]);
    norm += expected[d] * expected[d];
  }
  EXPECT_LE(std::sqrt(error / norm), GetParam().rms);
  RecordProperty("relative_rms", std::to_string(std::sqrt(error / norm)));
}

INSTANTIATE_TEST_SUITE_P(Adversaries, Int8Attention,
                         ::testing::Values(Adversary{"Plain", 0.03}, Adversary{"KeyOutliers", 0.05},
                                           Adversary{"ValueOutliers", 0.015}, Adversary{"Sink", 0.003},
                                           Adversary{"Flat", 0.015}, Adversary{"Tiny", 0.03}, Adversary{"Huge", 0.03}),
                         as_name);

TEST(KvCache, BlocksAddUpToTheCache) {
  auto device = make_cpu_device(Isa::scalar, 1);
  for (const int64_t dim : {8, 64, 80}) {
    const KvShape shape = {.layers = 3, .kv_heads = 2, .head_dim = dim, .blocks = 5, .type = KvType::f16};
    auto cache = device->make_kv_cache(shape);
    ASSERT_TRUE(cache);
    EXPECT_GE((*cache)->bytes(), kv_block_bytes(shape) * 5);
    EXPECT_GE(kv_block_bytes(shape), static_cast<size_t>(3 * 2 * 2 * dim * kKvBlockTokens * 2));
  }
}

TEST(KvCache, RefusesImpossibleShapes) {
  auto device = make_cpu_device(Isa::scalar, 1);
  EXPECT_FALSE(device->make_kv_cache({.layers = 0, .kv_heads = 1, .head_dim = 1, .blocks = 1}));
  EXPECT_FALSE(device->make_kv_cache({.layers = 1, .kv_heads = 1, .head_dim = -4, .blocks = 1}));
  constexpr int64_t kHuge = int64_t{1} << 62;
  EXPECT_FALSE(device->make_kv_cache({.layers = 1, .kv_heads = 1, .head_dim = kHuge, .blocks = 1}));
  EXPECT_FALSE(device->make_kv_cache({.layers = kHuge, .kv_heads = kHuge, .head_dim = 64, .blocks = kHuge}));
  EXPECT_FALSE(device->make_kv_cache({.layers = 1, .kv_heads = 1, .head_dim = 64, .blocks = kHuge / 4096}));
}

}  // namespace
}  // namespace tidemill::tensor
