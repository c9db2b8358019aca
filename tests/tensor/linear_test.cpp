// linear() and embed(): the scalar kernels against plain double arithmetic, every other instruction set against the
// scalar kernels bit for bit.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <string>

#include <gtest/gtest.h>

#include "tensor/bf16_oracle.hpp"
#include "tensor/cpu_device.hpp"
#include "tensor/kernels.hpp"
#include "tensor/packed_layout.hpp"
#include "tensor/packed_weight.hpp"
#include "tensor/samples.hpp"

namespace tidemill::tensor {
namespace {

using test::matrix;
using test::runnable_isas;
using test::same_bits;
using test::Samples;

std::unique_ptr<Weight> load(Device& device, DType type, int64_t rows, int64_t cols,
                             const std::vector<std::byte>& source) {
  auto weight = device.load_weight(type, rows, cols, source);
  EXPECT_TRUE(weight) << weight.error().to_string();
  return std::move(*weight);
}

std::vector<float> linear(Device& device, const Weight& w, const std::vector<float>& bias, const std::vector<float>& x,
                          int64_t n) {
  std::vector<float> y(static_cast<size_t>(n * w.rows()), -77.0F);
  const std::array products = {Product{&w, bias, matrix(y, n, w.rows())}};
  device.linear(products, matrix(x, n, w.cols()));
  return y;
}

::testing::AssertionResult same(const std::vector<float>& a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (!same_bits(a[i], b[i])) {
      return ::testing::AssertionFailure() << "element " << i << ": " << a[i] << " against " << b[i];
    }
  }
  return ::testing::AssertionSuccess();
}

class LinearOf : public ::testing::TestWithParam<DType> {
 protected:
  DType type() const { return GetParam(); }
  int64_t multiple() const { return info(type()).block_elements; }
  // What an instruction set must give, which is what the scalar kernels give, or the oracle where it multiplies bf16.
  std::vector<float> wanted(Isa isa, const std::vector<float>& scalar, const std::vector<std::byte>& source,
                            int64_t rows, int64_t cols, const std::vector<float>& bias, const std::vector<float>& x,
                            int64_t n) const {
    if (!test::rounds_activations(isa, type())) return scalar;
    return test::Bf16Oracle(isa, type()).linear(source, rows, cols, bias, x, n);
  }
};

TEST_P(LinearOf, ScalarIsCloseToDoubleArithmetic) {
  Samples samples(11);
  auto device = make_cpu_device(Isa::scalar, 1);
  for (const int64_t cols : {256, 512, 1024}) {
    const int64_t rows = 33;
    const int64_t n = 3;
    const std::vector<std::byte> source = samples.weights(type(), rows, cols);
    const std::vector<float> x = samples.normal(n * cols);
    const std::vector<float> bias = samples.normal(rows);
    const auto w = load(*device, type(), rows, cols, source);
    const std::vector<float> y = linear(*device, *w, bias, x, n);
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t o = 0; o < rows; ++o) {
      dequantize(type(), source.data() + o * row_bytes(type(), cols), cols, row.data());
      for (int64_t r = 0; r < n; ++r) {
        double exact = bias[o];
        double magnitude = std::fabs(bias[o]);
        double rounding = 0;  // half a step of the activation codes, group by group
        const PanelLayout layout = panel_layout(type());
        const int64_t group = layout.quantized ? layout.activation_group : cols;
        for (int64_t g = 0; g < cols; g += group) {
          float largest = 0;
          double weights = 0;
          for (int64_t k = g; k < std::min(cols, g + group); ++k) {
            largest = std::max(largest, std::fabs(x[r * cols + k]));
            weights += std::fabs(row[k]);
            exact += static_cast<double>(row[k]) * x[r * cols + k];
            magnitude += std::fabs(static_cast<double>(row[k]) * x[r * cols + k]);
          }
          if (multiple() > 1) rounding += weights * largest / (layout.wide ? 254 * 256 : 254);
        }
        // The floats' own rounding: a few units per operation of a chain of cols / 2 at most; K-quants add and subtract
        // terms a few times larger than the weights.
        const double bound = rounding * 1.001 + magnitude * 4 * static_cast<double>(cols) * 0x1p-24;
        ASSERT_NEAR(y[r * rows + o], exact, bound) << "row " << r << ", output " << o << ", cols " << cols;
      }
    }
  }
}

