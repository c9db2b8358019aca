#include "model/mixture_block.hpp"

#include <algorithm>
#include <array>

namespace tidemill::model {

using tensor::ConstMatrix;
using tensor::Matrix;
using tensor::Product;

base::Result<std::unique_ptr<MixtureBlock>> MixtureBlock::create(tensor::Device& device, const HyperParameters& hyper,
                                                                 int64_t max_rows) {
  std::unique_ptr<MixtureBlock> block(new MixtureBlock(device, hyper));
  const auto place = [&](size_t& offset, int64_t cols) { offset = block->arena_.place(max_rows, cols); };
  place(block->normed_, hyper.width);
  place(block->router_, hyper.experts.count);
  if (const int64_t inner = hyper.experts.shared_feed_forward; inner > 0) {
    place(block->gate_, inner);
    place(block->up_, inner);
    place(block->shared_, hyper.width);
    place(block->shared_gate_, 1);
  }
  TM_CHECK(block->arena_.allocate());
  return block;
}

void MixtureBlock::run(const MixtureWeights& mixture, const tensor::RmsNormed& input, Matrix out) {
  const Matrix normed = arena_.view(normed_, input.x.rows, hyper_.width);
  device_.rms_norm(input.x, input.weight, input.epsilon, normed);
  route(mixture, normed);
  share(mixture, normed, out);
  const auto one = [](const Projection& projection) {
    return tensor::ExpertMatrices::One{projection.weight.get(), projection.bias};
  };
  matrices_.clear();
  for (const Expert& expert : mixture.experts)
    matrices_.push_back({one(expert.gate), one(expert.up), one(expert.down)});
  device_.add_experts(matrices_, hyper_.activation, normed, chosen_, chosen_weights_, out);
}

void MixtureBlock::route(const MixtureWeights& mixture, ConstMatrix normed) {
  tensor::ExpertRule rule = hyper_.experts.rule;
  const Matrix logits = arena_.view(router_, normed.rows, hyper_.experts.count);
  const std::array routed = {product(mixture.router, logits)};
  device_.linear(routed, normed);
  chosen_.resize(static_cast<size_t>(normed.rows * rule.used));
  chosen_weights_.resize(chosen_.size());
  rule.score_correction_bias = mixture.score_correction_bias;
  device_.choose_experts(logits, rule, chosen_, chosen_weights_);
}

void MixtureBlock::share(const MixtureWeights& mixture, ConstMatrix normed, Matrix out) {
  std::fill_n(out.data, out.rows * out.cols, 0.0F);
  if (mixture.shared.gate.weight == nullptr) return;
  const int64_t rows = normed.rows;
  const Matrix gate = arena_.view(gate_, rows, hyper_.experts.shared_feed_forward);
  const Matrix up = arena_.view(up_, rows, hyper_.experts.shared_feed_forward);
  std::vector<Product> products = {product(mixture.shared.gate, gate), product(mixture.shared.up, up)};
  const Matrix weight = arena_.view(shared_gate_, rows, 1);
  if (mixture.shared_gate.weight != nullptr) products.push_back(product(mixture.shared_gate, weight));
  device_.linear(products, normed);
  const Matrix given = arena_.view(shared_, rows, hyper_.width);
  const std::array down = {product(mixture.shared.down, given)};
  device_.linear(down, tensor::Gated{hyper_.activation, gate, up});
  if (mixture.shared_gate.weight == nullptr) return device_.add(out, given);
  device_.sigmoid(weight);
  device_.add_scaled(out, given, {weight.data, static_cast<size_t>(rows)});
}

}  // namespace tidemill::model
