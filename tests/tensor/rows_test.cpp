// Row-wise operations: against double formulas, and every instruction set against the scalar kernels bit for bit.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include <gtest/gtest.h>

#include "tensor/cpu_device.hpp"
#include "tensor/kernels.hpp"
#include "tensor/samples.hpp"

namespace tidemill::tensor {
namespace {

using test::matrix;
using test::same_bits;
using test::Samples;

void expect_same(const std::vector<float>& a, const std::vector<float>& b, Isa isa) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_TRUE(same_bits(a[i], b[i])) << to_string(isa) << " " << i << ": " << a[i] << " " << b[i];
}

TEST(Exp, IsAccurateAndTheSameEverywhere) {
  std::vector<float> x;
  for (float v = -90; v < 90; v += 0.00371F)
    x.push_back(v);
  const float inf = std::numeric_limits<float>::infinity();
  for (const float v : {0.0F, -0.0F, 1e-45F, -86.0F, -86.00001F, 88.0F, 88.7F, inf, -inf, -3e38F, std::nanf("")})
    x.push_back(v);
  std::vector<float> reference(x.size());
  const auto n = static_cast<int64_t>(x.size());
  scalar_kernels().exp(x.data(), n, reference.data());
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i])) {
      EXPECT_TRUE(std::isnan(reference[i]));
    } else if (x[i] < -86) {
      EXPECT_EQ(reference[i], 0.0F);
    } else {
      const double exact = std::exp(std::min(88.0, static_cast<double>(x[i])));
      ASSERT_NEAR(reference[i] / exact, 1.0, 3e-7) << x[i];
    }
  }
  for (const Isa isa : available_isas()) {
    std::vector<float> out(x.size());
    kernels_for(isa).exp(x.data(), n, out.data());
    expect_same(out, reference, isa);
  }
}

TEST(RmsNorm, MatchesTheFormula) {
  Samples samples(31);
  for (const int64_t n : {1, 5, 15, 16, 17, 64, 100, 2048}) {
    const std::vector<float> x = samples.normal(3 * n, 3.0F);
    const std::vector<float> weight = samples.normal(n);
    std::vector<float> reference(x.size());
    make_cpu_device(Isa::scalar, 1)->rms_norm(matrix(x, 3, n), weight, 1e-5F, matrix(reference, 3, n));
    for (int64_t r = 0; r < 3; ++r) {
      double squares = 0;
      for (int64_t i = 0; i < n; ++i)
        squares += std::pow(x[r * n + i], 2.0);
      for (int64_t i = 0; i < n; ++i) {
        const double exact = x[r * n + i] / std::sqrt(squares / static_cast<double>(n) + 1e-5) * weight[i];
        ASSERT_NEAR(reference[r * n + i], exact, 2e-6 * std::fabs(exact) + 1e-30);
      }
    }
    for (const Isa isa : available_isas()) {
      for (const int threads : {1, 3}) {
        std::vector<float> y = x;  // in place
        make_cpu_device(isa, threads)->rms_norm(matrix(y, 3, n), weight, 1e-5F, matrix(y, 3, n));
        expect_same(y, reference, isa);
      }
    }
  }
}

