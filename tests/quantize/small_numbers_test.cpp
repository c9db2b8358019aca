// Matrices too small for the scales of a type: refused where rounding would make noise or zeros of them, and only
// there.
#include "model/small_numbers.hpp"

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "expect_says.hpp"
#include "model/synth.hpp"
#include "quantize/quantize_model.hpp"
#include "temporary_folder.hpp"

namespace tidemill::quantize {
namespace {

using model::Checkpoint;
using model::GgufTensor;
using tensor::DType;

constexpr std::string_view kSmallMatrix = "blk.1.ffn_up.weight";

class SmallMatrices : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(model::write_synthetic_model(model::find_shape("llama-tiny").value(), source_,
                                             {.type = DType::f32, .on_progress = {}}));
    original_ = weights(source_, kSmallMatrix);
  }

  static std::vector<float> weights(const std::filesystem::path& path, std::string_view name) {
    const Checkpoint file = Checkpoint::open(path).value();
    const GgufTensor* tensor = file.find_tensor(name);
    std::vector<float> values(static_cast<size_t>(tensor->elements()));
    tensor::dequantize(tensor->type, tensor->data.data(), tensor->elements(), values.data());
    return values;
  }
  // In the source.
  void write(std::string_view name, const std::vector<float>& values) const {
    size_t offset = 0;
    {
      const Checkpoint file = Checkpoint::open(source_).value();
      offset = static_cast<size_t>(file.find_tensor(name)->data.data() - file.mapping()->bytes().data());
    }
    std::fstream out(source_, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(offset));
    out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * 4));
  }
  // What is behind the first `kept` elements.
  void multiply(std::string_view name, float factor, size_t kept = 0) const {
    std::vector<float> values = weights(source_, name);
    for (size_t i = kept; i < values.size(); ++i)
      values[i] *= factor;
    write(name, values);
  }
  base::Result<QuantizeSummary> quantize(DType type, std::vector<TensorRule> rules = {}, bool per_channel = false) {
    std::filesystem::remove(out_);
    QuantizeOptions options;
    options.type = type;
    options.rules = std::move(rules);
    options.per_channel = per_channel;
    return quantize_model(Checkpoint::open(source_).value(), out_, options);
  }
  // Of the matrix that was written: the root of the sum of squared errors over that of squares.
  double error() const {
    const std::vector<float> expected = weights(source_, kSmallMatrix);
    const std::vector<float> found = weights(out_, kSmallMatrix);
    double off = 0;
    double all = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      off += std::pow(static_cast<double>(found[i]) - expected[i], 2);
      all += std::pow(static_cast<double>(expected[i]), 2);
    }
    return std::sqrt(off / all);
  }

  test::TemporaryFolder folder_;
  std::filesystem::path source_ = folder_.path() / "source.gguf";
  std::filesystem::path out_ = folder_.path() / "out.gguf";
  std::vector<float> original_;
};

TEST_F(SmallMatrices, AreRefusedWithTheTensorAndWhatHoldsThem) {
  multiply(kSmallMatrix, 0x1p-30F);
  for (const DType type : tensor::all_dtypes()) {
    const auto quantized = quantize(type);
    if (type == DType::f32 || type == DType::bf16 || type == DType::mxfp4) {
      EXPECT_TRUE(quantized) << quantized.error().to_string();
      EXPECT_LT(error(), 0.2) << tensor::info(type).name;
      std::filesystem::remove(out_);
      continue;
    }
    ASSERT_FALSE(quantized) << tensor::info(type).name;
    EXPECT_EQ(quantized.error().code(), base::ErrorCode::corrupt);
    const std::string fault = quantized.error().to_string();
    EXPECT_SAYS(fault, "tensor 'blk.1.ffn_up.weight' holds numbers up to ");
    EXPECT_SAYS(fault, std::string(type == DType::f16 ? "for " : "for the scales of ")
                           .append(tensor::info(type).name)
                           .append(": they would be 100 % off"));
    EXPECT_SAYS(fault, "--tensor 'blk.1.ffn_up.weight=bf16'");
    EXPECT_EQ(folder_.entries(), 1);
  }
  EXPECT_SAYS(quantize(DType::q8_0, {}, true).error().to_string(), "too small for the scales of Q8_0");
  EXPECT_TRUE(quantize(DType::q8_0, {{std::string(kSmallMatrix), DType::bf16}}));
}

// Halved again and again, a matrix loses what it always does until scales run out of bits; it is refused before it
// loses several times as much, and from there on.
TEST_F(SmallMatrices, AreKeptAsWellAsLargeOnes) {
  for (const DType type : {DType::f16, DType::q8_0, DType::q6_k, DType::q5_k, DType::q5_1, DType::q4_k, DType::q4_0,
                           DType::q4_1, DType::iq4_nl, DType::iq4_xs, DType::q3_k, DType::q2_k}) {
    write(kSmallMatrix, original_);
    ASSERT_TRUE(quantize(type));
    const double usual = type == DType::f16 ? 0.003 : error();
    bool refused = false;
    for (int halvings = 2; halvings < 30; halvings += 2) {
      multiply(kSmallMatrix, 0.25F);
      const auto quantized = quantize(type);
      EXPECT_FALSE(refused && quantized) << tensor::info(type).name << " " << halvings;
      refused = !quantized;
      if (quantized) {
        EXPECT_LT(error(), 4 * usual) << tensor::info(type).name << " " << halvings;
      }
      // A sixty-fourth of what models have is no reason.
      if (halvings <= 6) {
        EXPECT_TRUE(quantized) << tensor::info(type).name << " " << halvings;
      }
    }
    EXPECT_TRUE(refused) << tensor::info(type).name;
  }
}

// Neurons that have died and rows that fill up a vocabulary are in many models.
TEST_F(SmallMatrices, InSingleRowsAndZerosAreKept) {
  multiply(kSmallMatrix, 1e-9F, original_.size() / 2);
  multiply("token_embd.weight", 1e-12F, 256 * 20);
  multiply("blk.0.ffn_down.weight", 0);
  for (const DType type : {DType::f16, DType::q8_0, DType::q4_k, DType::q4_0}) {
    const auto quantized = quantize(type);
    EXPECT_TRUE(quantized) << quantized.error().to_string();
  }
}

}  // namespace
}  // namespace tidemill::quantize
