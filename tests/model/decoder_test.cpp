// The decoder against a plain double-precision implementation, for every architecture and weight type.
#include <cmath>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "accuracy.hpp"
#include "model/pack.hpp"
#include "model/synth.hpp"
#include "reference_decoder.hpp"
#include "runner.hpp"
#include "temporary_folder.hpp"

namespace tidemill::model {
namespace {

using tensor::DType;
using test::relative_error;
using test::tolerance;

struct Case {
  std::string_view shape;
  DType type;
};

class Decoders : public testing::TestWithParam<Case> {};

TEST_P(Decoders, AgreeWithTheReference) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  const Shape shape = find_shape(GetParam().shape).value();
  const auto written = write_synthetic_model(shape, path, {.type = GetParam().type, .seed = 7, .on_progress = {}});
  ASSERT_TRUE(written) << written.error().to_string();
  // Past one KV block, so that attention crosses a block's edge.
  const std::vector<Token> tokens = {5, 900, 17, 3, 3, 512, 1023, 0, 77, 40, 41, 42, 600, 8, 9, 10, 11, 12, 700, 13, 1};
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file) << file.error().to_string();
  const test::ReferenceOutput expected = test::reference_forward(*file, tokens);
  test::Loaded loaded = test::load(path, tensor::KvType::f32, 64);
  ASSERT_NE(loaded.cache, nullptr);
  const auto logits = test::Sequence(loaded).append(tokens);
  ASSERT_EQ(logits.size(), tokens.size());
  double worst = 0;
  for (size_t t = 0; t < tokens.size(); ++t)
    worst = std::max(worst, relative_error(logits[t], expected.logits[t]));
  EXPECT_LT(worst, tolerance(GetParam().type) * std::sqrt(static_cast<double>(shape.layers) / 2));
  RecordProperty("relative_error", fmt::format("{}", worst));
}

// An expert that is chosen by a hair is another one after the least rounding, and then everything differs: of mixtures,
// what rounds little is judged here, and weights of all types below.
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string_view shape :
       {"llama-tiny", "qwen2-tiny", "qwen3-tiny", "granite-tiny", "phi3-tiny", "gemma2-tiny", "gemma3-tiny"}) {
    for (const DType type : tensor::all_dtypes())
      all.push_back({shape, type});
  }
  for (const std::string_view shape :
       {"mixtral-tiny", "qwen2moe-tiny", "qwen3moe-tiny", "gpt-oss-tiny", "deepseek2-tiny", "deepseek3-tiny"}) {
    for (const DType type : {DType::f32, DType::q8_0})
      all.push_back({shape, type});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Tiny, Decoders, testing::ValuesIn(cases()), [](const auto& instance) {
  std::string name = fmt::format("{}_{}", instance.param.shape, tensor::info(instance.param.type).name);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// Mistral's first model: llama's shape with a window in every layer, here shorter than a block, of one, and longer.
TEST(Decoder, LayersMaySeeAWindow) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  std::vector<Token> tokens(40);
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<Token>((i * 37 + 5) % 1000);
  for (const int64_t window : {1, 7, 16, 23, 100}) {
    Shape shape = find_shape("llama-tiny").value();
    shape.window = window;
    ASSERT_TRUE(write_synthetic_model(shape, path, {.type = DType::f32, .seed = 3, .on_progress = {}}));
    const auto file = GgufFile::open(path);
    ASSERT_TRUE(file);
    const test::ReferenceOutput expected = test::reference_forward(*file, tokens);
    test::Loaded loaded = test::load(path, tensor::KvType::f32, 64);
    ASSERT_NE(loaded.cache, nullptr);
    const auto logits = test::Sequence(loaded).append(tokens);
    for (size_t t = 0; t < tokens.size(); ++t)
      EXPECT_LT(relative_error(logits[t], expected.logits[t]), 1e-5) << "window " << window << ", token " << t;
  }
}

// Of 32 pairs three keep their frequencies here, and from the twelfth on all are divided by the whole factor.
TEST(Decoder, YarnScalesTheRotation) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  std::vector<Token> tokens(40);
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<Token>((i * 37 + 5) % 1000);
  for (const std::string_view name : {"llama-tiny", "gemma2-tiny"}) {
    Shape shape = find_shape(name).value();
    shape.rope_factor = 1;
    shape.old_context = 512;
    const auto logits_of = [&](double factor) {
      shape.yarn_factor = factor;
      EXPECT_TRUE(write_synthetic_model(shape, path, {.type = DType::f32, .seed = 3, .on_progress = {}}));
      const auto file = GgufFile::open(path);
      EXPECT_TRUE(file);
      const test::ReferenceOutput expected = test::reference_forward(*file, tokens);
      test::Loaded loaded = test::load(path, tensor::KvType::f32, 64);
      if (loaded.cache == nullptr) return std::vector<double>();
      const auto logits = test::Sequence(loaded).append(tokens);
      for (size_t t = 0; t < tokens.size(); ++t)
        EXPECT_LT(relative_error(logits[t], expected.logits[t]), 1e-5) << name << " " << factor << ", token " << t;
      return expected.logits.back();
    };
    const std::vector<double> eight = logits_of(8);
    const std::vector<double> two = logits_of(2);
    EXPECT_GT(relative_error(std::vector<float>(two.begin(), two.end()), eight), 1e-3) << name;
  }
}

