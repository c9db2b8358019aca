// Attention to a window of what came before, with scores that are capped, and with sinks: the scalar kernels against a
// plain softmax in double, every other instruction set against the scalar kernels bit for bit.
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

class RuledAttention : public ::testing::TestWithParam<KvType> {};

TEST_P(RuledAttention, WindowsAndSoftCapsMatchPlainSoftmax) {
  Samples samples(31);
  // int8: of a few tokens alone, errors of weights and values do not average out.
  const double bound = GetParam() == KvType::int8 ? 0.25 : bounds(GetParam()).largest;
  for (const Case& c : {Case{2, 2, 32}, Case{1, 3, 24}}) {
    const Scene scene({.layers = 2, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .type = GetParam()}, {1, 17, 300},
                      samples);
    const int64_t heads = c.kv_heads * c.group;
    const int64_t width = heads * c.head_dim;
    Rows rows;
    for (size_t s = 0; s < scene.lengths.size(); ++s) {
      for (int32_t position = 0; position < scene.lengths[s]; position += position % 16 == 3 ? 11 : 1) {
        rows.positions.push_back(position);
        rows.sequences.push_back(static_cast<int32_t>(s));
      }
    }
    const auto n = static_cast<int64_t>(rows.positions.size());
    const std::vector<float> q = samples.normal(n * width, 2.0F);
    for (const AttentionRule& rule : kRules) {
      const std::vector<float> reference = attend(*make_cpu_device(Isa::scalar, 2), scene, rows, q, width, rule);
      for (int64_t r = 0; r < n; ++r) {
        const int64_t head = r % heads;
        const std::vector<double> expected = exact(scene, rows, q, heads, r, head, rule);
        for (int64_t d = 0; d < c.head_dim; ++d) {
          ASSERT_NEAR(reference[r * width + head * c.head_dim + d], expected[d], bound)
              << "row " << r << " at " << rows.positions[r] << ", window " << rule.window << ", cap " << rule.soft_cap;
        }
      }
      for (const Isa isa : runnable_isas()) {
        const std::vector<float> out = attend(*make_cpu_device(isa, 3), scene, rows, q, width, rule);
        for (size_t i = 0; i < out.size(); ++i) {
          ASSERT_TRUE(same_bits(out[i], reference[i]))
              << to_string(isa) << " window " << rule.window << " cap " << rule.soft_cap << " element " << i;
        }
      }
      auto device = make_cpu_device(available_isas().back(), 2);
      for (int64_t r = 0; r < n; r += 13) {
        const Rows one = {{rows.positions[r]}, {rows.sequences[r]}};
        const std::vector<float> alone =
            attend(*device, scene, one, {q.begin() + r * width, q.begin() + (r + 1) * width}, width, rule);
        for (int64_t i = 0; i < width; ++i)
          ASSERT_TRUE(same_bits(alone[i], reference[r * width + i])) << "row " << r << " window " << rule.window;
      }
    }
  }
}

// What lies before every row's window is nothing to them, whatever it is; on any number of threads, which share the
// segments of a long window.
TEST_P(RuledAttention, NothingIsSeenBeforeTheWindow) {
  Samples samples(32);
  const int32_t length = 2000;
  const int64_t width = 2 * 32;
  Scene scene({.layers = 2, .kv_heads = 1, .head_dim = 32, .type = GetParam()}, {length}, samples);
  for (const int64_t window : {20, 700}) {
    const AttentionRule rule = {.scale = 0.125F, .window = window};
    for (const int32_t count : {1, 40}) {
      Rows rows;
      for (int32_t i = 0; i < count; ++i) {
        rows.positions.push_back(length - count + i);
        rows.sequences.push_back(0);
      }
      const std::vector<float> q = samples.normal(count * width);
      const std::vector<float> clean = attend(*make_cpu_device(Isa::scalar, 1), scene, rows, q, width, rule);
      Scene spoiled = scene;
      for (int64_t i = 0; i < (rows.positions[0] + 1 - window) * 32; ++i) {
        spoiled.keys[0][static_cast<size_t>(i)] = std::numeric_limits<float>::quiet_NaN();
        spoiled.values[0][static_cast<size_t>(i)] = std::numeric_limits<float>::infinity();
      }
      for (const Isa isa : runnable_isas()) {
        for (const int threads : {1, 6}) {
          if (isa == Isa::scalar && threads == 1) continue;  // slow
          const std::vector<float> out = attend(*make_cpu_device(isa, threads), spoiled, rows, q, width, rule);
          for (size_t i = 0; i < out.size(); ++i)
            ASSERT_TRUE(same_bits(out[i], clean[i])) << to_string(isa) << " window " << window << " element " << i;
        }
      }
    }
  }
}

