// Feed-forward blocks that no block of 32 fits, made wider by zeros: the same model, in types that it could not have.
#include "quantize/widen.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/memory.hpp"
#include "evaluate/judged_model.hpp"
#include "model/checkpoint.hpp"
#include "model/shapes.hpp"
#include "model/synth.hpp"
#include "quantize/calibration.hpp"
#include "quantize/mixture.hpp"
#include "quantize/quantize_model.hpp"
#include "temporary_folder.hpp"
#include "tensor/packed_weight.hpp"

namespace tidemill::quantize {
namespace {

namespace fs = std::filesystem;

using model::Checkpoint;
using model::GgufTensor;
using tensor::DType;

class WidenedModel : public testing::Test {
 protected:
  // A tiny model of that inner width, in F32.
  Checkpoint make(std::string_view shape_name, int64_t inner) const {
    model::Shape shape = model::find_shape(shape_name).value();
    shape.feed_forward = inner;
    const auto written =
        model::write_synthetic_model(shape, source_, {.type = DType::f32, .on_progress = {}, .cancelled = {}});
    EXPECT_TRUE(written) << written.error().to_string();
    return Checkpoint::open(source_).value();
  }

  static std::vector<std::byte> bytes_of(const Checkpoint& file, std::string_view name) {
    base::Buffer scratch;
    const auto bytes = file.read(*file.find_tensor(name), scratch);
    EXPECT_TRUE(bytes);
    return {bytes->begin(), bytes->end()};
  }

  static std::vector<float> floats_of(const Checkpoint& file, std::string_view name) {
    const GgufTensor& tensor = *file.find_tensor(name);
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    tensor::dequantize(tensor.type, bytes_of(file, name).data(), tensor.elements(), values.data());
    return values;
  }

