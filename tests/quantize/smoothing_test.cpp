// Outlier channels folded into norms: the plain model computes the same bits, and models that have such channels gain.
#include "quantize/smoothing.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "data.hpp"
#include "model/gguf.hpp"
#include "model/gguf_writer.hpp"
#include "model/runner.hpp"
#include "model/synth.hpp"
#include "quantize/plan.hpp"
#include "temporary_folder.hpp"

namespace tidemill::quantize {
namespace {

using tensor::DType;

const std::string kOpening = "It was a bright cold day, and the clocks of the town were striking thirteen. " +
                             std::string("Nobody counted them but the man who had to wind them up again.");

bool is_power_of_two(float value) {
  int exponent = 0;
  return std::frexp(value, &exponent) == 0.5F;
}

std::vector<float> values_of(tensor::ConstMatrix x) {
  std::vector<float> values;
  for (int64_t r = 0; r < x.rows; ++r)
    values.insert(values.end(), x.row(r), x.row(r) + x.cols);
  return values;
}

// Logits and hidden states of some tokens.
std::pair<std::vector<float>, std::vector<float>> outputs(const std::filesystem::path& path) {
  test::Loaded loaded = test::load(path, tensor::KvType::f32, 64, 1, 16);
  if (loaded.cache == nullptr) return {};
  const std::vector<model::Token> tokens = {5, 700, 31, 2, 900, 5};
  const std::vector<int32_t> rows = {0, 1, 2, 3, 4, 5};
  const std::vector<int32_t> sequences(tokens.size(), 0);
  std::vector<int32_t> blocks(static_cast<size_t>(loaded.cache->shape().blocks));
  std::iota(blocks.begin(), blocks.end(), 0);
  const std::span<const int32_t> table = blocks;
  const model::Output output = loaded.model->forward({.tokens = tokens,
                                                      .positions = rows,
                                                      .sequences = sequences,
                                                      .block_tables = std::span(&table, 1),
                                                      .logit_rows = rows,
                                                      .hidden_rows = rows},
                                                     *loaded.cache);
  EXPECT_EQ(output.hidden.rows, 6);
  return {values_of(output.logits), values_of(output.hidden)};
}

class Smoothing : public testing::Test {
 protected:
  model::Checkpoint synthetic(int64_t outlier_channels, const char* shape = "llama-tiny") const {
    const auto path = folder_.path() / "model.gguf";
    EXPECT_TRUE(
        model::write_synthetic_model(model::find_shape(shape).value(), path,
                                     {.type = DType::f32, .outlier_channels = outlier_channels, .on_progress = {}}));
    return model::Checkpoint::open(path).value();
  }
  static std::vector<SmoothedNorm> plan(const model::Checkpoint& file, DType type) {
    CalibrationOptions options;
    options.isa = tensor::choose_isa().value();
    const auto calibration = Calibration::create(file, kOpening, options);
    EXPECT_TRUE(calibration) << calibration.error().to_string();
    if (!calibration) return {};
    const std::vector<DType> types = plan_types(file, type, {}).value();
    size_t last = 0;
    auto smoothed = plan_smoothing(file, **calibration, types, {}, [&last](size_t done, size_t total) {
      EXPECT_EQ(done, last + 1);
      EXPECT_EQ(total, 4U);
      last = done;
    });
    EXPECT_EQ(last, 4U);
    EXPECT_TRUE(smoothed) << smoothed.error().to_string();
    return smoothed ? std::move(*smoothed) : std::vector<SmoothedNorm>();
  }

