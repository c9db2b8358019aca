// Attention to latents, whose values are the first part of their keys and kept there alone: against keys and values
// that are kept apart, against a plain softmax in double, and every instruction set against the scalar kernels.
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include <gtest/gtest.h>

#include "tensor/amx_emulator.hpp"
#include "tensor/attention_scene.hpp"

namespace tidemill::tensor {
namespace {

using test::attend;
using test::exact;
using test::kRules;
using test::Rows;
using test::runnable_isas;
using test::same_bits;
using test::Samples;
using test::Scene;

// Heads of `head_dim` elements, the first `latent` of which are the value.
struct LatentCase {
  int64_t kv_heads;
  int64_t group;
  int64_t head_dim;
  int64_t latent;
};

// DeepSeek's own sizes among them, and such as do not come in pieces for tiles.
constexpr std::array<LatentCase, 5> kCases = {
    {{1, 4, 576, 512}, {1, 16, 288, 256}, {2, 3, 48, 32}, {1, 5, 144, 128}, {1, 1, 32, 16}}};

Scene scene_of(const LatentCase& c, KvType type, std::vector<int32_t> lengths, Samples& samples) {
  return {{.layers = 2, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .type = type, .latent = c.latent},
          std::move(lengths),
          samples};
}

// The same keys, and beside each its latent with zeros behind it as a value.
Scene apart(const Scene& scene) {
  Scene other = scene;
  other.shape.latent = 0;
  for (size_t s = 0; s < other.values.size(); ++s) {
    other.values[s].clear();
    for (size_t at = 0; at < scene.values[s].size(); at += static_cast<size_t>(scene.shape.latent)) {
      const auto value = scene.values[s].begin() + static_cast<int64_t>(at);
      other.values[s].insert(other.values[s].end(), value, value + scene.shape.latent);
      other.values[s].resize(other.values[s].size() + static_cast<size_t>(scene.shape.head_dim - scene.shape.latent));
    }
  }
  return other;
}

Rows rows_of(const Scene& scene) {
  Rows rows;
  for (size_t s = 0; s < scene.lengths.size(); ++s) {
    for (const int32_t position : {0, 15, 16, 100, 127, 128, 250}) {
      if (position >= scene.lengths[s]) continue;
      rows.positions.push_back(position);
      rows.sequences.push_back(static_cast<int32_t>(s));
    }
  }
  return rows;
}

void expect_same(const std::vector<float>& out, const std::vector<float>& wanted, const LatentCase& c, Isa isa) {
  ASSERT_EQ(out.size(), wanted.size());
  for (size_t i = 0; i < out.size(); ++i)
    ASSERT_TRUE(same_bits(out[i], wanted[i]))
        << to_string(isa) << ", " << c.latent << " of " << c.head_dim << ", " << i;
}

class Latents : public ::testing::TestWithParam<KvType> {};

TEST_P(Latents, MatchPlainSoftmaxAndEveryInstructionSetAgrees) {
  Samples samples(41);
  for (const LatentCase& c : kCases) {
    const Scene scene = scene_of(c, GetParam(), {1, 17, 260}, samples);
    const Rows rows = rows_of(scene);
    const auto n = static_cast<int64_t>(rows.positions.size());
    const int64_t heads = c.kv_heads * c.group;
    const std::vector<float> q = samples.normal(n * heads * c.head_dim, 2.0F);
    const std::vector<float> reference =
        attend(*make_cpu_device(Isa::scalar, 1), scene, rows, q, heads * c.head_dim, {.scale = 0.05F});
    double squares = 0;
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t h = 0; h < heads; ++h) {
        const std::vector<double> expected = exact(scene, rows, q, heads, r, h, {.scale = 0.05F});
        for (int64_t d = 0; d < c.latent; ++d) {
          const double error = reference[(r * heads + h) * c.latent + d] - expected[d];
          squares += error * error;
        }
      }
    }
    // Scores have a deviation of a tenth of the root of head_dim here, and int8 rounds queries and keys to 1/254 of
    // about four deviations.
    const double rms = std::sqrt(squares / static_cast<double>(n * heads * c.latent));
    EXPECT_LE(rms, GetParam() == KvType::int8 ? 0.03 : 4e-6) << c.latent << " of " << c.head_dim;
    for (const Isa isa : runnable_isas()) {
      for (const int threads : {1, 3}) {
        expect_same(attend(*make_cpu_device(isa, threads), scene, rows, q, heads * c.head_dim, {.scale = 0.05F}),
                    reference, c, isa);
      }
    }
  }
}

