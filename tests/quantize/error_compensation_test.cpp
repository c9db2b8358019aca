// Rounding that makes up for its errors, against rounding that does not.
#include "quantize/error_compensation.hpp"

#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/block_encoders.hpp"

namespace tidemill::quantize {
namespace {

using tensor::DType;

class Numbers {
 public:
  explicit Numbers(uint32_t seed) : random_(seed) {}
  std::vector<float> normal(int64_t n, float sigma = 1) {
    std::normal_distribution<float> distribution(0, sigma);
    std::vector<float> out(static_cast<size_t>(n));
    for (float& value : out)
      value = distribution(random_);
    return out;
  }
  // Rows whose columns go together: sums of a few common causes, and some noise of each column.
  std::vector<float> correlated(int64_t rows, int64_t cols, int64_t causes) {
    const std::vector<float> mix = normal(causes * cols);
    std::vector<float> out = normal(rows * cols, 0.3F);
    for (int64_t r = 0; r < rows; ++r) {
      const std::vector<float> cause = normal(causes);
      for (int64_t k = 0; k < causes; ++k) {
        for (int64_t c = 0; c < cols; ++c)
          out[static_cast<size_t>(r * cols + c)] +=
              cause[static_cast<size_t>(k)] * mix[static_cast<size_t>(k * cols + c)];
      }
    }
    return out;
  }