TEST(LayerNorm, MatchesTheFormula) {
  Samples samples(35);
  for (const int64_t n : {1, 3, 15, 16, 17, 33, 64, 386}) {
    std::vector<float> x = samples.normal(3 * n, 3.0F);
    for (float& v : x)
      v += 100;  // a mean far from zero, as some channels have
    const std::vector<float> weight = samples.normal(n);
    const std::vector<float> bias = samples.normal(n);
    std::vector<float> reference(x.size());
    make_cpu_device(Isa::scalar, 1)->layer_norm(matrix(x, 3, n), weight, bias, 1e-5F, matrix(reference, 3, n));
    for (int64_t r = 0; r < 3; ++r) {
      double sum = 0;
      double squares = 0;
      for (int64_t i = 0; i < n; ++i)
        sum += x[r * n + i];
      const double mean = sum / static_cast<double>(n);
      for (int64_t i = 0; i < n; ++i)
        squares += std::pow(x[r * n + i] - mean, 2.0);
      for (int64_t i = 0; i < n; ++i) {
        const double normed = (x[r * n + i] - mean) / std::sqrt(squares / static_cast<double>(n) + 1e-5);
        ASSERT_NEAR(reference[r * n + i], normed * weight[i] + bias[i], 1e-6 * (1 + std::fabs(normed * weight[i])));
      }
    }
    for (const Isa isa : available_isas()) {
      for (const int threads : {1, 3}) {
        std::vector<float> y = x;  // in place
        make_cpu_device(isa, threads)->layer_norm(matrix(y, 3, n), weight, bias, 1e-5F, matrix(y, 3, n));
        expect_same(y, reference, isa);
      }
    }
  }
}

TEST(Gelu, MatchesTheFormula) {
  std::vector<float> x;
  for (float v = -12; v < 12; v += 0.00137F)
    x.push_back(v);
  const float inf = std::numeric_limits<float>::infinity();
  for (const float v : {0.0F, -0.0F, 1e-30F, -1e-30F, 3e38F, -3e38F, inf, std::nanf("")})
    x.push_back(v);
  x.push_back(-inf);
  x.resize((x.size() + 15) / 16 * 16 + 13, -1.25F);  // with a last vector that is not full
  const auto n = static_cast<int64_t>(x.size());
  std::vector<float> reference = x;
  make_cpu_device(Isa::scalar, 1)->gelu(matrix(reference, 1, n));
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i]) || x[i] == -inf) {
      EXPECT_TRUE(std::isnan(reference[i]));
    } else if (x[i] > 1e30F) {
      EXPECT_EQ(reference[i], x[i]);
    } else {
      const double exact = x[i] * std::erfc(-x[i] * std::sqrt(0.5)) / 2;
      ASSERT_NEAR(reference[i], exact, 5e-7 + 1e-7 * std::fabs(exact)) << x[i];
    }
  }
  for (const Isa isa : available_isas()) {
    for (const int threads : {1, 3}) {
      std::vector<float> y = x;
      make_cpu_device(isa, threads)->gelu(matrix(y, 1, n));
      expect_same(y, reference, isa);
    }
  }
}

// In the plain form these rows would take about as long as an encoder's products (encoder_rows.hpp).
TEST(EncoderRows, HaveVectorForms) {
  for (const Isa isa : available_isas()) {
    if (isa == Isa::scalar) continue;
    EXPECT_NE(kernels_for(isa).layer_norm, scalar_kernels().layer_norm) << to_string(isa);
    EXPECT_NE(kernels_for(isa).gelu, scalar_kernels().gelu) << to_string(isa);
  }
}

TEST(Tanh, MatchesTheFormula) {
  std::vector<float> x;
  for (float v = -24; v < 24; v += 0.00419F)
    x.push_back(v);
  const float inf = std::numeric_limits<float>::infinity();
  for (const float v : {0.0F, -0.0F, 1e-30F, -1e-6F, 3e38F, -3e38F, inf, -inf, std::nanf("")})
    x.push_back(v);
  const auto n = static_cast<int64_t>(x.size());
  std::vector<float> reference = x;
  make_cpu_device(Isa::scalar, 1)->tanh(matrix(reference, 1, n));
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isnan(x[i])) {
      EXPECT_TRUE(std::isnan(reference[i]));
    } else {
      ASSERT_NEAR(reference[i], std::tanh(static_cast<double>(x[i])), 6e-8) << x[i];
      EXPECT_EQ(std::signbit(reference[i]), std::signbit(x[i])) << x[i];
    }
  }
  for (const Isa isa : available_isas()) {
    for (const int threads : {1, 3}) {
      std::vector<float> y = x;
      make_cpu_device(isa, threads)->tanh(matrix(y, 1, n));
      expect_same(y, reference, isa);
    }
  }
}