TEST_P(Latents, WindowsAndCapsAreAsElsewhere) {
  Samples samples(42);
  for (const LatentCase& c : {kCases[1], kCases[2]}) {
    const Scene scene = scene_of(c, GetParam(), {260}, samples);
    const Rows rows = rows_of(scene);
    const int64_t width = c.kv_heads * c.group * c.head_dim;
    const std::vector<float> q = samples.normal(static_cast<int64_t>(rows.positions.size()) * width);
    for (const AttentionRule& rule : kRules) {
      const std::vector<float> reference = attend(*make_cpu_device(Isa::scalar, 1), scene, rows, q, width, rule);
      for (const Isa isa : runnable_isas())
        expect_same(attend(*make_cpu_device(isa, 2), scene, rows, q, width, rule), reference, c, isa);
    }
  }
}

// Where nothing is turned, the bits are those of keys and values that are apart.
TEST_P(Latents, GiveTheBitsOfValuesThatAreApart) {
  if (GetParam() == KvType::int8) GTEST_SKIP() << "int8 turns and rounds latents by themselves";
  Samples samples(43);
  for (const LatentCase& c : kCases) {
    const Scene scene = scene_of(c, GetParam(), {40, 300}, samples);
    const Rows rows = rows_of(scene);
    const int64_t heads = c.kv_heads * c.group;
    const auto n = static_cast<int64_t>(rows.positions.size());
    const std::vector<float> q = samples.normal(n * heads * c.head_dim);
    for (const Isa isa : runnable_isas()) {
      const std::vector<float> wide = attend(*make_cpu_device(isa, 1), apart(scene), rows, q, heads * c.head_dim);
      std::vector<float> wanted;
      for (auto head = wide.begin(); head != wide.end(); head += c.head_dim)
        wanted.insert(wanted.end(), head, head + c.latent);
      expect_same(attend(*make_cpu_device(isa, 1), scene, rows, q, heads * c.head_dim), wanted, c, isa);
    }
  }
}

// As many heads as have fewer rows in a tile, too.
TEST_P(Latents, HowAPromptIsCutDoesNotMatter) {
  Samples samples(44);
  const int32_t length = 280;
  for (const LatentCase& c : {kCases[3], LatentCase{1, 40, 32, 16}}) {
    const Scene scene = scene_of(c, GetParam(), {length}, samples);
    const int64_t width = c.group * c.head_dim;
    const int64_t out_width = c.group * c.latent;
    const std::vector<float> q = samples.normal(length * width);
    const auto piece = [&](Device& device, int32_t begin, int32_t end) {
      Rows rows;
      rows.positions.resize(static_cast<size_t>(end - begin));
      std::iota(rows.positions.begin(), rows.positions.end(), begin);
      rows.sequences.resize(rows.positions.size());
      return attend(device, scene, rows, {q.begin() + begin * width, q.begin() + end * width}, width);
    };
    const std::vector<float> whole = piece(*make_cpu_device(available_isas().back(), 1), 0, length);
    for (const int threads : {1, 4}) {
      auto device = make_cpu_device(available_isas().back(), threads);
      for (const auto& [begin, end] :
           {std::pair(0, 17), std::pair(17, 129), std::pair(129, 130), std::pair(130, 280)}) {
        const std::vector<float> out = piece(*device, begin, end);
        for (size_t i = 0; i < out.size(); ++i)
          ASSERT_TRUE(same_bits(out[i], whole[static_cast<size_t>(begin * out_width) + i])) << begin << " " << threads;
      }
    }
  }
}

