// Attention over paged keys and values: the scalar kernels against a plain softmax in double, every other instruction
// set against the scalar kernels bit for bit.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include <gtest/gtest.h>

#include "tensor/cpu_device.hpp"
#include "tensor/samples.hpp"

namespace tidemill::tensor {
namespace {

using test::matrix;
using test::Samples;

// Sequences of given lengths whose keys and values are in the cache, in blocks handed out in random order.
struct Scene {
  KvShape shape;
  std::vector<int32_t> lengths;
  std::vector<std::vector<int32_t>> tables;
  std::vector<std::vector<float>> keys;    // [sequence][token][kv_heads * head_dim]
  std::vector<std::vector<float>> values;  // likewise

  Scene(const KvShape& wanted, std::vector<int32_t> lengths_wanted, Samples& samples)
      : shape(wanted), lengths(std::move(lengths_wanted)) {
    for (const int32_t length : lengths)
      shape.blocks += (length + kKvBlockTokens - 1) / kKvBlockTokens;
    shape.blocks += 2;  // some that nobody owns
    std::vector<int32_t> free(static_cast<size_t>(shape.blocks));
    std::iota(free.begin(), free.end(), 0);
    std::shuffle(free.begin(), free.end(), samples.random());
    const int64_t width = shape.kv_heads * shape.head_dim;
    for (const int32_t length : lengths) {
      std::vector<int32_t> table;
      for (int64_t b = 0; b * kKvBlockTokens < length; ++b) {
        table.push_back(free.back());
        free.pop_back();
      }
      tables.push_back(table);
      keys.push_back(samples.normal(length * width));
      values.push_back(samples.normal(length * width));
    }
  }

  std::vector<std::span<const int32_t>> table_spans() const { return {tables.begin(), tables.end()}; }

  // A cache with everything stored in `layer`; all layers are first filled with NaN, as a used cache might be.
  std::unique_ptr<KvCache> cache(Device& device, int64_t layer) const {
    auto made = device.make_kv_cache(shape);
    EXPECT_TRUE(made) << made.error().to_string();
    std::unique_ptr<KvCache> kv = std::move(*made);
    const int64_t width = shape.kv_heads * shape.head_dim;
    std::vector<int32_t> all_blocks(static_cast<size_t>(shape.blocks));
    std::iota(all_blocks.begin(), all_blocks.end(), 0);
    const std::vector<std::span<const int32_t>> all = {all_blocks};
    std::vector<int32_t> positions(static_cast<size_t>(shape.blocks * kKvBlockTokens));
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<int32_t> zeros(positions.size(), 0);
    const std::vector<float> nans(positions.size() * static_cast<size_t>(width),
                                  std::numeric_limits<float>::quiet_NaN());
    const auto n = static_cast<int64_t>(positions.size());
    for (int64_t l = 0; l < shape.layers; ++l) {
      device.store_kv(*kv, l, {positions, zeros, all}, matrix(nans, n, width), matrix(nans, n, width));
    }
    const auto spans = table_spans();
    for (size_t s = 0; s < lengths.size(); ++s) {
      std::vector<int32_t> own(static_cast<size_t>(lengths[s]));
      std::iota(own.begin(), own.end(), 0);
      const std::vector<int32_t> sequence(own.size(), static_cast<int32_t>(s));
      device.store_kv(*kv, layer, {own, sequence, spans}, matrix(keys[s], lengths[s], width),
                      matrix(values[s], lengths[s], width));
    }
    return kv;
  }
};

struct Rows {
  std::vector<int32_t> positions;
  std::vector<int32_t> sequences;
};

std::vector<float> attend(Device& device, const Scene& scene, const Rows& rows, const std::vector<float>& q,
                          int64_t width) {
  const auto kv = scene.cache(device, 1);
  const auto spans = scene.table_spans();
  std::vector<float> out(q.size(), -5.0F);
  const auto n = static_cast<int64_t>(rows.positions.size());
  device.attention(*kv, 1, {rows.positions, rows.sequences, spans}, 0.125F, matrix(q, n, width), matrix(out, n, width));
  return out;
}

float rounded(KvType type, float x) {
  if (type == KvType::f16) return f16_to_f32(f32_to_f16(x));
  if (type == KvType::bf16) return bf16_to_f32(f32_to_bf16(x));
  return x;
}

// softmax(q k^T / 8) v in double for query head `head` of row r.
std::vector<double> exact(const Scene& scene, const Rows& rows, const std::vector<float>& q, int64_t heads, int64_t r,
                          int64_t head) {
  const int64_t dim = scene.shape.head_dim;
  const int64_t width = scene.shape.kv_heads * dim;
  const auto s = static_cast<size_t>(rows.sequences[r]);
  const int64_t kv_head = head / (heads / scene.shape.kv_heads);
  std::vector<double> p;
  for (int64_t t = 0; t <= rows.positions[r]; ++t) {
    double score = 0;
    for (int64_t d = 0; d < dim; ++d) {
      score += static_cast<double>(q[(r * heads + head) * dim + d]) *
               rounded(scene.shape.type, scene.keys[s][t * width + kv_head * dim + d]);
    }
    p.push_back(score * 0.125);
  }
  const double highest = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (double& v : p)
    sum += v = std::exp(v - highest);
  std::vector<double> out(static_cast<size_t>(dim));
  for (int64_t d = 0; d < dim; ++d) {
    for (size_t t = 0; t < p.size(); ++t) {
      out[d] +=
          p[t] / sum * rounded(scene.shape.type, scene.values[s][static_cast<int64_t>(t) * width + kv_head * dim + d]);
    }
  }
  return out;
}

bool same_bits(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

struct Case {
  int64_t kv_heads;
  int64_t group;
  int64_t head_dim;
};

class AttentionOf : public ::testing::TestWithParam<KvType> {};

TEST_P(AttentionOf, MatchesPlainSoftmaxAndEveryInstructionSetAgrees) {
  Samples samples(21);
  for (const Case& c :
       {Case{1, 1, 64}, Case{2, 4, 64}, Case{2, 7, 128}, Case{3, 2, 8}, Case{1, 3, 80}, Case{2, 6, 24}}) {
    const Scene scene({.layers = 3, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .type = GetParam()},
                      {1, 15, 16, 17, 100, 33}, samples);
    const int64_t heads = c.kv_heads * c.group;
    Rows rows;
    for (size_t s = 0; s < scene.lengths.size(); ++s) {
      for (const int32_t position : {0, 7, 15, 16, 31, 32, 64, 95}) {
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
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t h = 0; h < heads; ++h) {
        const std::vector<double> expected = exact(scene, rows, q, heads, r, h);
        for (int64_t d = 0; d < c.head_dim; ++d) {
          // Scores are sums of head_dim products of order one: their error is far below 1e-5, and so is that of the
          // weights.
          ASSERT_NEAR(reference[r * width + h * c.head_dim + d], expected[d], 2e-5) << "row " << r << " head " << h;
        }
      }
    }
    for (const Isa isa : available_isas()) {
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
    for (const Isa isa : available_isas()) {
      const std::vector<float> out = attend(*make_cpu_device(isa, 1), scene, rows, q, 16);
      for (size_t i = 0; i < out.size(); ++i)
        EXPECT_TRUE(same_bits(out[i], reference[i])) << to_string(isa) << " " << value;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, AttentionOf, ::testing::Values(KvType::f32, KvType::f16, KvType::bf16),
                         [](const auto& type_of) {
                           return type_of.param == KvType::f32 ? "f32" : type_of.param == KvType::f16 ? "f16" : "bf16";
                         });

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
