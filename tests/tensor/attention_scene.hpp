// What the tests of attention share: sequences in a cache, attention over them by a device, and the same plainly in
// double.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/cpu_device.hpp"
#include "tensor/samples.hpp"

namespace tidemill::tensor::test {

// Sequences of given lengths whose keys and values are in the cache, in blocks handed out in random order.
struct Scene {
  KvShape shape;
  std::vector<int32_t> lengths;
  std::vector<std::vector<int32_t>> tables;
  std::vector<std::vector<float>> keys;    // [sequence][token][kv_heads * head_dim]
  std::vector<std::vector<float>> values;  // [sequence][token][kv_heads * value_dim]

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
      values.push_back(shape.latent > 0 ? latents_of(keys.back()) : samples.normal(length * width));
    }
  }

  std::vector<float> latents_of(const std::vector<float>& heads) const {
    std::vector<float> latents;
    for (auto head = heads.begin(); head != heads.end(); head += shape.head_dim)
      latents.insert(latents.end(), head, head + shape.latent);
    return latents;
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
    const auto values_or_none = [&](const std::vector<float>& from, int64_t rows) {
      return shape.latent > 0 ? ConstMatrix() : matrix(from, rows, width);
    };
    for (int64_t l = 0; l < shape.layers; ++l)
      device.store_kv(*kv, l, {positions, zeros, all}, matrix(nans, n, width), values_or_none(nans, n));
    const auto spans = table_spans();
    for (size_t s = 0; s < lengths.size(); ++s) {
      std::vector<int32_t> own(static_cast<size_t>(lengths[s]));
      std::iota(own.begin(), own.end(), 0);
      const std::vector<int32_t> sequence(own.size(), static_cast<int32_t>(s));
      device.store_kv(*kv, layer, {own, sequence, spans}, matrix(keys[s], lengths[s], width),
                      values_or_none(values[s], lengths[s]));
    }
    return kv;
  }
};

struct Rows {
  std::vector<int32_t> positions;
  std::vector<int32_t> sequences;
};

inline constexpr AttentionRule kPlainRule = {.scale = 0.125F};

// Blocks that no row sees any of become some that do not exist.
inline void hide_blocks(const Rows& rows, int64_t window, std::vector<std::vector<int32_t>>& tables) {
  constexpr int32_t nowhere = 1 << 28;
  for (size_t s = 0; s < tables.size(); ++s) {
    int64_t first = std::numeric_limits<int64_t>::max();
    for (size_t r = 0; r < rows.positions.size(); ++r) {
      if (static_cast<size_t>(rows.sequences[r]) == s) first = std::min(first, rows.positions[r] + 1 - window);
    }
    for (size_t b = 0; b < tables[s].size() && static_cast<int64_t>(b + 1) * kKvBlockTokens <= first; ++b)
      tables[s][b] = nowhere;
  }
}

inline std::vector<float> attend(Device& device, const Scene& scene, const Rows& rows, const std::vector<float>& q,
                                 int64_t width, const AttentionRule& rule = kPlainRule) {
  const auto kv = scene.cache(device, 1);
  std::vector<std::vector<int32_t>> tables = scene.tables;
  if (rule.window > 0) hide_blocks(rows, rule.window, tables);
  const std::vector<std::span<const int32_t>> spans(tables.begin(), tables.end());
  const auto n = static_cast<int64_t>(rows.positions.size());
  const int64_t out_width = width / scene.shape.head_dim * scene.shape.value_dim();
  std::vector<float> out(static_cast<size_t>(n * out_width), -5.0F);
  device.attention(*kv, 1, {rows.positions, rows.sequences, spans}, rule, matrix(q, n, width),
                   matrix(out, n, out_width));
  return out;
}

inline float rounded(KvType type, float x) {
  if (type == KvType::f16) return f16_to_f32(f32_to_f16(x));
  if (type == KvType::bf16) return bf16_to_f32(f32_to_bf16(x));
  return x;
}

// softmax(q k^T / 8) v in double for query head `head` of row r, over what the rule lets it see.
inline std::vector<double> exact(const Scene& scene, const Rows& rows, const std::vector<float>& q, int64_t heads,
                                 int64_t r, int64_t head, const AttentionRule& rule = kPlainRule) {
  const int64_t dim = scene.shape.head_dim;
  const int64_t width = scene.shape.kv_heads * dim;
  const auto s = static_cast<size_t>(rows.sequences[r]);
  const int64_t kv_head = head / (heads / scene.shape.kv_heads);
  std::vector<double> p;
  const int64_t first = rule.window > 0 ? std::max<int64_t>(0, rows.positions[r] + 1 - rule.window) : 0;
  for (int64_t t = first; t <= rows.positions[r]; ++t) {
    double score = 0;
    for (int64_t d = 0; d < dim; ++d) {
      score += static_cast<double>(q[(r * heads + head) * dim + d]) *
               rounded(scene.shape.type, scene.keys[s][t * width + kv_head * dim + d]);
    }
    score *= static_cast<double>(rule.scale);
    const auto cap = static_cast<double>(rule.soft_cap);
    p.push_back(cap > 0 ? cap * std::tanh(score / cap) : score);
  }
  double highest = *std::max_element(p.begin(), p.end());
  double sum = 0;
  if (!rule.sinks.empty()) {
    const auto sink = static_cast<double>(rule.sinks[static_cast<size_t>(head)]);
    highest = std::max(highest, sink);
    sum = std::exp(sink - highest);
  }
  for (double& v : p)
    sum += v = std::exp(v - highest);
  const int64_t value_dim = scene.shape.value_dim();
  std::vector<double> out(static_cast<size_t>(value_dim));
  for (int64_t d = 0; d < value_dim; ++d) {
    for (size_t i = 0; i < p.size(); ++i) {
      const int64_t t = first + static_cast<int64_t>(i);
      const float value = scene.values[s][(t * scene.shape.kv_heads + kv_head) * value_dim + d];
      out[d] += p[i] / sum * rounded(scene.shape.type, value);
    }
  }
  return out;
}

// How far an output may be from the exact one, of an output of order one. Plain types: scores are sums of head_dim
// products of order one, whose error is far below 1e-5, and so is that of the weights. int8: queries and keys are
// rounded to 1/254 of their largest element (about four sigma), so a score that varies by two is off by about 0.02; so
// are weights then, of which the output is a mean.
struct Bounds {
  double largest;
  double rms;
};
inline Bounds bounds(KvType type) {
  return type == KvType::int8 ? Bounds{0.12, 0.015} : Bounds{2e-5, 2e-6};
}

struct Case {
  int64_t kv_heads;
  int64_t group;
  int64_t head_dim;
};

// Windows shorter than a block and longer than some segments, and scores that are capped.
inline const std::vector<AttentionRule> kRules = {
    {.scale = 0.125F, .window = 1},   {.scale = 0.125F, .window = 5},   {.scale = 0.2F, .soft_cap = 3, .window = 16},
    {.scale = 0.125F, .window = 47},  {.scale = 0.125F, .window = 128}, {.scale = 0.125F, .soft_cap = 5, .window = 129},
    {.scale = 0.125F, .window = 200}, {.scale = 0.125F, .window = 999}, {.scale = 0.3F, .soft_cap = 2},
    {.scale = 0.01F, .soft_cap = 50},
};

}  // namespace tidemill::tensor::test