  test::TemporaryFolder folder_;
  fs::path source_ = folder_.path() / "source.gguf";
  fs::path out_ = folder_.path() / "out.gguf";
};

// With gate and up as matrices of their own and as one.
TEST_F(WidenedModel, ComputesTheSame) {
  std::vector<model::Token> tokens;
  for (int i = 0; i < 24; ++i)
    tokens.push_back(3 + 29 * i);
  for (const char* shape : {"llama-tiny", "phi3-tiny"}) {
    const Checkpoint source = make(shape, 172);
    const auto wide = widen(source, DType::q8_0, {});
    ASSERT_TRUE(wide) << shape;
    EXPECT_EQ(wide->from, 172);
    EXPECT_EQ(wide->to, 192);
    EXPECT_EQ(wide->zeros, int64_t{2} * 3 * 20 * 256);  // layers, matrices
    EXPECT_EQ(wide->checkpoint.parameters() - source.parameters(), wide->zeros);
    ASSERT_EQ(wide->checkpoint.metadata().size(), source.metadata().size());
    QuantizeOptions options;
    options.type = DType::f32;
    const auto written = quantize_model(wide->checkpoint, out_, options);
    ASSERT_TRUE(written) << written.error().to_string();
    const std::vector<double> expected = test::log_probabilities(source_, tokens, 1);
    const std::vector<double> found = test::log_probabilities(out_, tokens, 1);
    ASSERT_EQ(found.size(), expected.size());
    ASSERT_EQ(found.size(), 23U);
    for (size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(found[i], expected[i], 1e-5) << shape << ' ' << i;
  }
}

TEST_F(WidenedModel, FitsBlocks) {
  const Checkpoint source = make("llama-tiny", 172);
  QuantizeOptions options;
  const auto narrow = quantize_model(source, out_, options);
  ASSERT_TRUE(narrow) << narrow.error().to_string();
  EXPECT_EQ(narrow->other_types, std::vector<std::string>{"2 in F16"});
  const auto wide = widen(source, DType::q8_0, {});
  ASSERT_TRUE(wide);
  const auto summary = quantize_model(wide->checkpoint, out_, options);
  ASSERT_TRUE(summary) << summary.error().to_string();
  EXPECT_TRUE(summary->other_types.empty());
  EXPECT_LT(summary->tensor_bytes, narrow->tensor_bytes);
  EXPECT_NE(fingerprint_of(wide->checkpoint), fingerprint_of(source));
  const Checkpoint file = Checkpoint::open(out_).value();
  EXPECT_EQ(file.get_int("llama.feed_forward_length").value(), 192);
  const GgufTensor& down = *file.find_tensor("blk.1.ffn_down.weight");
  EXPECT_EQ(down.type, DType::q8_0);
  ASSERT_EQ(down.cols(), 192);
  ASSERT_EQ(down.rows(), 256);
  const std::vector<float> found = floats_of(file, "blk.1.ffn_down.weight");
  const std::vector<float> expected = floats_of(source, "blk.1.ffn_down.weight");
  for (size_t r = 0; r < 256; ++r) {
    for (size_t c = 0; c < 192; ++c)
      EXPECT_NEAR(found[r * 192 + c], c < 172 ? expected[r * 172 + c] : 0, c < 172 ? 0.01 : 0) << r << ' ' << c;
  }
}

// Whatever type the rows are stored in that get zeros behind them.
TEST_F(WidenedModel, HasZerosInEveryType) {
  const Checkpoint source = make("llama-tiny", 172);
  for (const DType type : tensor::all_dtypes()) {
    QuantizeOptions options;
    options.type = type;
    ASSERT_TRUE(quantize_model(source, out_, options));
    const Checkpoint stored = Checkpoint::open(out_).value();
    const auto wide = widen(stored, DType::q8_0, {});
    ASSERT_TRUE(wide) << tensor::info(type).name;
    const GgufTensor& gate = *wide->checkpoint.find_tensor("blk.0.ffn_gate.weight");
    EXPECT_EQ(gate.type, type);
    ASSERT_EQ(gate.rows(), 192);
    const std::vector<std::byte> before = bytes_of(stored, "blk.0.ffn_gate.weight");
    const std::vector<std::byte> after = bytes_of(wide->checkpoint, "blk.0.ffn_gate.weight");
    ASSERT_EQ(after.size(), before.size() / 172 * 192);
    EXPECT_TRUE(std::equal(before.begin(), before.end(), after.begin())) << tensor::info(type).name;
    const std::vector<float> values = floats_of(wide->checkpoint, "blk.0.ffn_gate.weight");
    EXPECT_TRUE(std::all_of(values.begin() + 172 * 256, values.end(), [](float value) { return value == 0; }))
        << tensor::info(type).name;
  }
}

// Biases get zeros as well, and what a source makes when it is read is made first.
TEST_F(WidenedModel, TakesBiasesAndTensorsThatAreMade) {
  const Checkpoint source = make("llama-tiny", 172);
  const std::vector<float> bias(172, 0.5F);
  std::vector<GgufTensor> tensors;
  for (const GgufTensor& tensor : source.tensors()) {
    tensors.push_back(tensor);
    if (tensor.name != "blk.1.ffn_down.weight") continue;
    tensors.back().make = [data = tensor.data](std::span<std::byte> out) {
      ASSERT_EQ(out.size(), data.size());
      std::memcpy(out.data(), data.data(), data.size());
    };
  }
  for (const char* name : {"blk.0.ffn_gate.bias", "blk.0.ffn_up.bias"}) {
    GgufTensor tensor;
    tensor.name = name;
    tensor.shape[0] = 172;
    tensor.data = std::as_bytes(std::span(bias));
    tensors.push_back(tensor);
  }
  model::Metadata metadata(source_);
  for (const model::GgufEntry& entry : source.metadata())
    metadata.add(entry);
  const Checkpoint biased =
      Checkpoint::assemble(metadata, tensors, {source.files().begin(), source.files().end()}, nullptr, 3).value();
  const auto wide = widen(biased, DType::q8_0, {});
  ASSERT_TRUE(wide);
  std::vector<float> expected(192, 0);
  std::copy(bias.begin(), bias.end(), expected.begin());
  EXPECT_EQ(floats_of(wide->checkpoint, "blk.0.ffn_gate.bias"), expected);
  EXPECT_EQ(floats_of(wide->checkpoint, "blk.0.ffn_up.bias"), expected);
  EXPECT_EQ(wide->zeros, int64_t{2} * 3 * 20 * 256) << "biases are no matrices";
  const auto plain = widen(source, DType::q8_0, {});
  ASSERT_TRUE(plain);
  EXPECT_EQ(bytes_of(wide->checkpoint, "blk.1.ffn_down.weight"), bytes_of(plain->checkpoint, "blk.1.ffn_down.weight"));
}

TEST_F(WidenedModel, OnlyWhereItIsWorthIt) {
  {
    const Checkpoint odd = make("llama-tiny", 172);
    EXPECT_FALSE(widen(odd, DType::f16, {})) << "plain types fit";
    EXPECT_FALSE(widen(odd, DType::q8_0, std::vector<TensorRule>{{"*.ffn_down.weight", DType::f16}}));
    EXPECT_FALSE(widen(odd, DType::q8_0, std::vector<TensorRule>{{"no.such.tensor", DType::q8_0}}));
    EXPECT_TRUE(widen(odd, DType::q4_k, {}));
    EXPECT_TRUE(widen(odd, DType::f16, std::vector<TensorRule>{{"*.ffn_down.weight", DType::q8_0}}))
        << "a rule may ask for what only the wider ones fit";
  }
  EXPECT_FALSE(widen(make("llama-tiny", 192), DType::q8_0, {})) << "blocks fit";
  EXPECT_FALSE(widen(make("llama-tiny", 8), DType::q8_0, {})) << "four times as wide is more than F16 is";
  EXPECT_FALSE(widen(make("bert-tiny", 172), DType::q8_0, {})) << "an encoder";
  EXPECT_FALSE(widen(make("mixtral-tiny", 172), DType::q8_0, {})) << "experts";
}

TEST_F(WidenedModel, IsCalibratedAndPlannedByItsWeightsAlone) {
  const Checkpoint source = make("llama-tiny", 172);
  const auto wide = widen(source, DType::q8_0, {});
  ASSERT_TRUE(wide);
  CalibrationOptions reading;
  reading.isa = tensor::choose_isa().value();
  const auto calibration = Calibration::create(wide->checkpoint, "the quick brown fox jumps over the dog", reading);
  ASSERT_TRUE(calibration) << calibration.error().to_string();
  const InputStatistics* input = (*calibration)->input_of("blk.0.ffn_down.weight");
  ASSERT_NE(input, nullptr);
  ASSERT_EQ(input->peak.size(), 192U);
  EXPECT_GT(*std::max_element(input->peak.begin(), input->peak.begin() + 172), 0);
  EXPECT_EQ(*std::max_element(input->peak.begin() + 172, input->peak.end()), 0);

  const auto mixture = plan_mixture(wide->checkpoint, **calibration, {}, {.bits = 7, .zeros = wide->zeros}, {});
  ASSERT_TRUE(mixture) << mixture.error().to_string();
  EXPECT_LE(mixture->bits, 7);
  size_t bytes = 0;
  int64_t weights = 0;
  for (const TensorRule& rule : mixture->rules) {
    EXPECT_GT(tensor::info(rule.type).block_elements, 1) << rule.pattern;
    const GgufTensor& tensor = *wide->checkpoint.find_tensor(rule.pattern);
    bytes += tensor::PackedWeight::packed_bytes(rule.type, tensor.rows(), tensor.cols()).value();
    weights += source.find_tensor(rule.pattern)->elements();
  }
  EXPECT_NEAR(mixture->bits, 8 * static_cast<double>(bytes) / static_cast<double>(weights), 1e-9);

  QuantizeOptions options;
  options.type = mixture->type;
  options.rules = mixture->rules;
  options.bits = 7;
  options.calibration = calibration->get();
  const auto summary = quantize_model(wide->checkpoint, out_, options);
  ASSERT_TRUE(summary) << summary.error().to_string();
  EXPECT_TRUE(std::none_of(summary->other_types.begin(), summary->other_types.end(),
                           [](const std::string& other) { return other.ends_with("F16"); }));
}

}  // namespace
}  // namespace tidemill::quantize
