// linear() of several matrices and of inputs made on the way: the same bits as one matrix at a time, by the scalar
// kernels on one thread, of an input that was written out before.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "tensor/cpu_device.hpp"
#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/samples.hpp"

namespace tidemill::tensor {
namespace {

using test::matrix;
using test::runnable_isas;
using test::same_bits;
using test::Samples;

void expect_same(const std::vector<float>& a, const std::vector<float>& b, const std::string& where) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_TRUE(same_bits(a[i], b[i])) << where << ", element " << i << ": " << a[i] << " against " << b[i];
}

struct Source {
  DType type;
  int64_t rows;
  std::vector<std::byte> bytes;
  std::vector<float> bias;
};

// One way of giving the same input.
struct GivenInput {
  std::string name;
  LinearInput input;
  std::vector<float> written;  // the input as plain rows
};

// Matrices of `sources` on a device.
class Matrices {
 public:
  Matrices(Device& device, const std::vector<Source>& sources, int64_t cols) : device_(device), sources_(sources) {
    for (const Source& source : sources) {
      auto weight = device.load_weight(source.type, source.rows, cols, source.bytes);
      EXPECT_TRUE(weight) << weight.error().to_string();
      weights_.push_back(std::move(*weight));
    }
  }

  // Outputs of all matrices in one operation.
  std::vector<std::vector<float>> together(const LinearInput& input, int64_t n) {
    std::vector<std::vector<float>> out = outputs(n);
    std::vector<Product> products;
    for (size_t i = 0; i < weights_.size(); ++i)
      products.push_back({weights_[i].get(), sources_[i].bias, matrix(out[i], n, sources_[i].rows)});
    device_.linear(products, input);
    return out;
  }
  // One by one.
  std::vector<std::vector<float>> apart(ConstMatrix x) {
    std::vector<std::vector<float>> out = outputs(x.rows);
    for (size_t i = 0; i < weights_.size(); ++i) {
      const std::array product = {
          Product{weights_[i].get(), sources_[i].bias, matrix(out[i], x.rows, sources_[i].rows)}};
      device_.linear(product, x);
    }
    return out;
  }

 private:
  std::vector<std::vector<float>> outputs(int64_t n) const {
    std::vector<std::vector<float>> out;
    for (const Source& source : sources_)
      out.emplace_back(static_cast<size_t>(n * source.rows), -77.0F);
    return out;
  }