TEST_P(LinearOf, EveryInstructionSetGivesTheBitsOfTheScalarKernels) {
  Samples samples(12);
  auto scalar = make_cpu_device(Isa::scalar, 2);
  for (const int64_t rows : {1, 15, 16, 17, 100}) {
    for (const int64_t cols : {32, 64, 96, 256, 512, 1024}) {
      if (cols % multiple() != 0) continue;
      const auto source =
          rows == 17 ? samples.hostile_weights(type(), rows, cols) : samples.weights(type(), rows, cols);
      const std::vector<float> bias = rows % 2 == 0 ? std::vector<float>() : samples.normal(rows);
      const auto reference = load(*scalar, type(), rows, cols, source);
      for (const int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33}) {
        if (n > 9 && cols > 256 && rows > 17) continue;  // the scalar kernels are slow
        std::vector<float> x = samples.normal(n * cols);
        for (int64_t k = 0; k < cols; ++k)
          x[k] *= std::ldexp(1.0F, samples.below(20) - 10);
        const std::vector<float> expected = linear(*scalar, *reference, bias, x, n);
        for (const Isa isa : runnable_isas()) {
          const std::vector<float> right = wanted(isa, expected, source, rows, cols, bias, x, n);
          for (const int threads : {1, 2, 3}) {
            if (threads > 1 && n != 17 && n != 1) continue;
            auto device = make_cpu_device(isa, threads);
            const auto w = load(*device, type(), rows, cols, source);
            ASSERT_TRUE(same(linear(*device, *w, bias, x, n), right))
                << to_string(isa) << " " << rows << " x " << cols << ", n = " << n << ", threads " << threads;
          }
        }
      }
    }
  }
}

// Types without blocks, whose rows may have any width.
class PlainLinearOf : public LinearOf {};

TEST_P(PlainLinearOf, OddWidths) {
  ASSERT_EQ(multiple(), 1);
  Samples samples(13);
  auto scalar = make_cpu_device(Isa::scalar, 1);
  for (const int64_t cols : {1, 2, 3, 31, 65}) {
    const auto source = samples.weights(type(), 18, cols);
    const auto reference = load(*scalar, type(), 18, cols, source);
    const std::vector<float> x = samples.normal(5 * cols);
    const std::vector<float> expected = linear(*scalar, *reference, {}, x, 5);
    for (const Isa isa : runnable_isas()) {
      auto device = make_cpu_device(isa, 1);
      const auto w = load(*device, type(), 18, cols, source);
      EXPECT_TRUE(same(linear(*device, *w, {}, x, 5), wanted(isa, expected, source, 18, cols, {}, x, 5)))
          << to_string(isa) << " " << cols;
    }
  }
}

TEST_P(LinearOf, ExtremeActivations) {
  Samples samples(14);
  const int64_t cols = 256;
  const int64_t rows = 20;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const auto source = samples.weights(type(), rows, cols);
  std::vector<std::vector<float>> inputs;
  for (const float value : {0.0F, -0.0F, 1e-45F, 1e-39F, 0x1p-100F, 0x1.fp-101F, 1e30F, 3.4e38F}) {
    inputs.emplace_back(cols, value);
    inputs.push_back(samples.normal(cols));
    inputs.back()[40] = value;
  }
  for (const float value : {nan, -nan, inf, -inf}) {
    inputs.push_back(samples.normal(cols));
    inputs.back()[255] = value;
    inputs.emplace_back(cols, value);
  }
  auto scalar = make_cpu_device(Isa::scalar, 1);
  const auto reference = load(*scalar, type(), rows, cols, source);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::vector<float> expected = linear(*scalar, *reference, {}, inputs[i], 1);
    if (i >= 16) {
      EXPECT_FALSE(std::isfinite(expected[0])) << "a bad activation must show in the output";
    }
    for (const Isa isa : runnable_isas()) {
      auto device = make_cpu_device(isa, 1);
      const auto w = load(*device, type(), rows, cols, source);
      EXPECT_TRUE(
          same(linear(*device, *w, {}, inputs[i], 1), wanted(isa, expected, source, rows, cols, {}, inputs[i], 1)))
          << to_string(isa) << " input " << i;
    }
  }
}