TEST(SiluMultiply, MatchesTheFormula) {
  Samples samples(32);
  for (const int64_t n : {1, 16, 31, 257}) {
    std::vector<float> gate = samples.normal(n, 10.0F);
    gate[0] = -200.0F;
    gate[static_cast<size_t>(n) - 1] = 200.0F;
    const std::vector<float> up = samples.normal(n);
    std::vector<float> reference = gate;
    scalar_kernels().silu_multiply(gate.data(), up.data(), n, reference.data());
    for (size_t i = 0; i < gate.size(); ++i) {
      const double exact = gate[i] / (1 + std::exp(-static_cast<double>(gate[i]))) * up[i];
      ASSERT_NEAR(reference[i], exact, 1e-6 * std::fabs(exact) + 1e-30) << gate[i];
    }
    gate[0] = std::nanf("");
    scalar_kernels().silu_multiply(gate.data(), up.data(), n, reference.data());
    EXPECT_TRUE(std::isnan(reference[0]));
    for (const Isa isa : available_isas()) {
      std::vector<float> out = gate;
      kernels_for(isa).silu_multiply(out.data(), up.data(), n, out.data());
      expect_same(out, reference, isa);
    }
  }
}

TEST(GeluMultiply, MatchesTheFormula) {
  std::vector<float> gate;
  for (float v = -12; v < 12; v += 0.00371F)
    gate.push_back(v);
  for (const float v : {0.0F, 1e-30F, -1e-6F, -200.0F, 200.0F, 1e15F, -1e15F})
    gate.push_back(v);
  const auto n = static_cast<int64_t>(gate.size());
  Samples samples(36);
  const std::vector<float> up = samples.normal(n);
  std::vector<float> reference(gate.size());
  scalar_kernels().gelu_multiply(gate.data(), up.data(), n, reference.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    const double x = gate[i];
    // x * (1 + tanh(u)) / 2, where 1 + tanh(u) is written so that it keeps its digits for u far below zero.
    const double u = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
    const double exact = x / (1 + std::exp(-2 * u)) * up[i];
    // The exponent of e^(2u) is a float: off by up to 2^-24 of its size.
    ASSERT_NEAR(reference[i], exact, (1e-6 + 6e-7 * std::min(std::fabs(u), 50.0)) * std::fabs(exact) + 1e-20) << x;
  }
  gate[0] = std::nanf("");
  scalar_kernels().gelu_multiply(gate.data(), up.data(), n, reference.data());
  EXPECT_TRUE(std::isnan(reference[0]));
  for (const Isa isa : available_isas()) {
    std::vector<float> out = gate;
    kernels_for(isa).gelu_multiply(out.data(), up.data(), n, out.data());
    expect_same(out, reference, isa);
  }
}

TEST(ClampedSiluMultiply, MatchesTheFormula) {
  std::vector<float> gate;
  for (float v = -60; v < 12; v += 0.0137F)
    gate.push_back(v);
  for (const float v : {0.0F, 1e-30F, -1e-6F, 7.0F, 7.0001F, -200.0F, 200.0F, 1e15F})
    gate.push_back(v);
  const auto n = static_cast<int64_t>(gate.size());
  Samples samples(37);
  std::vector<float> up = samples.normal(n, 5.0F);  // some are beyond the limits
  std::vector<float> reference(gate.size());
  scalar_kernels().clamped_silu_multiply(gate.data(), up.data(), n, reference.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    // As openai/gpt-oss has it (torch/model.py, swiglu).
    const double g = std::min(static_cast<double>(gate[i]), 7.0);
    const double u = std::clamp(static_cast<double>(up[i]), -7.0, 7.0);
    const double gated = g / (1 + std::exp(-1.702 * g));
    const double exact = gated * (u + 1);
    // The exponent and u + 1 are floats: off by some 2^-24 of the exponent's size, and of eight.
    const double bound = (1e-6 + 3e-7 * std::fabs(g)) * std::fabs(exact) + 1e-6 * std::fabs(gated) + 1e-30;
    ASSERT_NEAR(reference[i], exact, bound) << gate[i] << " " << up[i];
  }
  gate[0] = std::nanf("");
  up[1] = std::nanf("");
  scalar_kernels().clamped_silu_multiply(gate.data(), up.data(), n, reference.data());
  EXPECT_TRUE(std::isnan(reference[0]));
  EXPECT_TRUE(std::isnan(reference[1]));
  for (const Isa isa : available_isas()) {
    std::vector<float> out = gate;
    kernels_for(isa).clamped_silu_multiply(out.data(), up.data(), n, out.data());
    expect_same(out, reference, isa);
  }
}

