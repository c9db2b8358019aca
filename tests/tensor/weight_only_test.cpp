// linear() with F32 activations (ActivationScheme::f32): the bits of an F32 matrix of the weights' values, by the
// scalar kernels on one thread, whatever the type, the shape, the instruction set and the number of threads.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/cpu_device.hpp"
#include "tensor/kernels.hpp"
#include "tensor/packed_weight.hpp"
#include "tensor/samples.hpp"

namespace tidemill::tensor {
namespace {

using test::matrix;
using test::runnable_isas;
using test::same_bits;
using test::Samples;

std::unique_ptr<Device> weight_only_device(Isa isa, int threads) {
  return make_cpu_device(isa, threads, ActivationScheme::f32);
}

// A matrix in GGUF order, and its values.
struct Quantized {
  DType type;
  int64_t rows;
  int64_t cols;
  std::vector<std::byte> bytes;

  std::unique_ptr<Weight> on(Device& device) const { return device.load_weight(type, rows, cols, bytes).value(); }
  std::unique_ptr<Weight> values_on(Device& device) const {
    std::vector<float> values(static_cast<size_t>(rows * cols));
    dequantize(type, bytes.data(), rows * cols, values.data());
    return device.load_weight(DType::f32, rows, cols, std::as_bytes(std::span(values))).value();
  }
};

// Rows of x may lie apart; what lies between them is no number, nor is what lies between the rows of y touched.
struct RowsApart {
  static constexpr int64_t kGap = 5;

  RowsApart(const std::vector<float>& x, int64_t n, int64_t cols)
      : data(static_cast<size_t>(n * (cols + kGap)), std::numeric_limits<float>::quiet_NaN()),
        view{data.data(), n, cols, cols + kGap} {
    for (int64_t r = 0; r < n; ++r)
      std::copy_n(x.data() + r * cols, cols, data.data() + r * (cols + kGap));
  }

