// Gradients that were derived by hand, against differences of the loss.
#include "distill/torch/network.hpp"

#include <ATen/Parallel.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "distill/random.hpp"
#include "distill/torch/optimizer.hpp"

namespace tidemill::distill {
namespace {

constexpr int64_t kVocabulary = 23;
constexpr int64_t kKept = 3;

StudentPlan plan() {
  StudentPlan plan;
  plan.shape = {32, 2, 4, 2, 32};
  plan.vocabulary = kVocabulary;
  plan.window = 7;
  return plan;
}

void fill(const at::Tensor& tensor, uint64_t seed, double middle, double spread) {
  auto* values = tensor.data_ptr<float>();
  for (int64_t i = 0; i < tensor.numel(); ++i)
    values[i] = static_cast<float>(middle + spread * (drawn_share(seed, static_cast<uint64_t>(i), 0) - 0.5));
}

class Gradients : public testing::Test {
 protected:
  void SetUp() override {
    at::set_num_threads(1);
    uint64_t seed = 1;
    for (const at::Tensor& tensor : weights_.all())
      fill(tensor, seed++, tensor.dim() == 1 ? 1 : 0, tensor.dim() == 1 ? 0.5 : 0.8);
    for (uint64_t i = 0; i < tokens_.size(); ++i) {
      tokens_[i] = static_cast<int32_t>(drawn(50, i, 0) % kVocabulary);
      next_[i] = static_cast<int32_t>(drawn(50, i, 1) % kVocabulary);
      for (uint64_t k = 0; k < kKept; ++k) {
        // The next token is among those that the teacher expects in some rows, and in others not.
        expected_[i * kKept + k] = static_cast<int32_t>((drawn(50, i, 2) + 5 * k) % kVocabulary);
        probabilities_[i * kKept + k] = k == 0 ? 0.6F : 0.15F;
      }
    }
  }
  Exercise exercise(bool taught) const {
    return {.windows = 2,
            .length = 5,
            .tokens = tokens_,
            .next = next_,
            .kept = taught ? kKept : 0,
            .expected = taught ? std::span<const int32_t>(expected_) : std::span<const int32_t>(),
            .probabilities = taught ? std::span<const float>(probabilities_) : std::span<const float>()};
  }
  // What a step makes smaller: the mean over rows.
  double loss(bool taught) const {
    const Score score = network_.run(weights_, exercise(taught), 10, nullptr);
    const double hard = taught ? plan().hard_share : 1;
    return (hard * score.nats + (1 - hard) * score.divergence) / static_cast<double>(score.rows);
  }
  // Along a random direction in each tensor by itself.
  void expect_gradients(bool taught) {
    NetworkTensors gradients = NetworkTensors::zeros(plan().shape, kVocabulary);
    network_.run(weights_, exercise(taught), 10, &gradients);
    const std::vector<at::Tensor> weights = weights_.all();
    const std::vector<at::Tensor> found = gradients.all();
    constexpr double small = 4e-3;
    for (size_t i = 0; i < weights.size(); ++i) {
      const at::Tensor direction = at::ones(weights[i].sizes());
      fill(direction, 900 + i, 0, 2);
      const double expected = found[i].mul(direction).sum(at::kDouble).item<double>();
      const at::Tensor kept = weights[i].clone();
      weights[i].add_(direction, small);
      const double above = loss(taught);
      weights[i].copy_(kept).add_(direction, -small);
      const double below = loss(taught);
      weights[i].copy_(kept);
      EXPECT_NEAR((above - below) / (2 * small), expected, 0.02 * std::abs(expected) + 2e-3) << "tensor " << i;
    }
  }

  Network network_{plan()};
  NetworkTensors weights_ = NetworkTensors::zeros(plan().shape, kVocabulary);
  std::vector<int32_t> tokens_ = std::vector<int32_t>(10);
  std::vector<int32_t> next_ = std::vector<int32_t>(10);
  std::vector<int32_t> expected_ = std::vector<int32_t>(10 * kKept);
  std::vector<float> probabilities_ = std::vector<float>(10 * kKept);
};

TEST_F(Gradients, OfTheTextsNextTokens) {
  expect_gradients(false);
}

TEST_F(Gradients, OfWhatATeacherExpects) {
  expect_gradients(true);
}

TEST_F(Gradients, AreAddedToThoseThatAreThere) {
  NetworkTensors once = NetworkTensors::zeros(plan().shape, kVocabulary);
  NetworkTensors twice = NetworkTensors::zeros(plan().shape, kVocabulary);
  network_.run(weights_, exercise(true), 10, &once);
  network_.run(weights_, exercise(true), 10, &twice);
  network_.run(weights_, exercise(true), 10, &twice);
  EXPECT_LT(twice.embedding.sub(once.embedding, 2).abs().max().item<float>(), 1e-5F);
  EXPECT_GT(once.embedding.abs().max().item<float>(), 1e-3F);
}

// A row sees nothing that comes after it: another next token costs it the same more or less, whether its window goes on
// or not.
TEST_F(Gradients, ComeFromThePastAlone) {
  const auto nats = [&](size_t rows) {
    Exercise part = exercise(false);
    part.windows = 1;
    part.length = static_cast<int64_t>(rows);
    part.tokens = part.tokens.first(rows);
    part.next = part.next.first(rows);
    return network_.run(weights_, part, 1, nullptr).nats;
  };
  for (size_t row = 0; row < 4; ++row) {
    const double short_before = nats(row + 1);
    const double long_before = nats(5);
    next_[row] = (next_[row] + 7) % kVocabulary;
    const double change = nats(row + 1) - short_before;
    EXPECT_GT(std::abs(change), 1e-3) << row;
    EXPECT_NEAR(nats(5) - long_before, change, 1e-5) << row;
  }
}

TEST(Muon, MakesMatricesOrthogonal) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{32, 32}, {24, 96}, {96, 24}}) {
    const at::Tensor matrix = at::ones({rows, cols});
    fill(matrix, 5, 0, 1);
    const at::Tensor found = orthogonal(matrix, Precision::f32);
    ASSERT_EQ(found.sizes(), matrix.sizes());
    const at::Tensor product = rows < cols ? at::mm(found, found.t()) : at::mm(found.t(), found);
    // Singular values of about one: their squares' sum is about their number, and none is far off.
    const auto count = static_cast<double>(std::min(rows, cols));
    EXPECT_NEAR(product.trace().item<double>() / count, 1, 0.5);
    EXPECT_LT(product.norm().item<double>(), 1.5 * std::sqrt(count));
  }
}

}  // namespace
}  // namespace tidemill::distill