  Device& device_;
  const std::vector<Source>& sources_;
  std::vector<std::unique_ptr<Weight>> weights_;
};

// Rows of `stride` floats, whose scales differ by up to 2^20.
std::vector<float> rows_of(Samples& samples, int64_t n, int64_t stride) {
  std::vector<float> x = samples.normal(n * stride);
  for (int64_t k = 0; k < n * stride; ++k)
    x[static_cast<size_t>(k)] *= std::ldexp(1.0F, static_cast<int>(k * 7 % 20) - 10);
  return x;
}

void compare_all(const std::vector<DType>& types, int64_t cols, int64_t n, Samples& samples) {
  std::vector<Source> sources;
  for (size_t i = 0; i < types.size(); ++i) {
    const int64_t rows = std::array<int64_t, 3>{50, 16, 33}[i % 3];
    sources.push_back(
        {types[i], rows, samples.weights(types[i], rows, cols), i == 1 ? std::vector<float>{} : samples.normal(rows)});
  }
  const int64_t stride = cols + 3;
  std::vector<float> x = rows_of(samples, n, stride);
  const std::vector<float> up = rows_of(samples, n, stride);
  const std::vector<float> weight = samples.normal(cols);
  const float epsilon = 1e-5F;
  if (n > 2) x[static_cast<size_t>(stride + cols - 1)] = std::numeric_limits<float>::infinity();
  const ConstMatrix view{x.data(), n, cols, stride};
  const ConstMatrix up_view{up.data(), n, cols, stride};

  std::vector<GivenInput> cases;
  cases.push_back({"plain", view, std::vector<float>(static_cast<size_t>(n * cols))});
  cases.push_back({"norm", RmsNormed{view, weight, epsilon}, cases[0].written});
  cases.push_back({"gated", Gated{Activation::silu, view, up_view}, cases[0].written});
  cases.push_back({"gated by GELU", Gated{Activation::gelu_tanh, view, up_view}, cases[0].written});
  cases.push_back({"gated and clamped", Gated{Activation::silu_clamped, view, up_view}, cases[0].written});
  auto scalar = make_cpu_device(Isa::scalar, 1);
  for (int64_t r = 0; r < n; ++r) {
    std::copy_n(view.row(r), cols, cases[0].written.data() + r * cols);
    scalar_kernels().silu_multiply(view.row(r), up_view.row(r), cols, cases[2].written.data() + r * cols);
    scalar_kernels().gelu_multiply(view.row(r), up_view.row(r), cols, cases[3].written.data() + r * cols);
    scalar_kernels().clamped_silu_multiply(view.row(r), up_view.row(r), cols, cases[4].written.data() + r * cols);
  }
  scalar->rms_norm(view, weight, epsilon, matrix(cases[1].written, n, cols));

  for (const Isa isa : runnable_isas()) {
    // Those that round the input to bf16 for some of the types have bits of their own.
    const bool rounds =
        std::ranges::any_of(types, [isa](DType type) { return kernels_for(isa).rounds[static_cast<size_t>(type)]; });
    auto plain = make_cpu_device(rounds ? isa : Isa::scalar, 1);
    for (const GivenInput& input : cases) {
      const auto expected = Matrices(*plain, sources, cols).apart(matrix(input.written, n, cols));
      for (const int threads : {1, 2, 3}) {
        if (isa == Isa::scalar && threads == 2) continue;  // slow
        auto device = make_cpu_device(isa, threads);
        const auto found = Matrices(*device, sources, cols).together(input.input, n);
        for (size_t i = 0; i < found.size(); ++i) {
          expect_same(found[i], expected[i],
                      input.name + " " + std::string(to_string(isa)) + ", " + std::string(info(types[i]).name) +
                          " of " + std::to_string(types.size()) + ", " + std::to_string(n) + " x " +
                          std::to_string(cols) + ", threads " + std::to_string(threads));
          if (::testing::Test::HasFatalFailure()) return;
        }
      }
    }
  }
}

class FusedLinearOf : public ::testing::TestWithParam<DType> {};

// Query, key and value, or gate and up: of one type.
TEST_P(FusedLinearOf, OneTypeGivesTheBitsOfSeparateOperations) {
  Samples samples(71);
  const int64_t block = info(GetParam()).block_elements;
  for (const int64_t n : {1, 2, 16, 17, 35}) {
    for (const int64_t cols : {block == 1 ? 70 : 3 * block, int64_t{2560}}) {
      if (cols > 1000 && n != 1 && n != 17) continue;  // the scalar kernels are slow
      compare_all({GetParam(), GetParam(), GetParam()}, cols, n, samples);
      if (HasFatalFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, FusedLinearOf, ::testing::ValuesIn(all_dtypes().begin(), all_dtypes().end()),
                         [](const auto& type_of) { return std::string(tensor::info(type_of.param).name); });

// As mixed files have them: each type wants the input in another way, plain ones as floats.
TEST(FusedLinear, MixedTypesGiveTheBitsOfSeparateOperations) {
  Samples samples(72);
  for (const int64_t n : {1, 3, 18, 33}) {
    compare_all({DType::q4_k, DType::q6_k, DType::q4_k}, 512, n, samples);
    compare_all({DType::q8_0, DType::f16, DType::q4_0}, 96, n, samples);
    compare_all({DType::f32, DType::q6_k, DType::bf16}, 256, n, samples);
    compare_all({DType::mxfp4, DType::q4_1, DType::iq4_nl}, 96, n, samples);
    compare_all({DType::q5_k, DType::q3_k, DType::iq4_xs}, 512, n, samples);
    compare_all({DType::q4_0, DType::q8_0, DType::q4_k, DType::q6_k, DType::f32}, 2304, 1, samples);
    compare_all({DType::q2_k, DType::mxfp4, DType::q5_1, DType::q5_0}, 2304, 1, samples);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

// What one operation left behind must not show in the next one.
TEST(FusedLinear, OperationsFollowEachOther) {
  Samples samples(73);
  for (const Isa isa : runnable_isas()) {
    auto device = make_cpu_device(isa, 2);
    auto fresh = [isa] { return make_cpu_device(isa, 2); };
    const std::vector<Source> wide = {{DType::q4_0, 40, samples.weights(DType::q4_0, 40, 512), {}},
                                      {DType::f32, 20, samples.weights(DType::f32, 20, 512), {}}};
    const std::vector<Source> narrow = {{DType::q4_0, 40, samples.weights(DType::q4_0, 40, 96), {}}};
    const std::vector<float> x = rows_of(samples, 20, 512);
    const std::vector<float> weight = samples.normal(512);
    const RmsNormed normed{matrix(x, 20, 512), weight, 1e-6F};
    Matrices first(*device, wide, 512);
    Matrices second(*device, narrow, 96);
    for (int round = 0; round < 2; ++round) {
      const auto together = first.together(normed, 20);
      const auto other = second.together(matrix(x, 7, 96), 7);
      auto alone = fresh();
      expect_same(together[0], Matrices(*alone, wide, 512).together(normed, 20)[0], "wide");
      expect_same(other[0], Matrices(*alone, narrow, 96).together(matrix(x, 7, 96), 7)[0], "narrow");
    }
  }
}

}  // namespace
}  // namespace tidemill::tensor