// Nothing may saturate or wrap: all codes of the weights alike, at either end, and all activations at their limits.
class QuantizedLinearOf : public LinearOf {};
TEST_P(QuantizedLinearOf, CodesAtTheirLimits) {
  const int64_t rows = 40;
  const int64_t cols = 512;
  const int64_t n = 13;
  auto scalar = make_cpu_device(Isa::scalar, 1);
  for (const int byte : {0x00, 0x7f, 0x80, 0xff}) {
    std::vector<std::byte> source(static_cast<size_t>(rows * row_bytes(type(), cols)), static_cast<std::byte>(byte));
    const int64_t size = info(type()).block_bytes;
    for (int64_t at = 0; at < static_cast<int64_t>(source.size()); at += size) {
      for (const int64_t place : test::binary16_places(type()))
        source[static_cast<size_t>(at + place)] = source[static_cast<size_t>(at + place + 1)] = std::byte{0x3c};
      if (type() == DType::mxfp4) source[static_cast<size_t>(at)] = std::byte{0x80};
    }
    const auto reference = load(*scalar, type(), rows, cols, source);
    for (const int period : {0, 1, 2, 3}) {
      std::vector<float> x(static_cast<size_t>(n * cols));
      for (size_t i = 0; i < x.size(); ++i)
        x[i] = period == 0 || (i >> (period - 1)) % 2 == 0 ? 1.0F : -1.0F;
      const std::vector<float> expected = linear(*scalar, *reference, {}, x, n);
      for (const Isa isa : runnable_isas()) {
        auto device = make_cpu_device(isa, 1);
        const auto w = load(*device, type(), rows, cols, source);
        EXPECT_TRUE(same(linear(*device, *w, {}, x, n), expected))
            << to_string(isa) << ", bytes " << byte << ", period " << period;
      }
    }
  }
}

TEST_P(LinearOf, ARowDoesNotDependOnItsNeighbours) {
  Samples samples(15);
  const int64_t rows = 48;
  const int64_t cols = 512;
  const auto source = samples.weights(type(), rows, cols);
  for (const Isa isa : runnable_isas()) {
    auto device = make_cpu_device(isa, 2);
    const auto w = load(*device, type(), rows, cols, source);
    const std::vector<float> x = samples.normal(17 * cols);
    const std::vector<float> all = linear(*device, *w, {}, x, 17);
    for (int64_t r = 0; r < 17; ++r) {
      const std::vector<float> one(x.begin() + r * cols, x.begin() + (r + 1) * cols);
      const std::vector<float> alone = linear(*device, *w, {}, one, 1);
      EXPECT_TRUE(same(alone, {all.begin() + r * rows, all.begin() + (r + 1) * rows}))
          << to_string(isa) << " row " << r;
    }
  }
}

TEST_P(LinearOf, StridedViewsLeaveTheirNeighboursAlone) {
  Samples samples(16);
  const int64_t rows = 19;
  const int64_t cols = 256;
  const auto source = samples.weights(type(), rows, cols);
  for (const Isa isa : runnable_isas()) {
    auto device = make_cpu_device(isa, 1);
    const auto w = load(*device, type(), rows, cols, source);
    const std::vector<float> x = samples.normal(5 * (cols + 3));
    std::vector<float> y(5 * (rows + 2), 99.0F);
    const std::array products = {Product{w.get(), {}, {y.data(), 5, rows, rows + 2}}};
    device->linear(products, ConstMatrix{x.data(), 5, cols, cols + 3});
    for (int64_t r = 0; r < 5; ++r) {
      const std::vector<float> one(x.begin() + r * (cols + 3), x.begin() + r * (cols + 3) + cols);
      EXPECT_TRUE(
          same(linear(*device, *w, {}, one, 1), {y.begin() + r * (rows + 2), y.begin() + r * (rows + 2) + rows}));
      EXPECT_EQ(y[r * (rows + 2) + rows], 99.0F);
      EXPECT_EQ(y[r * (rows + 2) + rows + 1], 99.0F);
    }
  }
}

