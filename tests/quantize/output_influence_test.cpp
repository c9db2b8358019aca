// How much the output matrix's errors matter, against predictions of a plain softmax whose logits do err.
#include "quantize/output_influence.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "model/gguf_writer.hpp"
#include "temporary_folder.hpp"
#include "tensor/cpu_device.hpp"

namespace tidemill::quantize {
namespace {

constexpr int64_t kTokens = 96;
constexpr int64_t kWidth = 32;
constexpr int64_t kStates = 16;

// Tokens in groups of `alike` neighbours, which share most of their row, and states that point at one of them.
struct Predictor {
  std::vector<float> weights;  // [kTokens][kWidth]
  std::vector<float> states;   // [kStates][kWidth]
};

Predictor make_predictor(int64_t alike) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  Predictor made;
  std::vector<float> shared(kWidth);
  for (int64_t token = 0; token < kTokens; ++token) {
    if (token % alike == 0) {
      for (float& x : shared)
        x = normal(random);
    }
    for (const float x : shared)
      made.weights.push_back(alike == 1 ? x : x + 0.3F * normal(random));
  }
  for (int64_t state = 0; state < kStates; ++state) {
    const float* row = made.weights.data() + (state * 5 % kTokens) * kWidth;
    for (int64_t c = 0; c < kWidth; ++c)
      made.states.push_back(0.1F * row[c] + 0.1F * normal(random));
  }
  return made;
}

std::vector<double> log_softmax(const std::vector<double>& logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const double logit : logits)
    sum += std::exp(logit - most);
  std::vector<double> logs;
  for (const double logit : logits)
    logs.push_back(logit - most - std::log(sum));
  return logs;
}

std::vector<double> logits_of(const Predictor& of, const std::vector<double>& state) {
  std::vector<double> logits(kTokens, 0);
  for (size_t token = 0; token < logits.size(); ++token) {
    for (size_t c = 0; c < state.size(); ++c)
      logits[token] += of.weights[token * kWidth + c] * state[c];
  }
  return logits;
}

double divergence(const std::vector<double>& logits, const std::vector<double>& others) {
  const std::vector<double> p = log_softmax(logits);
  const std::vector<double> q = log_softmax(others);
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i)
    sum += std::exp(p[i]) * (p[i] - q[i]);
  return sum;
}

// By drawing errors of a hundredth, of products and of states.
double drawn_ratio(const Predictor& of, double logit_scale) {
  std::mt19937 random(11);
  std::normal_distribution<double> normal;
  std::vector<double> square(kWidth, 0);
  for (size_t i = 0; i < of.weights.size(); ++i)
    square[i % kWidth] += static_cast<double>(of.weights[i]) * of.weights[i] / kTokens;
  double of_products = 0;
  double of_states = 0;
  for (int64_t s = 0; s < kStates; ++s) {
    const std::vector<double> state(of.states.begin() + s * kWidth, of.states.begin() + (s + 1) * kWidth);
    double power = 0;
    for (size_t c = 0; c < state.size(); ++c)
      power += state[c] * state[c] * square[c];
    std::vector<double> logits = logits_of(of, state);
    for (double& logit : logits)
      logit *= logit_scale;
    for (int draw = 0; draw < 400; ++draw) {
      std::vector<double> erring = logits;
      for (double& logit : erring)
        logit += 0.01 * logit_scale * std::sqrt(power) * normal(random);
      of_products += divergence(logits, erring);
      std::vector<double> moved = state;
      for (double& x : moved)
        x += 0.01 * x * normal(random);
      erring = logits_of(of, moved);
      for (double& logit : erring)
        logit *= logit_scale;
      of_states += divergence(logits, erring);
    }
  }
  return of_products / of_states;
}

double found_ratio(const Predictor& of, float logit_scale) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "output.gguf";
  model::GgufWriter writer;
  writer.add_string("general.architecture", "llama");
  const std::array<int64_t, 2> shape = {kWidth, kTokens};
  writer.declare_tensor("output.weight", tensor::DType::f32, shape);
  EXPECT_TRUE(writer.begin(path));
  EXPECT_TRUE(writer.write(std::as_bytes(std::span(of.weights))));
  EXPECT_TRUE(writer.finish());
  const model::Checkpoint file = model::Checkpoint::open(path).value();
  const auto device = tensor::make_cpu_device(tensor::choose_isa().value(), 1);
  const auto found = output_influence(file, *file.find_tensor("output.weight"),
                                      {of.states.data(), kStates, kWidth, kWidth}, logit_scale, *device);
  EXPECT_TRUE(found) << found.error().to_string();
  return found ? *found : -1;
}

TEST(OutputInfluence, IsWhatErringPredictionsShow) {
  for (const int64_t alike : {1, 8, 48}) {
    for (const float scale : {1.0F, 2.0F}) {
      const Predictor predictor = make_predictor(alike);
      const double drawn = drawn_ratio(predictor, scale);
      EXPECT_NEAR(found_ratio(predictor, scale) / drawn, 1, 0.1) << alike << " at " << scale << ", drawn " << drawn;
    }
  }
}

// Where all tokens are one and the same there is nothing to predict.
TEST(OutputInfluence, IsOneWhereNothingIsPredicted) {
  Predictor same = make_predictor(1);
  for (size_t i = 0; i < same.weights.size(); ++i)
    same.weights[i] = static_cast<float>(i % kWidth);
  EXPECT_GE(found_ratio(same, 1), 1);
  std::fill(same.weights.begin(), same.weights.end(), 0.0F);
  EXPECT_EQ(found_ratio(same, 1), 1);
}

}  // namespace
}  // namespace tidemill::quantize