// Without int8 activations only the rounding of F32 is left.
TEST(Decoder, DequantisedComputesPlainly) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  const std::vector<Token> tokens = {5, 900, 17, 3, 3, 512, 1023, 0};
  for (const std::string_view shape :
       {"llama-tiny", "qwen2moe-tiny", "gpt-oss-tiny", "deepseek2-tiny", "deepseek3-tiny"}) {
    for (const DType type : tensor::all_dtypes()) {
      if (tensor::info(type).block_elements == 1) continue;
      ASSERT_TRUE(write_synthetic_model(find_shape(shape).value(), path, {.type = type, .on_progress = {}}));
      const auto file = GgufFile::open(path);
      ASSERT_TRUE(file);
      const test::ReferenceOutput expected = test::reference_forward(*file, tokens);
      test::Loaded loaded = test::load(path, tensor::KvType::f32, 64, 1, 256, true);
      ASSERT_NE(loaded.cache, nullptr);
      const auto logits = test::Sequence(loaded).append(tokens);
      for (size_t t = 0; t < tokens.size(); ++t)
        EXPECT_LT(relative_error(logits[t], expected.logits[t]), 1e-5) << shape << " " << tensor::info(type).name;
    }
  }
}

// A quantised model with F32 activations computes the bits of its values in F32, from memory of its own size, as a file
// or mapped; and says what it multiplies.
TEST(Decoder, F32ActivationsGiveTheBitsOfDequantisedWeights) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  const auto mapped = folder.path() / "model.tm.gguf";
  const std::vector<Token> tokens = {5, 900, 17, 3, 3, 512, 1023, 0};
  const auto weight_only = [](const std::filesystem::path& file, int threads) {
    return test::load(file, tensor::KvType::f16, 64, threads, 256, false, tensor::ActivationScheme::f32);
  };
  const auto logits_of = [&](test::Loaded loaded) {
    test::Sequence sequence(loaded);
    auto logits = sequence.append(std::span(tokens).first(7));
    logits.push_back(sequence.append(std::span(tokens).last(1)).back());
    return logits;
  };
  for (const std::string_view shape :
       {"llama-tiny", "gemma3-tiny", "qwen2moe-tiny", "gpt-oss-tiny", "deepseek2-tiny", "deepseek3-tiny"}) {
    for (const DType type : {DType::q8_0, DType::q4_k, DType::mxfp4, DType::f16, DType::bf16}) {
      SCOPED_TRACE(fmt::format("{} {}", shape, tensor::info(type).name));
      ASSERT_TRUE(write_synthetic_model(find_shape(shape).value(), path, {.type = type, .on_progress = {}}));
      std::filesystem::remove(mapped);
      ASSERT_TRUE(pack_model(GgufFile::open(path).value(), mapped, {}));
      const auto expected = logits_of(test::load(path, tensor::KvType::f16, 64, 1, 256, true));
      EXPECT_EQ(logits_of(weight_only(path, 1)), expected);
      EXPECT_EQ(logits_of(weight_only(path, 3)), expected);
      EXPECT_EQ(logits_of(weight_only(mapped, 2)), expected);
      const test::Loaded floats = weight_only(path, 1);
      const test::Loaded dynamic = test::load(path, tensor::KvType::f16, 64);
      EXPECT_EQ(floats.model->weight_bytes(), dynamic.model->weight_bytes());
      EXPECT_TRUE(floats.model->row_multiplies().alike);
      EXPECT_EQ(floats.model->row_multiplies().int8, 0);
      EXPECT_EQ(floats.model->row_multiplies().floating,
                dynamic.model->row_multiplies().int8 + dynamic.model->row_multiplies().floating);
    }
  }
}

TEST(Decoder, GivesTheOutputsThatAreAskedFor) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  ASSERT_TRUE(write_synthetic_model(find_shape("qwen3-tiny").value(), path, {.type = DType::f32, .on_progress = {}}));
  test::Loaded loaded = test::load(path, tensor::KvType::f32, 64);
  ASSERT_NE(loaded.cache, nullptr);
  const std::vector<Token> tokens = {1, 2, 3, 4, 5, 6};
  const std::vector<int32_t> positions = {0, 1, 2, 3, 4, 5};
  const std::vector<int32_t> sequences(6, 0);
  const std::vector<int32_t> blocks = {2};
  const std::vector<std::span<const int32_t>> tables = {blocks};
  const auto run = [&](std::vector<int32_t> logit_rows, std::vector<int32_t> hidden_rows) {
    return loaded.model->forward({tokens, positions, sequences, tables, logit_rows, hidden_rows}, *loaded.cache);
  };
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file);
  const test::ReferenceOutput expected = test::reference_forward(*file, tokens);

  const Output both = run({1, 5}, {0, 1, 4});
  ASSERT_EQ(both.logits.rows, 2);
  ASSERT_EQ(both.logits.cols, 1024);
  ASSERT_EQ(both.hidden.rows, 3);
  ASSERT_EQ(both.hidden.cols, 256);
  EXPECT_LT(relative_error({both.logits.row(0), 1024}, expected.logits[1]), 1e-5);
  EXPECT_LT(relative_error({both.logits.row(1), 1024}, expected.logits[5]), 1e-5);
  EXPECT_LT(relative_error({both.hidden.row(0), 256}, expected.hidden[0]), 1e-5);
  EXPECT_LT(relative_error({both.hidden.row(1), 256}, expected.hidden[1]), 1e-5);
  EXPECT_LT(relative_error({both.hidden.row(2), 256}, expected.hidden[4]), 1e-5);

  const Output none = run({}, {});
  EXPECT_EQ(none.logits.rows, 0);
  EXPECT_EQ(none.hidden.rows, 0);
  EXPECT_EQ(loaded.model->forward({{}, {}, {}, tables, {}, {}}, *loaded.cache).logits.rows, 0);
}

}  // namespace
}  // namespace tidemill::model