  test::TemporaryFolder folder_;
};

TEST_F(Smoothing, FactorsArePowersOfTwoAboutOne) {
  std::vector<float> peaks(64, 1);
  std::vector<float> weights(64, 0.1F);
  peaks[3] = 100;
  peaks[5] = 0;
  weights[6] = 0;
  peaks[7] = 1e30F;
  const std::vector<float> factors = smoothing_factors(peaks, weights, 0.5);
  for (const float factor : factors) {
    EXPECT_TRUE(is_power_of_two(factor)) << factor;
    EXPECT_GE(factor, 1.0F / 64);
    EXPECT_LE(factor, 64);
  }
  EXPECT_GT(factors[3], factors[4]);
  EXPECT_EQ(factors[5], 1);
  EXPECT_EQ(factors[6], 1);
  EXPECT_EQ(factors[7], 64);
  for (const float factor : smoothing_factors(std::vector<float>(8, 3), std::vector<float>(8, 2), 0.5))
    EXPECT_EQ(factor, 1);
}

TEST_F(Smoothing, KnowsWhatIsBehindEachNorm) {
  const auto groups = norm_groups(synthetic(0));
  ASSERT_EQ(groups.size(), 4U);  // of two layers two
  EXPECT_EQ(groups[0].norm, "blk.0.attn_norm.weight");
  EXPECT_EQ(groups[0].matrices,
            (std::vector<std::string>{"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"}));
  EXPECT_EQ(groups[3].norm, "blk.1.ffn_norm.weight");
  EXPECT_EQ(groups[3].matrices, (std::vector<std::string>{"blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"}));
  EXPECT_EQ(norm_groups(model::Checkpoint::open(test::nano_coder()).value()).size(), 12U);
  for (const auto& [shape, query] : {std::pair("deepseek2-tiny", "attn_q"), std::pair("deepseek3-tiny", "attn_q_a")}) {
    const auto of_latents = norm_groups(synthetic(0, shape));
    ASSERT_EQ(of_latents.size(), 4U);  // of three layers one each, and in the first one of a block for all rows
    EXPECT_EQ(of_latents[2].norm, "blk.1.attn_norm.weight");
    EXPECT_EQ(of_latents[2].matrices,
              (std::vector<std::string>{"blk.1." + std::string(query) + ".weight", "blk.1.attn_kv_a_mqa.weight"}));
  }
}

TEST_F(Smoothing, ModelsWithOutlierChannelsGain) {
  const model::Checkpoint file = synthetic(4);
  const auto smoothed = plan(file, DType::q6_k);
  ASSERT_EQ(smoothed.size(), 4U);  // all norms have them alike
  for (const SmoothedNorm& one : smoothed) {
    EXPECT_EQ(one.factors.size(), 256U);
    // The outliers, of whose norm's weights the synthetic model has them, are what is made smaller.
    const model::GgufTensor* norm = file.find_tensor(one.group.norm);
    std::vector<float> weights(256);
    tensor::dequantize(norm->type, norm->data.data(), 256, weights.data());
    for (size_t c = 0; c < 256; ++c) {
      if (weights[c] > 10) {
        EXPECT_GT(one.factors[c], 1) << one.group.norm << " " << c;
      }
      EXPECT_TRUE(is_power_of_two(one.factors[c]));
    }
  }
  EXPECT_TRUE(plan(file, DType::f16).empty());  // nothing is rounded in groups
}

TEST_F(Smoothing, ThePlainModelComputesTheSameBits) {
  const model::Checkpoint file = synthetic(4);
  const auto smoothed = plan(file, DType::q6_k);
  ASSERT_FALSE(smoothed.empty());
  std::map<std::string_view, std::pair<const std::vector<float>*, bool>> change;
  for (const SmoothedNorm& one : smoothed) {
    change[one.group.norm] = {&one.factors, true};
    for (const std::string& name : one.group.matrices)
      change[name] = {&one.factors, false};
  }
  const auto path = folder_.path() / "smoothed.gguf";
  model::GgufWriter writer;
  for (const model::GgufEntry& entry : file.metadata())
    writer.add(entry);
  for (const model::GgufTensor& tensor : file.tensors()) {
    ASSERT_EQ(tensor.type, DType::f32);
    writer.declare_tensor(tensor.name, tensor.type, std::span(tensor.shape).first(static_cast<size_t>(tensor.rank)));
  }
  ASSERT_TRUE(writer.begin(path));
  for (const model::GgufTensor& tensor : file.tensors()) {
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
    if (const auto found = change.find(tensor.name); found != change.end()) {
      const auto& [factors, norm] = found->second;
      for (size_t i = 0; i < values.size(); ++i) {
        const float factor = (*factors)[i % factors->size()];
        values[i] = norm ? values[i] / factor : values[i] * factor;
      }
    }
    ASSERT_TRUE(writer.write(std::as_bytes(std::span(values))));
  }
  ASSERT_TRUE(writer.finish());
  const auto [logits, hidden] = outputs(path);
  const auto [expected, states] = outputs(folder_.path() / "model.gguf");
  EXPECT_EQ(logits, expected);
  EXPECT_EQ(hidden, states);
}

}  // namespace
}  // namespace tidemill::quantize