TEST_P(LinearOf, EmbedGivesTheRowsExactly) {
  Samples samples(17);
  const int64_t rows = 37;
  const int64_t cols = multiple() == 1 ? 70 : multiple() * 3;
  const auto source = samples.hostile_weights(type(), rows, cols);
  auto device = make_cpu_device(available_isas().back(), 2);
  const auto table = load(*device, type(), rows, cols, source);
  const std::vector<int32_t> tokens = {0, 36, 15, 16, 17, 31, 32, 5, 5};
  std::vector<float> out(tokens.size() * static_cast<size_t>(cols));
  device->embed(*table, tokens, matrix(out, static_cast<int64_t>(tokens.size()), cols));
  std::vector<float> expected(static_cast<size_t>(cols));
  for (size_t i = 0; i < tokens.size(); ++i) {
    dequantize(type(), source.data() + tokens[i] * row_bytes(type(), cols), cols, expected.data());
    const auto at = out.begin() + static_cast<int64_t>(i) * cols;
    EXPECT_TRUE(same({at, at + cols}, expected)) << "token " << tokens[i];
  }
}

INSTANTIATE_TEST_SUITE_P(Types, LinearOf, ::testing::ValuesIn(all_dtypes().begin(), all_dtypes().end()),
                         [](const auto& type_of) { return std::string(tensor::info(type_of.param).name); });
INSTANTIATE_TEST_SUITE_P(Types, QuantizedLinearOf,
                         ::testing::Values(DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q2_k,
                                           DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl,
                                           DType::iq4_xs, DType::mxfp4),
                         [](const auto& type_of) { return std::string(tensor::info(type_of.param).name); });
INSTANTIATE_TEST_SUITE_P(Types, PlainLinearOf, ::testing::Values(DType::f32, DType::f16, DType::bf16),
                         [](const auto& type_of) { return std::string(tensor::info(type_of.param).name); });

// The oracle itself, and with it what the rounding costs: at most 2^-8 of each product, next to the sum's own rounding.
TEST(RoundedLinear, IsCloseToDoubleArithmetic) {
  Samples samples(20);
  const int64_t rows = 20;
  const int64_t cols = 512;
  for (const auto& [isa, type] :
       {std::pair{Isa::avx512_bf16, DType::bf16}, {Isa::amx, DType::bf16}, {Isa::amx, DType::f16}}) {
    const auto source = samples.weights(type, rows, cols);
    const std::vector<float> x = samples.normal(cols);
    const std::vector<float> y = test::Bf16Oracle(isa, type).linear(source, rows, cols, {}, x, 1);
    std::vector<float> w(static_cast<size_t>(cols));
    for (int64_t o = 0; o < rows; ++o) {
      dequantize(type, source.data() + o * row_bytes(type, cols), cols, w.data());
      double exact = 0;
      double magnitude = 0;
      for (int64_t k = 0; k < cols; ++k) {
        exact += static_cast<double>(w[k]) * x[k];
        magnitude += std::fabs(static_cast<double>(w[k]) * x[k]);
      }
      EXPECT_NEAR(y[o], exact, magnitude * (0x1p-9 + 4.0 * cols * 0x1p-24)) << to_string(isa) << " " << info(type).name;
    }
  }
}

// Finite numbers, however large or small, never make a NaN, nor an infinity where the sum is small.
TEST(RoundedLinear, FiniteActivationsStayFinite) {
  const int64_t cols = 96;
  for (const Isa isa : runnable_isas()) {
    for (const DType type : {DType::bf16, DType::f16}) {
      std::vector<float> values(static_cast<size_t>(cols), 0.0F);
      values[7] = 0x1p-10F;
      std::vector<std::byte> source(static_cast<size_t>(row_bytes(type, cols)));
      quantize(type, values.data(), cols, source.data());
      auto device = make_cpu_device(isa, 1);
      const auto w = load(*device, type, 1, cols, source);
      for (const float x : {std::numeric_limits<float>::max(), -std::numeric_limits<float>::max(), 1e-45F, 0.0F}) {
        const std::vector<float> y = linear(*device, *w, {}, std::vector<float>(static_cast<size_t>(cols), x), 1);
        EXPECT_TRUE(std::isfinite(y[0])) << to_string(isa) << " " << info(type).name << " " << x;
      }
    }
  }
}