// Sinks that take nearly nothing, about as much as a token, and nearly everything; with all else that a rule may have.
TEST_P(RuledAttention, SinksTakeTheirShare) {
  Samples samples(33);
  // int8: as above, and what a sink takes is lost with its error.
  const double bound = GetParam() == KvType::int8 ? 0.25 : bounds(GetParam()).largest;
  const std::vector<float> sinks = {-30.0F, 0.5F, 4.0F, 25.0F, -1.0F, 2.0F};
  for (const Case& c : {Case{2, 3, 32}, Case{3, 2, 24}}) {
    const Scene scene({.layers = 2, .kv_heads = c.kv_heads, .head_dim = c.head_dim, .type = GetParam()}, {1, 17, 300},
                      samples);
    const int64_t heads = c.kv_heads * c.group;
    const int64_t width = heads * c.head_dim;
    Rows rows;
    for (size_t s = 0; s < scene.lengths.size(); ++s) {
      for (int32_t position = 0; position < scene.lengths[s]; position += position % 16 == 3 ? 11 : 1) {
        rows.positions.push_back(position);
        rows.sequences.push_back(static_cast<int32_t>(s));
      }
    }
    const auto n = static_cast<int64_t>(rows.positions.size());
    const std::vector<float> q = samples.normal(n * width, 2.0F);
    for (AttentionRule rule : {AttentionRule{.scale = 0.125F}, AttentionRule{.scale = 0.125F, .window = 16},
                               AttentionRule{.scale = 0.2F, .soft_cap = 3, .window = 130}}) {
      rule.sinks = sinks;
      const std::vector<float> reference = attend(*make_cpu_device(Isa::scalar, 1), scene, rows, q, width, rule);
      for (int64_t r = 0; r < n; ++r) {
        const int64_t head = r % heads;
        const std::vector<double> expected = exact(scene, rows, q, heads, r, head, rule);
        for (int64_t d = 0; d < c.head_dim; ++d) {
          ASSERT_NEAR(reference[r * width + head * c.head_dim + d], expected[d], bound)
              << "row " << r << " at " << rows.positions[r] << ", head " << head << ", window " << rule.window;
        }
      }
      for (const Isa isa : runnable_isas()) {
        for (const int threads : {1, 3}) {
          if (isa == Isa::scalar && threads == 1) continue;
          const std::vector<float> out = attend(*make_cpu_device(isa, threads), scene, rows, q, width, rule);
          for (size_t i = 0; i < out.size(); ++i)
            ASSERT_TRUE(same_bits(out[i], reference[i])) << to_string(isa) << " window " << rule.window << " at " << i;
        }
      }
      // Alone on many threads, segments are spread.
      auto device = make_cpu_device(available_isas().back(), 5);
      for (int64_t r = 0; r < n; r += 7) {
        const Rows one = {{rows.positions[r]}, {rows.sequences[r]}};
        const std::vector<float> alone =
            attend(*device, scene, one, {q.begin() + r * width, q.begin() + (r + 1) * width}, width, rule);
        for (int64_t i = 0; i < width; ++i)
          ASSERT_TRUE(same_bits(alone[i], reference[r * width + i])) << "row " << r << " window " << rule.window;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, RuledAttention, ::testing::Values(KvType::f32, KvType::f16, KvType::bf16, KvType::int8),
                         [](const auto& type_of) { return std::string(to_string(type_of.param)); });

}  // namespace
}  // namespace tidemill::tensor