  std::vector<float> data;
  ConstMatrix view;
};

std::vector<float> product(Device& device, const Weight& w, const std::vector<float>& bias, ConstMatrix x) {
  constexpr int64_t gap = 3;
  const int64_t stride = w.rows() + gap;
  std::vector<float> y(static_cast<size_t>(x.rows * stride), -77.0F);
  const std::array products = {Product{&w, bias, {y.data(), x.rows, w.rows(), stride}}};
  device.linear(products, x);
  std::vector<float> out;
  for (int64_t r = 0; r < x.rows; ++r) {
    out.insert(out.end(), y.begin() + r * stride, y.begin() + r * stride + w.rows());
    EXPECT_EQ(std::count(y.begin() + r * stride + w.rows(), y.begin() + (r + 1) * stride, -77.0F), gap);
  }
  return out;
}

::testing::AssertionResult alike(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return ::testing::AssertionFailure() << a.size() << " against " << b.size();
  for (size_t i = 0; i < a.size(); ++i) {
    if (!same_bits(a[i], b[i])) {
      return ::testing::AssertionFailure() << "element " << i << ": " << a[i] << " against " << b[i];
    }
  }
  return ::testing::AssertionSuccess();
}

class WeightOnlyOf : public ::testing::TestWithParam<DType> {
 protected:
  DType type() const { return GetParam(); }
};

TEST_P(WeightOnlyOf, GivesTheBitsOfTheValuesInF32) {
  Samples samples(91);
  auto scalar = make_cpu_device(Isa::scalar, 1);
  for (const int64_t rows : {1, 16, 17, 50}) {
    // One block and a few: those of 32 end within a step of 64 or 128.
    for (const int64_t cols : {32, 64, 96, 160, 256, 288, 512, 1312, 1536}) {
      if (cols % info(type()).block_elements != 0) continue;
      const Quantized w{type(), rows, cols,
                        rows == 17 ? samples.hostile_weights(type(), rows, cols) : samples.weights(type(), rows, cols)};
      const std::vector<float> bias = rows % 2 == 0 ? std::vector<float>() : samples.normal(rows);
      const auto plain = w.values_on(*scalar);
      for (const int64_t n : {1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 35}) {
        if (n > 8 && cols > 512 && rows > 17) continue;  // the scalar kernels are slow
        std::vector<float> values = samples.normal(n * cols);
        for (int64_t k = 0; k < cols; ++k)
          values[k] *= std::ldexp(1.0F, samples.below(20) - 10);
        const RowsApart x(values, n, cols);
        const std::vector<float> expected = product(*scalar, *plain, bias, x.view);
        for (const Isa isa : runnable_isas()) {
          for (const int threads : {1, 2, 3}) {
            if (threads > 1 && n != 1 && n != 13) continue;
            auto device = weight_only_device(isa, threads);
            ASSERT_TRUE(alike(product(*device, *w.on(*device), bias, x.view), expected))
                << to_string(isa) << " " << rows << " x " << cols << ", n = " << n << ", threads " << threads;
          }
        }
      }
    }
  }
}

// More rows than one call of a kernel has.
TEST_P(WeightOnlyOf, ManyRows) {
  Samples samples(92);
  const int64_t cols = 512;
  const int64_t n = kMostLinearRows + 9;
  auto scalar = make_cpu_device(Isa::scalar, 1);
  const Quantized w{type(), 20, cols, samples.weights(type(), 20, cols)};
  const RowsApart x(samples.normal(n * cols), n, cols);
  const std::vector<float> expected = product(*scalar, *w.values_on(*scalar), {}, x.view);
  for (const Isa isa : runnable_isas()) {
    auto device = weight_only_device(isa, 2);
    EXPECT_TRUE(alike(product(*device, *w.on(*device), {}, x.view), expected)) << to_string(isa);
  }
}

// Activations that are no numbers, or at the ends of their range, are as good as others: nothing has a scale.
TEST_P(WeightOnlyOf, ExtremeActivations) {
  Samples samples(93);
  const int64_t cols = 256;
  const int64_t rows = 20;
  auto scalar = make_cpu_device(Isa::scalar, 1);
  const Quantized w{type(), rows, cols, samples.hostile_weights(type(), rows, cols)};
  const auto plain = w.values_on(*scalar);
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (const float value : {0.0F, -0.0F, 1e-45F, -1e-39F, 1e30F, 3.4e38F, inf, -inf, std::nanf("")}) {
    for (const int64_t n : {1, 3, 8}) {
      std::vector<float> values = samples.normal(n * cols);
      values[40] = value;
      std::fill(values.end() - cols, values.end(), value);
      const RowsApart x(values, n, cols);
      const std::vector<float> expected = product(*scalar, *plain, {}, x.view);
      for (const Isa isa : runnable_isas()) {
        auto device = weight_only_device(isa, 1);
        EXPECT_TRUE(alike(product(*device, *w.on(*device), {}, x.view), expected))
            << to_string(isa) << " " << value << ", n = " << n;
      }
    }
  }
}

// All codes, with the smallest and the largest scales there are.
TEST_P(WeightOnlyOf, ScalesAtTheirLimits) {
  const int64_t rows = 18;
  const int64_t cols = 512;
  const int64_t n = 7;
  Samples samples(94);
  auto scalar = make_cpu_device(Isa::scalar, 1);
  for (const auto& [high, low] : {std::pair{0x00, 0x01}, {0x03, 0xff}, {0x7b, 0xff}, {0xfb, 0xff}, {0x80, 0x01}}) {
    Quantized w{type(), rows, cols, samples.hostile_weights(type(), rows, cols)};
    const int64_t size = info(type()).block_bytes;
    for (int64_t at = 0; at < static_cast<int64_t>(w.bytes.size()); at += size) {
      for (const int64_t place : test::binary16_places(type())) {
        w.bytes[static_cast<size_t>(at + place)] = static_cast<std::byte>(low);
        w.bytes[static_cast<size_t>(at + place + 1)] = static_cast<std::byte>(high);
      }
      // Exponents of E8M0: of subnormal floats, and up to where products would be infinite.
      if (type() == DType::mxfp4) w.bytes[static_cast<size_t>(at)] = static_cast<std::byte>(high < 4 ? low & 3 : 0xfa);
    }
    const RowsApart x(samples.normal(n * cols), n, cols);
    const std::vector<float> expected = product(*scalar, *w.values_on(*scalar), {}, x.view);
    for (const Isa isa : runnable_isas()) {
      auto device = weight_only_device(isa, 1);
      const auto loaded = w.on(*device);
      EXPECT_TRUE(alike(product(*device, *loaded, {}, x.view), expected)) << to_string(isa) << " scale " << high;
      const std::vector<float> first(expected.begin(), expected.begin() + rows);
      EXPECT_TRUE(alike(product(*device, *loaded, {}, {x.view.data, 1, cols, cols}), first)) << to_string(isa);
    }
  }
}

// Norms and gates on the way, several matrices of different types, and products of one input each.
TEST_P(WeightOnlyOf, EveryOperationThatMultipliesWeights) {
  Samples samples(95);
  const int64_t cols = 768;
  auto plain = make_cpu_device(available_isas().back(), 1);
  for (const int64_t n : {1, 2, 19}) {
    const std::vector<float> x = samples.normal(n * cols);
    const std::vector<float> up = samples.normal(n * cols);
    const std::vector<float> norm = samples.normal(cols);
    const std::array<Quantized, 3> matrices = {Quantized{type(), 33, cols, samples.weights(type(), 33, cols)},
                                               Quantized{DType::q8_0, 16, cols, samples.weights(DType::q8_0, 16, cols)},
                                               Quantized{type(), 50, cols, samples.weights(type(), 50, cols)}};
    const auto run = [&](Device& device, bool values, const LinearInput& input) {
      std::vector<std::unique_ptr<Weight>> weights;
      std::vector<std::vector<float>> out;
      std::vector<Product> products;
      for (const Quantized& each : matrices) {
        weights.push_back(values ? each.values_on(device) : each.on(device));
        out.emplace_back(static_cast<size_t>(n * each.rows));
        products.push_back({weights.back().get(), {}, matrix(out.back(), n, each.rows)});
      }
      device.linear(products, input);
      return out;
    };
    for (const LinearInput& input :
         {LinearInput(matrix(x, n, cols)), LinearInput(RmsNormed{matrix(x, n, cols), norm, 1e-5F}),
          LinearInput(Gated{Activation::silu, matrix(x, n, cols), matrix(up, n, cols)})}) {
      const auto expected = run(*plain, true, input);
      for (const Isa isa : runnable_isas()) {
        for (const int threads : {1, 3}) {
          auto device = weight_only_device(isa, threads);
          const auto found = run(*device, false, input);
          for (size_t i = 0; i < found.size(); ++i)
            EXPECT_TRUE(alike(found[i], expected[i])) << to_string(isa) << " input " << input.index() << ", n = " << n;
        }
      }
    }
    // Of so many products each is one thread's.
    const RowsApart apart(x, n, cols);
    for (const Isa isa : runnable_isas()) {
      auto device = weight_only_device(isa, 2);
      const auto w = matrices[0].on(*device);
      const std::vector<float> alone = product(*device, *w, {}, apart.view);
      std::vector<std::vector<float>> out(8, std::vector<float>(alone.size()));
      std::vector<Product> products;
      for (std::vector<float>& y : out)
        products.push_back({w.get(), {}, matrix(y, n, w->rows())});
      device->linear_each(products, std::vector<ConstMatrix>(out.size(), apart.view));
      for (const std::vector<float>& y : out)
        EXPECT_TRUE(alike(y, alone)) << to_string(isa);
    }
  }
}

// Panels that were packed ahead are multiplied where they lie, and take what they take with quantised activations.
TEST_P(WeightOnlyOf, TakesPanelsAsTheyAre) {
  Samples samples(96);
  const int64_t cols = 512;
  const std::vector<float> values = samples.normal(3 * cols);
  const ConstMatrix x = matrix(values, 3, cols);
  const Quantized w{type(), 40, cols, samples.weights(type(), 40, cols)};
  auto dynamic = make_cpu_device(available_isas().back(), 1);
  auto floats = weight_only_device(available_isas().back(), 1);
  const auto packed = w.on(*dynamic);
  const std::span<const std::byte> panels = static_cast<const PackedWeight&>(*packed).data();
  const auto mapped = floats->load_panels(type(), 40, cols, panels, std::nullopt);
  ASSERT_TRUE(mapped) << mapped.error().to_string();
  const auto own = w.on(*floats);
  EXPECT_EQ(own->bytes(), packed->bytes());
  EXPECT_TRUE(std::ranges::equal(static_cast<const PackedWeight&>(*own).data(), panels));
  EXPECT_TRUE(alike(product(*floats, **mapped, {}, x), product(*floats, *own, {}, x)));
}

INSTANTIATE_TEST_SUITE_P(Types, WeightOnlyOf, ::testing::ValuesIn(all_dtypes().begin(), all_dtypes().end()),
                         [](const auto& type_of) { return std::string(tensor::info(type_of.param).name); });

// Else the comparisons above could be of dynamic arithmetic with itself.
TEST(WeightOnly, IsNotTheDynamicArithmetic) {
  Samples samples(97);
  const std::vector<float> values = samples.normal(256);
  const ConstMatrix x = matrix(values, 1, 256);
  for (const Isa isa : runnable_isas()) {
    auto dynamic = make_cpu_device(isa, 1);
    auto floats = weight_only_device(isa, 1);
    for (const DType type : test::block_types()) {
      const Quantized w{type, 16, 256, samples.weights(type, 16, 256)};
      EXPECT_FALSE(alike(product(*dynamic, *w.on(*dynamic), {}, x), product(*floats, *w.on(*floats), {}, x)))
          << to_string(isa) << " " << info(type).name;
    }
    EXPECT_EQ(dynamic->activations(), ActivationScheme::dynamic);
    EXPECT_EQ(floats->activations(), ActivationScheme::f32);
    EXPECT_EQ(floats->description(), "CPU " + std::string(to_string(isa)) + ", 1 thread, F32 activations");
  }
}

TEST(WeightOnly, SchemesHaveWords) {
  EXPECT_EQ(parse_activation_scheme("dynamic"), ActivationScheme::dynamic);
  EXPECT_EQ(parse_activation_scheme("f32"), ActivationScheme::f32);
  EXPECT_EQ(parse_activation_scheme("F32"), std::nullopt);
  EXPECT_EQ(to_string(ActivationScheme::f32), "f32");
}

}  // namespace
}  // namespace tidemill::tensor