 private:
  std::mt19937 random_;
};

Compensation compensation_of(Moments moments, std::span<const float> factors = {}, int threads = 1) {
  base::ThreadTeam team(threads);
  auto made = Compensation::create(std::move(moments), factors, 0.01, team, {});
  EXPECT_TRUE(made) << made.error().to_string();
  return std::move(made).value();
}

Moments moments_of(const std::vector<float>& x, int64_t cols, int64_t most = kMostCorrelated, int threads = 1) {
  base::ThreadTeam team(threads);
  Moments moments(cols, most);
  const auto rows = static_cast<int64_t>(x.size()) / cols;
  // In two portions, as a text is read.
  moments.add(x.data(), rows / 3, cols, team);
  moments.add(x.data() + rows / 3 * cols, rows - rows / 3, cols, team);
  EXPECT_EQ(moments.rows(), rows);
  return moments;
}

std::vector<std::byte> rounded(const Compensation& compensation, DType type, std::vector<float> weights) {
  const int64_t rows = static_cast<int64_t>(weights.size()) / compensation.cols();
  std::vector<std::byte> out(static_cast<size_t>(rows * tensor::row_bytes(type, compensation.cols())));
  compensation.round(type, weights.data(), rows, out.data());
  return out;
}

// Of the outputs, squared, summed over inputs and rows: what compensation is to make small.
double output_error(DType type, const std::vector<std::byte>& encoded, const std::vector<float>& weights,
                    const std::vector<float>& x, int64_t cols) {
  std::vector<float> values(weights.size());
  tensor::dequantize(type, encoded.data(), static_cast<int64_t>(weights.size()), values.data());
  double sum = 0;
  const auto n = static_cast<size_t>(cols);
  for (size_t w = 0; w < weights.size(); w += n) {
    for (size_t r = 0; r < x.size(); r += n) {
      double off = 0;
      for (size_t c = 0; c < n; ++c)
        off += (static_cast<double>(values[w + c]) - weights[w + c]) * x[r + c];
      sum += off * off;
    }
  }
  return sum;
}

constexpr DType kFewBits[] = {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,   DType::q2_k,   DType::q3_k,
                              DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl, DType::iq4_xs, DType::mxfp4};

TEST(Compensation, LowersTheErrorOfOutputs) {
  constexpr int64_t cols = 512;
  Numbers numbers(3);
  const std::vector<float> x = numbers.correlated(1024, cols, 12);
  const Compensation compensation = compensation_of(moments_of(x, cols));
  const std::vector<float> weights = numbers.normal(8 * cols);
  const std::vector<float> judged(x.begin(), x.begin() + 128 * cols);
  for (const DType type : kFewBits) {
    std::vector<std::byte> plain(static_cast<size_t>(8 * tensor::row_bytes(type, cols)));
    const tensor::DTypeInfo& info = tensor::info(type);
    for (int64_t at = 0; at < 8 * cols; at += info.block_elements)
      tensor::encode_block(type, weights.data() + at, plain.data() + at / info.block_elements * info.block_bytes);
    const double before = output_error(type, plain, weights, judged, cols);
    const double after = output_error(type, rounded(compensation, type, weights), weights, judged, cols);
    EXPECT_LT(after, 0.8 * before) << info.name;
  }
}

// Inputs that never go together leave nothing to make up for.
TEST(Compensation, IsPlainRoundingOfUncorrelatedInputs) {
  constexpr int64_t cols = 256;
  std::vector<float> x(cols * cols, 0);
  for (size_t i = 0; i < cols; ++i)
    x[i * cols + i] = 16;  // second moments of 1
  const Compensation compensation = compensation_of(moments_of(x, cols));
  Numbers numbers(4);
  const std::vector<float> weights = numbers.normal(3 * cols);
  const std::vector<float> importance(cols, static_cast<float>(1.0 + 0.01 * 1.0));
  for (const DType type : kFewBits) {
    const tensor::DTypeInfo& info = tensor::info(type);
    std::vector<std::byte> plain(static_cast<size_t>(3 * tensor::row_bytes(type, cols)));
    for (int64_t at = 0; at < 3 * cols; at += info.block_elements) {
      tensor::encode_block(type, weights.data() + at, importance.data() + at % cols,
                           plain.data() + at / info.block_elements * info.block_bytes);
    }
    EXPECT_EQ(rounded(compensation, type, weights), plain) << info.name;
  }
}

TEST(Compensation, StretchesAreApart) {
  constexpr int64_t cols = 512;
  Numbers numbers(5);
  const std::vector<float> x = numbers.correlated(600, cols, 8);
  const std::vector<float> weights = numbers.normal(2 * cols);
  const auto whole = rounded(compensation_of(moments_of(x, cols, 256)), DType::q4_k, weights);
  // Each half by itself.
  for (int64_t half = 0; half < 2; ++half) {
    std::vector<float> inputs;
    std::vector<float> columns;
    for (size_t r = 0; r < 600; ++r)
      inputs.insert(inputs.end(), x.begin() + static_cast<int64_t>(r) * cols + half * 256,
                    x.begin() + static_cast<int64_t>(r) * cols + half * 256 + 256);
    for (int64_t r = 0; r < 2; ++r)
      columns.insert(columns.end(), weights.begin() + r * cols + half * 256,
                     weights.begin() + r * cols + half * 256 + 256);
    const auto alone = rounded(compensation_of(moments_of(inputs, 256)), DType::q4_k, columns);
    const int64_t bytes = tensor::row_bytes(DType::q4_k, 256);
    for (int64_t r = 0; r < 2; ++r) {
      EXPECT_TRUE(std::equal(alone.begin() + r * bytes, alone.begin() + (r + 1) * bytes,
                             whole.begin() + (2 * r + half) * bytes))
          << r << " " << half;
    }
  }
}

TEST(Compensation, ThreadsAndRowsTogetherDoNotMatter) {
  constexpr int64_t cols = 256;
  Numbers numbers(6);
  const std::vector<float> x = numbers.correlated(300, cols, 8);
  const std::vector<float> weights = numbers.normal(20 * cols);
  const auto one = rounded(compensation_of(moments_of(x, cols)), DType::q4_0, weights);
  const Compensation two = compensation_of(moments_of(x, cols, kMostCorrelated, 2), {}, 2);
  EXPECT_EQ(rounded(two, DType::q4_0, weights), one);
  const auto row_bytes = tensor::row_bytes(DType::q4_0, cols);
  for (int64_t r = 0; r < 20; ++r) {
    const auto row = rounded(two, DType::q4_0, {weights.begin() + r * cols, weights.begin() + (r + 1) * cols});
    EXPECT_TRUE(std::equal(row.begin(), row.end(), one.begin() + r * row_bytes)) << r;
  }
}

TEST(Compensation, TakesInputsThatAreDivided) {
  constexpr int64_t cols = 256;
  Numbers numbers(7);
  std::vector<float> x = numbers.correlated(300, cols, 8);
  std::vector<float> factors(cols);
  for (size_t c = 0; c < cols; ++c)
    factors[c] = std::ldexp(1.0F, static_cast<int>(c % 5) - 2);
  const Compensation divided = compensation_of(moments_of(x, cols), factors);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] /= factors[i % cols];
  const Compensation plain = compensation_of(moments_of(x, cols));
  const std::vector<float> weights = numbers.normal(4 * cols);
  EXPECT_EQ(rounded(divided, DType::q4_0, weights), rounded(plain, DType::q4_0, weights));
}

TEST(Compensation, InputsThatWereNeverThereAreNoTrouble) {
  constexpr int64_t cols = 64;
  const Compensation none = compensation_of(Moments(cols));
  Numbers numbers(8);
  const std::vector<float> weights = numbers.normal(cols);
  std::vector<float> values(cols);
  tensor::dequantize(DType::q4_0, rounded(none, DType::q4_0, weights).data(), cols, values.data());
  for (size_t c = 0; c < cols; ++c)
    EXPECT_NEAR(values[c], weights[c], 0.4);
  // Half of the channels silent, and fewer rows than channels.
  std::vector<float> x = numbers.normal(10 * cols);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] *= i % 2 == 0 ? 1 : 0;
  tensor::dequantize(DType::q4_0, rounded(compensation_of(moments_of(x, cols)), DType::q4_0, weights).data(), cols,
                     values.data());
  for (const float value : values)
    EXPECT_TRUE(std::isfinite(value));
}

TEST(Compensation, EndsWhenTold) {
  base::ThreadTeam team(1);
  const auto made = Compensation::create(Moments(256), {}, 0.01, team, [] { return true; });
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), base::ErrorCode::cancelled);
}

}  // namespace
}  // namespace tidemill::quantize