// A whole call of many rows on tiles, and that tiles were used at all.
TEST(Amx, TakesManyRowsToTiles) {
  const std::vector<Isa> isas = runnable_isas();
  if (isas.back() != Isa::amx) GTEST_SKIP() << "no AVX-512 VNNI here, which the AMX kernels use too";
  if (available_isas().back() == Isa::amx) GTEST_SKIP() << "this machine has AMX: nothing is emulated";
  Samples samples(18);
  const int64_t rows = 40;
  const int64_t cols = 512;
  auto amx = make_cpu_device(Isa::amx, 1);
  auto scalar = make_cpu_device(Isa::scalar, 1);
  for (const auto& [type, multiplications] : {std::pair{DType::q8_0, 2},
                                              {DType::q4_0, 1},
                                              {DType::q4_1, 1},
                                              {DType::q5_0, 1},
                                              {DType::q5_1, 1},
                                              {DType::q4_k, 1},
                                              {DType::q5_k, 1},
                                              {DType::iq4_nl, 1},
                                              {DType::iq4_xs, 1},
                                              {DType::mxfp4, 1}}) {
    const auto source = samples.weights(type, rows, cols);
    const auto w = load(*amx, type, rows, cols, source);
    const auto reference = load(*scalar, type, rows, cols, source);
    for (const int64_t n : {11, 12, 33}) {
      const std::vector<float> x = samples.normal(n * cols);
      const long before = test::AmxEmulator::instructions();
      const std::vector<float> y = linear(*amx, *w, {}, x, n);
      const long emulated = test::AmxEmulator::instructions() - before;
      // Two stretches by two panels of outputs and a half by tiles of 16 rows by blocks of 32, each at least zeroed,
      // loaded, multiplied and stored.
      const int64_t tiles = n >= 12 ? 3 * ((n + 15) / 16) : 0;
      EXPECT_EQ(emulated > 0, tiles > 0);
      EXPECT_GE(emulated, tiles * multiplications * 4 * (cols / 32));
      EXPECT_TRUE(same(y, linear(*scalar, *reference, {}, x, n))) << info(type).name << " " << n;
    }
  }
}

// Without this the comparisons above could compare the scalar kernels with themselves.
TEST(CpuDevice, RunsTheInstructionSetItWasAskedFor) {
  for (const Isa isa : runnable_isas()) {
    EXPECT_EQ(kernels_for(isa).isa, isa);
    for (const Isa other : runnable_isas()) {
      if (other == isa) continue;
      const auto bf16 = static_cast<size_t>(DType::bf16);  // which no two multiply alike
      EXPECT_NE(kernels_for(isa).linear[bf16], kernels_for(other).linear[bf16]);
    }
    EXPECT_EQ(make_cpu_device(isa, 1)->description(), "CPU " + std::string(to_string(isa)) + ", 1 thread");
  }
}

TEST(LoadWeight, RefusesWhatDoesNotFit) {
  auto device = make_cpu_device(Isa::scalar, 1);
  std::vector<std::byte> source(34 * 4);
  EXPECT_TRUE(device->load_weight(DType::q8_0, 4, 32, source));
  EXPECT_FALSE(device->load_weight(DType::q8_0, 4, 31, source));
  EXPECT_FALSE(device->load_weight(DType::q8_0, 5, 32, source));
  EXPECT_FALSE(device->load_weight(DType::q8_0, 0, 32, {}));
  EXPECT_FALSE(device->load_weight(DType::f32, -1, 32, source));
  EXPECT_FALSE(device->load_weight(DType::f32, int64_t{1} << 62, 32, source));
  EXPECT_FALSE(device->load_weight(DType::f32, 1, int64_t{1} << 62, source));
}

