// Experts of a mixture, each multiplied with all rows that chose it, against each row's experts one after another by
// the scalar kernels: the same bits, however rows share experts and places are cut into batches.
#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tensor/cpu_device.hpp"
#include "tensor/expert_runner.hpp"
#include "tensor/samples.hpp"

namespace tidemill::tensor {
namespace {

using test::matrix;
using test::runnable_isas;
using test::same_bits;
using test::Samples;

constexpr int64_t kExperts = 7;
constexpr int64_t kUsed = 3;

struct MixtureSource {
  struct One {
    DType type;
    int64_t rows;
    int64_t cols;
    std::vector<std::byte> bytes;
    std::vector<float> bias;
  };

  std::array<std::vector<One>, kExperts> experts;  // gate, up, down
  std::vector<float> x;
  std::vector<int32_t> chosen;
  std::vector<float> weights;
  std::vector<float> before;  // what is added to
  int64_t rows;
  int64_t width;

  // Every row chooses expert 2, none expert 5.
  MixtureSource(DType type, DType down, int64_t rows, int64_t width, int64_t inner, bool biased, uint32_t seed)
      : rows(rows), width(width) {
    Samples samples(seed);
    const auto one = [&](DType t, int64_t outputs, int64_t inputs) {
      return One{t, outputs, inputs, samples.weights(t, outputs, inputs),
                 biased ? samples.normal(outputs) : std::vector<float>{}};
    };
    for (std::vector<One>& expert : experts)
      expert = {one(type, inner, width), one(type, inner, width), one(down, width, inner)};
    x = samples.normal(rows * width);
    before = samples.normal(rows * width);
    weights = samples.normal(rows * kUsed);
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<int32_t> others = {0, 1, 3, 4, 6};
      std::shuffle(others.begin(), others.end(), samples.random());
      std::vector<int32_t> of_row = {others[0], 2, others[1]};
      std::shuffle(of_row.begin(), of_row.end(), samples.random());
      chosen.insert(chosen.end(), of_row.begin(), of_row.end());
    }
  }
};

// A source's weights on a device.
class LoadedExperts {
 public:
  LoadedExperts(Device& device, const MixtureSource& source) {
    for (const std::vector<MixtureSource::One>& expert : source.experts) {
      std::array<ExpertMatrices::One, 3> parts;
      for (size_t i = 0; i < parts.size(); ++i) {
        const MixtureSource::One& one = expert[i];
        weights_.push_back(device.load_weight(one.type, one.rows, one.cols, one.bytes).value());
        parts[i] = {weights_.back().get(), one.bias};
      }
      matrices_.push_back({parts[0], parts[1], parts[2]});
    }
  }
  const std::vector<ExpertMatrices>& matrices() const { return matrices_; }

 private:
  std::vector<std::unique_ptr<Weight>> weights_;
  std::vector<ExpertMatrices> matrices_;
};

std::vector<float> one_after_another(Device& device, const MixtureSource& source, Activation activation) {
  const LoadedExperts loaded(device, source);
  std::vector<float> out = source.before;
  const int64_t inner = loaded.matrices()[0].gate.weight->rows();
  std::vector<float> gate(static_cast<size_t>(inner));
  std::vector<float> up(gate.size());
  std::vector<float> given(static_cast<size_t>(source.width));
  for (int64_t r = 0; r < source.rows; ++r) {
    std::array<int64_t, kUsed> choices;
    std::iota(choices.begin(), choices.end(), r * kUsed);
    std::ranges::sort(choices, {}, [&](int64_t i) { return source.chosen[static_cast<size_t>(i)]; });
    for (const int64_t i : choices) {
      const ExpertMatrices& expert = loaded.matrices()[static_cast<size_t>(source.chosen[static_cast<size_t>(i)])];
      const auto multiply = [&](const ExpertMatrices::One& one, std::vector<float>& y, const LinearInput& input) {
        const std::array product = {Product{one.weight, one.bias, matrix(y, 1, one.weight->rows())}};
        device.linear(product, input);
      };
      const ConstMatrix row{source.x.data() + r * source.width, 1, source.width, source.width};
      multiply(expert.gate, gate, row);
      multiply(expert.up, up, row);
      multiply(expert.down, given, Gated{activation, matrix(gate, 1, inner), matrix(up, 1, inner)});
      for (int64_t k = 0; k < source.width; ++k) {
        float& sum = out[static_cast<size_t>(r * source.width + k)];
        sum = sum + given[static_cast<size_t>(k)] * source.weights[static_cast<size_t>(i)];
      }
    }
  }
  return out;
}

void expect_bits(const std::vector<float>& found, const std::vector<float>& wanted, const std::string& where) {
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < found.size(); ++i)
    ASSERT_TRUE(same_bits(found[i], wanted[i])) << where << ", element " << i << ": " << found[i] << ", " << wanted[i];
}

void compare(const MixtureSource& source, Activation activation, const std::string& name) {
  const auto of_types = [&](const Kernels& kernels) {
    return std::ranges::any_of(source.experts[0], [&](const MixtureSource::One& one) {
      return kernels.rounds[static_cast<size_t>(one.type)];
    });
  };
  const std::vector<float> plain = one_after_another(*make_cpu_device(Isa::scalar, 1), source, activation);
  for (const Isa isa : runnable_isas()) {
    // Those that round the input to bf16 for some of the types have bits of their own.
    const std::vector<float> wanted =
        of_types(kernels_for(isa)) ? one_after_another(*make_cpu_device(isa, 1), source, activation) : plain;
    for (const int threads : {1, 3}) {
      const std::string where = fmt::format("{}, {} rows, {}, threads {}", name, source.rows, to_string(isa), threads);
      auto device = make_cpu_device(isa, threads);
      const LoadedExperts loaded(*device, source);
      const ConstMatrix x{source.x.data(), source.rows, source.width, source.width};
      std::vector<float> out = source.before;
      device->add_experts(loaded.matrices(), activation, x, source.chosen, source.weights,
                          matrix(out, source.rows, source.width));
      expect_bits(out, wanted, where);
      // In small batches: expert 2 has more rows than the least of them when there are 300.
      base::ThreadTeam team(threads);
      ExpertRunner runner(kernels_for(isa), ActivationScheme::dynamic, team, 0);
      out = source.before;
      runner.run(loaded.matrices(), activation, x, source.chosen, source.weights,
                 matrix(out, source.rows, source.width));
      expect_bits(out, wanted, where + ", in batches");
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(Experts, GiveTheBitsOfEachRowAlone) {
  uint32_t seed = 1;
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::mxfp4}) {
    for (const int64_t rows : {1, 2, 19}) {
      compare(MixtureSource(type, type, rows, 96, 160, rows == 2, seed++), Activation::silu,
              std::string(info(type).name));
    }
  }
}

TEST(Experts, MayMixTypes) {
  compare(MixtureSource(DType::q4_k, DType::q6_k, 5, 256, 512, false, 51), Activation::silu, "Q4_K and Q6_K");
  compare(MixtureSource(DType::bf16, DType::q4_k, 3, 256, 256, true, 52), Activation::gelu_tanh, "BF16 and Q4_K");
}

TEST(Experts, MayHaveMoreRowsThanABatch) {
  compare(MixtureSource(DType::q8_0, DType::q4_0, 300, 64, 32, true, 61), Activation::silu_clamped, "Q8_0 and Q4_0");
  compare(MixtureSource(DType::f32, DType::f32, 300, 32, 48, false, 62), Activation::silu, "F32");
}

}  // namespace
}  // namespace tidemill::tensor
