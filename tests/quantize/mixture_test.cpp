// Types for a budget of bits: kept to, spent, and with what was asked for left alone.
#include "quantize/mixture.hpp"

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "data.hpp"
#include "model/gguf.hpp"
#include "quantize/expected_error.hpp"
#include "tensor/packed_weight.hpp"

namespace tidemill::quantize {
namespace {

using base::ErrorCode;
using model::Checkpoint;
using model::GgufTensor;
using tensor::DType;

class MixtureOfTypes : public testing::Test {
 protected:
  void SetUp() override {
    CalibrationOptions options;
    options.isa = tensor::choose_isa().value();
    options.influences = true;
    auto made =
        Calibration::create(file_, "import os\n\n\ndef area(width, height):\n    return width * height\n", options);
    ASSERT_TRUE(made) << made.error().to_string();
    calibration_ = std::move(*made);
  }
  // Bits a weight in memory, with rules as they are.
  double bits(std::vector<TensorRule> mixed, const std::vector<TensorRule>& rules) const {
    mixed.insert(mixed.end(), rules.begin(), rules.end());
    const std::vector<DType> types = plan_types(file_, DType::f32, mixed).value();
    size_t bytes = 0;
    int64_t elements = 0;
    for (size_t i = 0; i < types.size(); ++i) {
      const GgufTensor& tensor = file_.tensors()[i];
      if (!is_matrix(tensor)) continue;
      bytes += tensor::PackedWeight::packed_bytes(types[i], tensor.rows(), tensor.cols()).value();
      elements += tensor.elements();
    }
    return 8 * static_cast<double>(bytes) / static_cast<double>(elements);
  }

  // A sixth of the weights are the output matrix's, so that fewer bits there save the most at once. But what errs there
  // errs in the logits: in four bits it costs some ten times what all gates together do.
  static void expect_output_spared(const Mixture& mixture) {
    int gates = 0;
    for (const TensorRule& rule : mixture.rules) {
      if (rule.pattern == "token_embd.weight") {
        EXPECT_EQ(rule.type, DType::q8_0);
      }
      if (rule.pattern.ends_with(".ffn_gate.weight") && rule.type != DType::q8_0) ++gates;
    }
    EXPECT_GE(gates, 4);
  }

  Checkpoint file_ = Checkpoint::open(test::nano_coder()).value();
  std::unique_ptr<Calibration> calibration_;
};

TEST_F(MixtureOfTypes, KeepsToItsBitsAndSpendsThem) {
  for (const double budget : {8.5, 8.32, 7.0, 5.5, 4.7}) {
    size_t last = 0;
    const auto mixture = plan_mixture(file_, *calibration_, {}, {.bits = budget}, {}, [&](size_t done, size_t total) {
      EXPECT_GE(done, last);
      EXPECT_EQ(total, file_.tensors().size());
      last = done;
    });
    ASSERT_TRUE(mixture) << mixture.error().to_string();
    EXPECT_EQ(last, file_.tensors().size());
    EXPECT_LE(mixture->bits, budget);
    // Within what the smallest matrices take more in the next type. All in Q8_0 is the most that there is.
    EXPECT_GT(mixture->bits, std::min(budget, 8.5) - 0.1);
    EXPECT_NEAR(mixture->bits, bits(mixture->rules, {}), 1e-9);
    EXPECT_EQ(mixture->rules.size(), 43U);
    std::set<std::string> names;
    for (const TensorRule& rule : mixture->rules)
      names.insert(rule.pattern);
    EXPECT_EQ(names.size(), 43U);
    for (const TensorRule& rule : mixture->rules) {
      EXPECT_TRUE(rule.type != DType::q5_0 || file_.find_tensor(rule.pattern)->cols() % 256 != 0) << rule.pattern;
    }
    if (budget == 8.5) {
      for (const TensorRule& rule : mixture->rules)
        EXPECT_EQ(rule.type, DType::q8_0);
    }
    if (budget == 7.0) {
      expect_output_spared(*mixture);
      EXPECT_TRUE(std::any_of(mixture->rules.begin(), mixture->rules.end(),
                              [](const TensorRule& rule) { return rule.type == DType::q6_k; }));
    }
  }
}

TEST_F(MixtureOfTypes, LeavesAloneWhatIsAskedFor) {
  const std::vector<TensorRule> rules = {{"token_embd.weight", DType::q8_0}, {"*.attn_v.weight", DType::f16}};
  const auto mixture = plan_mixture(file_, *calibration_, rules, {.bits = 6}, {});
  ASSERT_TRUE(mixture) << mixture.error().to_string();
  EXPECT_EQ(mixture->rules.size(), 43U - 1 - 6);
  EXPECT_LE(bits(mixture->rules, rules), 6);
}

TEST_F(MixtureOfTypes, SaysHowFewBitsThereCanBe) {
  const auto few = plan_mixture(file_, *calibration_, {}, {.bits = 2}, {});
  ASSERT_FALSE(few);
  EXPECT_EQ(few.error().code(), ErrorCode::invalid_argument);
  EXPECT_NE(few.error().to_string().find("2 bits a weight are too few: the smallest types that fit take 3.6"),
            std::string::npos)
      << few.error().to_string();
  const auto cancelled = plan_mixture(file_, *calibration_, {}, {.bits = 6}, [] { return true; });
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code(), ErrorCode::cancelled);
}

TEST_F(MixtureOfTypes, ErrorsGrowAsBitsGetFewer) {
  const GgufTensor& tensor = *file_.find_tensor("blk.2.ffn_down.weight");
  const InputStatistics& input = *calibration_->input_of(tensor.name);
  model::TensorRows reader(file_);
  std::vector<float> peaks(768, 0);
  const SampledRows sample = sample_rows(reader, tensor, peaks).value();
  EXPECT_EQ(sample.rows, 256);
  EXPECT_EQ(sample.sampled, 128U);
  EXPECT_GT(*std::max_element(peaks.begin(), peaks.end()), 0);
  EXPECT_EQ(expected_error(sample, DType::f32, input, {}), 0);
  double last = 0;
  for (const DType type : {DType::q8_0, DType::q6_k, DType::q5_k, DType::q4_k, DType::q3_k, DType::q2_k}) {
    const double error = expected_error(sample, type, input, {});
    EXPECT_GT(error, last) << tensor::info(type).name;
    EXPECT_LT(error, output_power(sample, input)) << tensor::info(type).name;
    last = error;
  }
}

}  // namespace
}  // namespace tidemill::quantize