// What is no number in the latent or behind it spoils the rows that see it, and no others.
TEST_P(Latents, NotANumberStaysWithTheRowsThatSeeIt) {
  Samples samples(45);
  const LatentCase c = kCases[2];
  Scene scene = scene_of(c, GetParam(), {150}, samples);
  const int64_t width = c.kv_heads * c.group * c.head_dim;
  const int64_t out_width = c.kv_heads * c.group * c.latent;
  Rows rows;
  rows.positions.resize(150);
  std::iota(rows.positions.begin(), rows.positions.end(), 0);
  rows.sequences.resize(150);
  const std::vector<float> q = samples.normal(150 * width);
  const std::vector<float> clean = attend(*make_cpu_device(Isa::scalar, 1), scene, rows, q, width);
  for (const int64_t element : {int64_t{5}, c.latent + 3}) {
    Scene spoiled = scene;
    for (int64_t h = 0; h < c.kv_heads; ++h)
      spoiled.keys[0][(21 * c.kv_heads + h) * c.head_dim + element] = std::numeric_limits<float>::quiet_NaN();
    const std::vector<float> out = attend(*make_cpu_device(Isa::scalar, 1), spoiled, rows, q, width);
    for (int64_t i = 0; i < 21 * out_width; ++i)
      ASSERT_TRUE(same_bits(out[i], clean[i])) << i;
    for (int64_t i = 21 * out_width; i < 150 * out_width; ++i)
      ASSERT_TRUE(std::isnan(out[i])) << i;
    for (const Isa isa : runnable_isas())
      expect_same(attend(*make_cpu_device(isa, 2), spoiled, rows, q, width), out, c, isa);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Latents, ::testing::Values(KvType::f32, KvType::f16, KvType::bf16, KvType::int8),
                         [](const auto& type_of) { return std::string(to_string(type_of.param)); });

// The values of what follows the latent are hundred times larger: in int8 they must not cost the latent its precision.
TEST(Int8Latents, AreRoundedByThemselves) {
  Samples samples(46);
  const LatentCase c{1, 2, 144, 128};
  Scene scene = scene_of(c, KvType::int8, {200}, samples);
  const Rows rows = {{199}, {0}};
  std::vector<float> q = samples.normal(c.group * c.head_dim);
  for (size_t t = 0; t < 200; ++t) {
    for (auto d = static_cast<size_t>(c.latent); d < static_cast<size_t>(c.head_dim); ++d)
      scene.keys[0][t * static_cast<size_t>(c.head_dim) + d] *= 100;
  }
  for (size_t i = 0; i < q.size(); ++i) {
    if (i % static_cast<size_t>(c.head_dim) >= static_cast<size_t>(c.latent)) q[i] *= 0.01F;
  }
  const std::vector<float> out =
      attend(*make_cpu_device(available_isas().back(), 1), scene, rows, q, c.group * c.head_dim);
  double error = 0;
  double norm = 0;
  for (int64_t h = 0; h < c.group; ++h) {
    const std::vector<double> expected = exact(scene, rows, q, c.group, 0, h);
    for (int64_t d = 0; d < c.latent; ++d) {
      error += std::pow(out[h * c.latent + d] - expected[d], 2);
      norm += expected[d] * expected[d];
    }
  }
  EXPECT_LE(std::sqrt(error / norm), 0.05);
}

TEST(Amx, AttentionToLatentsGoesToTiles) {
  const std::vector<Isa> isas = runnable_isas();
  if (isas.back() != Isa::amx) GTEST_SKIP() << "no AVX-512 VNNI here, which the AMX kernels use too";
  if (available_isas().back() == Isa::amx) GTEST_SKIP() << "this machine has AMX: nothing is emulated";
  Samples samples(47);
  for (const auto& [c, for_tiles] : {std::pair(LatentCase{1, 16, 576, 512}, true),
                                     {LatentCase{1, 16, 288, 256}, true},
                                     {LatentCase{1, 16, 144, 128}, false},
                                     {LatentCase{1, 8, 576, 512}, false}}) {
    const Scene scene = scene_of(c, KvType::int8, {140}, samples);
    const Rows rows = {{139}, {0}};
    const std::vector<float> q = samples.normal(c.group * c.head_dim);
    const long before = test::AmxEmulator::instructions();
    const std::vector<float> out = attend(*make_cpu_device(Isa::amx, 1), scene, rows, q, c.group * c.head_dim);
    EXPECT_EQ(test::AmxEmulator::instructions() > before, for_tiles) << c.head_dim << " by " << c.group;
    expect_same(out, attend(*make_cpu_device(Isa::scalar, 1), scene, rows, q, c.group * c.head_dim), c, Isa::amx);
  }
}

TEST(KvCache, KeepsLatentsOnce) {
  const KvShape apart = {.layers = 3, .kv_heads = 1, .head_dim = 576, .blocks = 5, .type = KvType::bf16};
  KvShape shape = apart;
  shape.latent = 512;
  EXPECT_EQ(kv_block_bytes(shape), size_t{3 * 16 * 576 * 2});
  EXPECT_EQ(kv_block_bytes(apart), 2 * kv_block_bytes(shape));
  shape.type = KvType::int8;
  EXPECT_EQ(kv_block_bytes(shape), size_t{3 * 16 * (576 + 8)});
  auto device = make_cpu_device(Isa::scalar, 1);
  EXPECT_TRUE(device->make_kv_cache(shape));
  for (const int64_t latent : {-16, 8, 520, 576, 592}) {
    shape.latent = latent;
    EXPECT_FALSE(device->make_kv_cache(shape)) << latent;
  }
  shape.latent = 512;
  shape.head_dim = 570;
  EXPECT_FALSE(device->make_kv_cache(shape));
}

}  // namespace
}  // namespace tidemill::tensor