// Each as it would be alone, in memory that lasts as long as one of them.
TEST(LoadWeight, SeveralLieTogether) {
  auto device = make_cpu_device(Isa::scalar, 3);
  constexpr int64_t count = 5;
  for (const int64_t rows : {1, 16, 37}) {
    const auto each = static_cast<size_t>(rows * row_bytes(DType::q8_0, 64));
    std::vector<std::byte> source(each * count);
    for (size_t i = 0; i < source.size(); ++i)
      source[i] = static_cast<std::byte>(i * 31 % 251);
    auto weights = device->load_weights(DType::q8_0, count, rows, 64, source);
    ASSERT_TRUE(weights) << weights.error().to_string();
    ASSERT_EQ(weights->size(), size_t{count});
    const auto panels = [](const Weight& weight) { return static_cast<const PackedWeight&>(weight).data(); };
    for (size_t i = 1; i < weights->size(); ++i)
      EXPECT_EQ(panels(*(*weights)[i]).data(), panels(*(*weights)[i - 1]).data() + panels(*(*weights)[i - 1]).size());
    for (size_t i = 0; i < size_t{count}; ++i) {
      const auto alone = device->load_weight(DType::q8_0, rows, 64, std::span(source).subspan(i * each, each));
      ASSERT_TRUE(alone) << alone.error().to_string();
      EXPECT_TRUE(std::ranges::equal(panels(*(*weights)[i]), panels(**alone))) << rows << " rows, matrix " << i;
      EXPECT_EQ((*weights)[i]->bytes(), (*alone)->bytes());
      (*weights)[i].reset();
    }
  }
  std::vector<std::byte> source(34 * 4);
  EXPECT_TRUE(device->load_weights(DType::q8_0, 2, 2, 32, source));
  EXPECT_FALSE(device->load_weights(DType::q8_0, 3, 1, 32, source));
  EXPECT_FALSE(device->load_weights(DType::q8_0, 2, 4, 32, source));
}

// Behind every stretch of panels, from the source's beginning, and nothing of it is read afterwards: what was released
// is gone here.
TEST(LoadWeight, ReleasesItsSourceAsItReadsIt) {
  auto device = make_cpu_device(Isa::scalar, 2);
  constexpr int64_t cols = 4096;
  for (const auto& [count, rows] : {std::pair<int64_t, int64_t>{1, 2053}, {7, 301}, {1, 1}}) {
    std::vector<std::byte> source(static_cast<size_t>(count * rows * row_bytes(DType::f16, cols)));
    for (size_t i = 0; i < source.size(); ++i)
      source[i] = static_cast<std::byte>(i * 31 % 251);
    const std::vector<std::byte> whole = source;
    std::vector<size_t> ends;
    const auto forget = [&](std::span<const std::byte> read) {
      EXPECT_EQ(read.data(), source.data());
      std::fill_n(source.begin(), read.size(), std::byte{0xff});
      ends.push_back(read.size());
    };
    const auto weights = device->load_weights(DType::f16, count, rows, cols, source, forget);
    const auto expected = device->load_weights(DType::f16, count, rows, cols, whole);
    ASSERT_TRUE(weights && expected);
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      EXPECT_TRUE(std::ranges::equal(static_cast<const PackedWeight&>(*(*weights)[i]).data(),
                                     static_cast<const PackedWeight&>(*(*expected)[i]).data()));
    }
    ASSERT_FALSE(ends.empty());
    EXPECT_EQ(ends.back(), source.size());
    size_t before = 0;
    for (const size_t end : ends) {
      EXPECT_GT(end, before);
      EXPECT_LE(end - before, size_t{4} << 20);
      before = end;
    }
  }
}

TEST(Linear, NoRowsIsNoWork) {
  auto device = make_cpu_device(available_isas().back(), 2);
  const std::vector<std::byte> source(34 * 4);
  const auto w = load(*device, DType::q8_0, 4, 32, source);
  const std::array products = {Product{w.get(), {}, {nullptr, 0, 4, 4}}};
  device->linear(products, ConstMatrix{nullptr, 0, 32, 32});
}

}  // namespace
}  // namespace tidemill::tensor