TEST(SoftCap, MatchesTheFormula) {
  std::vector<float> x;
  for (float v = -300; v < 300; v += 0.0919F)
    x.push_back(v);
  const float inf = std::numeric_limits<float>::infinity();
  for (const float v : {0.0F, 1e-30F, -1e-6F, 0.3F, 3e38F, -3e38F, inf, -inf, std::nanf("")})
    x.push_back(v);
  const auto n = static_cast<int64_t>(x.size());
  for (const float cap : {30.0F, 50.0F, 0.7F}) {
    std::vector<float> reference = x;
    make_cpu_device(Isa::scalar, 1)->soft_cap(matrix(reference, 1, n), cap);
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i])) {
        EXPECT_TRUE(std::isnan(reference[i]));
        continue;
      }
      const double exact = cap * std::tanh(static_cast<double>(x[i]) / static_cast<double>(cap));
      ASSERT_NEAR(reference[i], exact, 1e-6 * std::fabs(exact)) << x[i] << " by " << cap;
    }
    for (const Isa isa : available_isas()) {
      std::vector<float> y = x;
      make_cpu_device(isa, 3)->soft_cap(matrix(y, 1, n), cap);
      expect_same(y, reference, isa);
    }
  }
}

TEST(Scale, MultipliesInPlaceAndRespectsStrides) {
  auto device = make_cpu_device(available_isas().back(), 2);
  std::vector<float> x = {1, 2, 100, 3, 4, 100};
  device->scale({x.data(), 2, 2, 3}, 0.5F);
  EXPECT_EQ(x, (std::vector<float>{0.5, 1, 100, 1.5, 2, 100}));
}

TEST(Add, AddsInPlaceAndRespectsStrides) {
  auto device = make_cpu_device(available_isas().back(), 2);
  std::vector<float> x = {1, 2, 100, 3, 4, 100};
  const std::vector<float> y = {10, 20, 30, 40};
  device->add({x.data(), 2, 2, 3}, matrix(y, 2, 2));
  EXPECT_EQ(x, (std::vector<float>{11, 22, 100, 33, 44, 100}));
}

// A softmax over everything, sorted: an expert's place is that of its probability.
TEST(ChooseExperts, MatchesASortedSoftmax) {
  Samples samples(38);
  for (const auto& [experts, used] :
       {std::pair(8, 2), std::pair(60, 4), std::pair(128, 8), std::pair(3, 3), std::pair(1, 1)}) {
    const int64_t rows = 21;
    std::vector<float> logits = samples.normal(rows * experts, 3.0F);
    if (experts > 3) logits[5] = logits[2] = 9;  // of equals, the first
    for (const bool normalised : {true, false}) {
      const ExpertRule rule = {.used = used, .normalised = normalised, .scale = 0.5F};
      std::vector<int32_t> chosen(static_cast<size_t>(rows * used));
      std::vector<float> weights(chosen.size());
      make_cpu_device(Isa::scalar, 1)->choose_experts(matrix(logits, rows, experts), rule, chosen, weights);
      for (int64_t r = 0; r < rows; ++r) {
        std::vector<std::pair<double, int>> shares;
        double all = 0;
        for (int e = 0; e < experts; ++e) {
          shares.emplace_back(-std::exp(static_cast<double>(logits[static_cast<size_t>(r * experts + e)])), e);
          all -= shares.back().first;
        }
        std::sort(shares.begin(), shares.end());
        double in_use = 0;
        for (int i = 0; i < used; ++i)
          in_use -= shares[static_cast<size_t>(i)].first;
        for (int i = 0; i < used; ++i) {
          const auto at = static_cast<size_t>(r * used + i);
          EXPECT_EQ(chosen[at], shares[static_cast<size_t>(i)].second) << "row " << r;
          const double share = -shares[static_cast<size_t>(i)].first / (normalised ? in_use : all);
          EXPECT_NEAR(weights[at], share / 2, 1e-6) << "row " << r;
        }
      }
      for (const Isa isa : available_isas()) {
        std::vector<int32_t> same(chosen.size());
        std::vector<float> out(weights.size());
        make_cpu_device(isa, 3)->choose_experts(matrix(logits, rows, experts), rule, same, out);
        EXPECT_EQ(same, chosen);
        expect_same(out, weights, isa);
      }
    }
  }
}

