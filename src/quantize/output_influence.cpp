#include "quantize/output_influence.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "model/tensor_rows.hpp"

namespace tidemill::quantize {

using base::Result;
using model::GgufTensor;

namespace {

// Tokens less likely than this, of which a vocabulary has most, say nothing of how alike the likely ones are.
constexpr double kLeastLikely = 1e-6;

// Logits become probabilities.
void softmax(std::span<float> row, float scale) {
  const float most = *std::max_element(row.begin(), row.end());
  double sum = 0;
  for (float& value : row) {
    value = std::exp((value - most) * scale);
    sum += value;
  }
  for (float& value : row)
    value = static_cast<float>(value / sum);
}

class OutputErrors {
 public:
  OutputErrors(tensor::ConstMatrix states, int64_t tokens, tensor::Device& device)
      : device_(device),
        states_(states),
        cols_(static_cast<size_t>(states.cols)),
        rows_(static_cast<size_t>(states.rows)),
        tokens_(static_cast<size_t>(tokens)),
        likely_(rows_ * tokens_),
        square_(cols_),
        mean_(rows_ * cols_),
        mean_square_(rows_ * cols_) {}

  // The logits of some tokens.
  Result<void> multiply(const model::RowSlice& slice) {
    TM_TRY(const auto weight,
           device_.load_weight(tensor::DType::f32, slice.rows, states_.cols, std::as_bytes(slice.values)));
    const tensor::Matrix logits{likely_.data() + slice.first, states_.rows, slice.rows, static_cast<int64_t>(tokens_)};
    const std::array products = {tensor::Product{weight.get(), {}, logits}};
    device_.linear(products, states_);
    for (size_t i = 0; i < slice.values.size(); ++i)
      square_[i % cols_] += static_cast<double>(slice.values[i]) * slice.values[i];
    return {};
  }

  void predict(float logit_scale) {
    for (size_t row = 0; row < rows_; ++row)
      softmax(std::span(likely_).subspan(row * tokens_, tokens_), logit_scale);
  }

  // The columns of some tokens, weighted by how likely those are.
  Result<void> weigh(const model::RowSlice& slice) {
    for (size_t t = 0; t < static_cast<size_t>(slice.rows); ++t) {
      const float* column = slice.values.data() + t * cols_;
      for (size_t row = 0; row < rows_; ++row) {
        const double p = likely_[row * tokens_ + static_cast<size_t>(slice.first) + t];
        if (p < kLeastLikely) continue;
        for (size_t c = 0; c < cols_; ++c) {
          mean_[row * cols_ + c] += p * column[c];
          mean_square_[row * cols_ + c] += p * column[c] * column[c];
        }
      }
    }
    return {};
  }

  // Variances of the logits' errors, each over a row's likely tokens.
  double ratio() const {
    double of_output = 0;
    double of_input = 0;
    for (size_t row = 0; row < rows_; ++row) {
      const float* state = states_.row(static_cast<int64_t>(row));
      double same = 0;
      for (size_t t = 0; t < tokens_; ++t)
        same += static_cast<double>(likely_[row * tokens_ + t]) * likely_[row * tokens_ + t];
      for (size_t c = 0; c < cols_; ++c) {
        const size_t at = row * cols_ + c;
        const double x = static_cast<double>(state[c]) * state[c];
        of_output += (1 - same) * x * square_[c] / static_cast<double>(tokens_);
        of_input += x * std::max(0.0, mean_square_[at] - mean_[at] * mean_[at]);
      }
    }
    const double ratio = of_output / of_input;
    return std::isfinite(ratio) ? std::max(1.0, ratio) : 1;
  }

 private:
  tensor::Device& device_;
  tensor::ConstMatrix states_;  // [rows_][cols_]
  size_t cols_;
  size_t rows_;
  size_t tokens_;
  std::vector<float> likely_;        // [rows_][tokens_]: logits, then probabilities
  std::vector<double> square_;       // [cols_], sums over all tokens
  std::vector<double> mean_;         // [rows_][cols_]
  std::vector<double> mean_square_;  // [rows_][cols_]
};

}  // namespace

Result<double> output_influence(const model::Checkpoint& source, const GgufTensor& output, tensor::ConstMatrix states,
                                float logit_scale, tensor::Device& device) {
  OutputErrors errors(states, output.rows(), device);
  model::TensorRows reader(source);
  TM_CHECK(reader.read(output, [&](const model::RowSlice& slice) { return errors.multiply(slice); }));
  errors.predict(logit_scale);
  TM_CHECK(reader.read(output, [&](const model::RowSlice& slice) { return errors.weigh(slice); }));
  return errors.ratio();
}

}  // namespace tidemill::quantize