TEST(Gather, RowsComeInAnyOrder) {
  auto device = make_cpu_device(available_isas().back(), 2);
  const std::vector<float> x = {1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<int32_t> rows = {3, 0, 2};
  std::vector<float> y(6);
  device->gather(matrix(x, 4, 2), rows, matrix(y, 3, 2));
  EXPECT_EQ(y, (std::vector<float>{7, 8, 1, 2, 5, 6}));
}

TEST(AddScaled, EachRowHasItsFactor) {
  auto device = make_cpu_device(available_isas().back(), 2);
  const std::vector<float> y = {7, 8, 1, 2, 5, 6};
  std::vector<float> sum(6, 1.0F);
  device->add_scaled(matrix(sum, 3, 2), matrix(y, 3, 2), std::vector<float>{1, 2, -1});
  EXPECT_EQ(sum, (std::vector<float>{8, 9, 3, 5, -4, -5}));
}

TEST(Sigmoid, MatchesTheFormula) {
  std::vector<float> x;
  for (float v = -95; v < 95; v += 0.113F)
    x.push_back(v);
  x.push_back(std::nanf(""));
  const auto n = static_cast<int64_t>(x.size());
  std::vector<float> reference = x;
  make_cpu_device(Isa::scalar, 1)->sigmoid(matrix(reference, 1, n));
  for (size_t i = 0; i + 1 < x.size(); ++i)
    ASSERT_NEAR(reference[i], 1 / (1 + std::exp(-static_cast<double>(x[i]))), 3e-7) << x[i];
  EXPECT_TRUE(std::isnan(reference.back()));
  for (const Isa isa : available_isas()) {
    std::vector<float> y = x;
    make_cpu_device(isa, 2)->sigmoid(matrix(y, 1, n));
    expect_same(y, reference, isa);
  }
}

TEST(Rope, TurnsBothPairingsByTheAngle) {
  Samples samples(33);
  const int64_t dim = 10;  // eight of them turned
  const int64_t heads = 3;
  Rope rope;
  for (int i = 0; i < 4; ++i)
    rope.frequencies.push_back(std::pow(10000.0, -i / 4.0));
  for (const auto pairing : {Rope::Pairing::adjacent, Rope::Pairing::halves}) {
    rope.pairing = pairing;
    auto device = make_cpu_device(available_isas().back(), 2);
    // Twice with other positions: the kept table must not outlive them.
    for (const std::vector<int32_t>& positions : {std::vector<int32_t>{0, 1, 131071}, std::vector<int32_t>{5, 1, 77}}) {
      const std::vector<float> x = samples.normal(3 * heads * dim);
      std::vector<float> y = x;
      device->rope(rope, positions, dim, matrix(y, 3, heads * dim));
      for (int64_t r = 0; r < 3; ++r) {
        for (int64_t h = 0; h < heads; ++h) {
          const float* from = x.data() + (r * heads + h) * dim;
          const float* to = y.data() + (r * heads + h) * dim;
          for (int64_t i = 0; i < 4; ++i) {
            const int64_t a = pairing == Rope::Pairing::adjacent ? 2 * i : i;
            const int64_t b = pairing == Rope::Pairing::adjacent ? 2 * i + 1 : i + 4;
            const double angle = positions[r] * rope.frequencies[i];
            ASSERT_NEAR(to[a], from[a] * std::cos(angle) - from[b] * std::sin(angle), 1e-6);
            ASSERT_NEAR(to[b], from[a] * std::sin(angle) + from[b] * std::cos(angle), 1e-6);
          }
          EXPECT_EQ(to[8], from[8]);
          EXPECT_EQ(to[9], from[9]);
        }
      }
    }
  }
}

// Two rotations in turn, as models with windows have them, and one that multiplies as well.
TEST(Rope, RotationsMayTakeTurns) {
  Samples samples(37);
  const int64_t dim = 8;
  auto device = make_cpu_device(available_isas().back(), 1);
  std::array<Rope, 3> ropes;
  for (size_t kind = 0; kind < ropes.size(); ++kind) {
    for (int i = 0; i < 4; ++i)
      ropes[kind].frequencies.push_back(std::pow(kind == 0 ? 10000.0 : 500.0, -i / 4.0));
  }
  ropes[2].magnitude = 1.25;
  const std::vector<int32_t> positions = {3, 70};
  for (const size_t kind : {0, 1, 0, 0, 1, 2, 1, 0, 2}) {
    const Rope& rope = ropes[kind];
    const std::vector<float> x = samples.normal(2 * dim);
    std::vector<float> y = x;
    device->rope(rope, positions, dim, matrix(y, 2, dim));
    for (int64_t r = 0; r < 2; ++r) {
      for (int64_t i = 0; i < 4; ++i) {
        const double angle = positions[r] * rope.frequencies[i];
        const double a = x[r * dim + 2 * i];
        const double b = x[r * dim + 2 * i + 1];
        ASSERT_NEAR(y[r * dim + 2 * i], rope.magnitude * (a * std::cos(angle) - b * std::sin(angle)), 2e-6) << kind;
        ASSERT_NEAR(y[r * dim + 2 * i + 1], rope.magnitude * (a * std::sin(angle) + b * std::cos(angle)), 2e-6) << kind;
      }
    }
  }
}

TEST(HalfConversion, IsThatOfTheTypeInEveryInstructionSet) {
  Samples samples(34);
  std::vector<float> x = samples.normal(1000, 1e-3F);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = std::ldexp(x[i], static_cast<int>(i % 50) - 25);
  x[3] = std::nanf("");
  x[4] = 65520.0F;
  for (const Isa isa : available_isas()) {
    for (const int64_t n : {1, 16, 17, 1000}) {
      std::vector<uint16_t> out(static_cast<size_t>(n) + 1, 0x1234);
      kernels_for(isa).f32_to_f16(x.data(), n, out.data());
      for (int64_t i = 0; i < n; ++i)
        ASSERT_EQ(out[i], f32_to_f16(x[i])) << to_string(isa) << " " << x[i];
      EXPECT_EQ(out[static_cast<size_t>(n)], 0x1234);
    }
  }
}

TEST(ChooseIsa, NamesWhatIsOffered) {
  ASSERT_FALSE(available_isas().empty());
  EXPECT_EQ(available_isas().front(), Isa::scalar);
  ::setenv("TIDEMILL_ISA", "scalar", 1);
  const auto scalar = choose_isa();
  ASSERT_TRUE(scalar);
  EXPECT_EQ(*scalar, Isa::scalar);
  ::setenv("TIDEMILL_ISA", "mmx", 1);
  const auto unknown = choose_isa();
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().message().find("scalar"), std::string::npos);
  ::unsetenv("TIDEMILL_ISA");
  EXPECT_EQ(*choose_isa(), available_isas().back());
}

}  // namespace
}  // namespace tidemill::tensor
