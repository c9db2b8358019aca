#include "model/mixture_block.hpp"

#include <algorithm>
#include <array>
#include <numeric>

namespace tidemill::model {

using tensor::ConstMatrix;
using tensor::Matrix;
using tensor::Product;

base::Result<std::unique_ptr<MixtureBlock>> MixtureBlock::create(tensor::Device& device, const HyperParameters& hyper,
                                                                 int64_t max_rows) {
  std::unique_ptr<MixtureBlock> block(new MixtureBlock(device, hyper));
  const ExpertShape& shape = hyper.experts;
  const int64_t inner = std::max(shape.feed_forward, shape.shared_feed_forward);
  // Of one row, the experts in use are as many rows.
  const int64_t rows = std::max(max_rows, shape.rule.used);
  ActivationArena& arena = block->arena_;
  block->normed_ = arena.place(rows, hyper.width);
  block->router_ = arena.place(rows, shape.count);
  block->gathered_ = arena.place(rows, hyper.width);
  block->gate_ = arena.place(rows, inner);
  block->up_ = arena.place(rows, inner);
  block->given_ = arena.place(rows, hyper.width);
  TM_CHECK(arena.allocate());
  block->all_rows_.resize(static_cast<size_t>(max_rows));
  std::iota(block->all_rows_.begin(), block->all_rows_.end(), 0);
  block->ones_.assign(static_cast<size_t>(max_rows), 1.0F);
  return block;
}

void MixtureBlock::run(const MixtureWeights& mixture, const tensor::RmsNormed& input, Matrix out) {
  const int64_t rows = input.x.rows;
  const Matrix normed = arena_.view(normed_, rows, hyper_.width);
  device_.rms_norm(input.x, input.weight, input.epsilon, normed);
  route(mixture, normed);
  share(mixture, normed, out);
  sort_choices(rows);
  if (rows == 1) return add_experts_of_row(mixture, normed, out);
  for (size_t e = 0; e < mixture.experts.size(); ++e) {
    const size_t first = routed_starts_[e];
    const size_t count = routed_starts_[e + 1] - first;
    if (count == 0) continue;
    add_expert(mixture.experts[e], hyper_.experts.feed_forward, std::span(routed_rows_).subspan(first, count),
               std::span(routed_weights_).subspan(first, count), normed, out);
  }
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
  const std::span<const int32_t> all = std::span(all_rows_).first(static_cast<size_t>(normed.rows));
  std::span<const float> weights = std::span(ones_).first(all.size());
  if (mixture.shared_gate.weight != nullptr) {
    // The router's logits have been read: what weighs the shared expert takes their place.
    const Matrix gate = arena_.view(router_, normed.rows, 1);
    const std::array products = {product(mixture.shared_gate, gate)};
    device_.linear(products, normed);
    device_.sigmoid(gate);
    weights = {gate.data, all.size()};
  }
  add_expert(mixture.shared, hyper_.experts.shared_feed_forward, all, weights, normed, out);
}

void MixtureBlock::add_experts_of_row(const MixtureWeights& mixture, ConstMatrix normed, Matrix out) {
  const int64_t used = hyper_.experts.rule.used;
  const Matrix gates = arena_.view(gate_, used, hyper_.experts.feed_forward);
  const Matrix ups = arena_.view(up_, used, hyper_.experts.feed_forward);
  const auto row_of = [](Matrix x, int64_t r) { return Matrix{x.row(r), 1, x.cols, x.stride}; };
  std::vector<const Expert*> experts;
  std::vector<Product> products;
  for (size_t e = 0; e < mixture.experts.size(); ++e) {
    if (routed_starts_[e] == routed_starts_[e + 1]) continue;
    const auto i = static_cast<int64_t>(experts.size());
    experts.push_back(&mixture.experts[e]);
    products.push_back(product(mixture.experts[e].gate, row_of(gates, i)));
    products.push_back(product(mixture.experts[e].up, row_of(ups, i)));
  }
  device_.linear(products, normed);
  const Matrix given = arena_.view(given_, 1, hyper_.width);
  for (size_t i = 0; i < experts.size(); ++i) {
    const auto r = static_cast<int64_t>(i);
    const std::array down = {product(experts[i]->down, given)};
    device_.linear(down, tensor::Gated{hyper_.activation, row_of(gates, r), row_of(ups, r)});
    device_.add_scaled(out, std::span(all_rows_).first(1), given, std::span(routed_weights_).subspan(i, 1));
  }
}

void MixtureBlock::sort_choices(int64_t rows) {
  const auto experts = static_cast<size_t>(hyper_.experts.count);
  const auto used = static_cast<size_t>(hyper_.experts.rule.used);
  routed_starts_.assign(experts + 1, 0);
  for (const int32_t expert : chosen_)
    ++routed_starts_[static_cast<size_t>(expert) + 1];
  for (size_t e = 0; e < experts; ++e)
    routed_starts_[e + 1] += routed_starts_[e];
  routed_rows_.resize(chosen_.size());
  routed_weights_.resize(chosen_.size());
  std::vector<size_t> next(routed_starts_.begin(), routed_starts_.end() - 1);
  for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
    for (size_t i = 0; i < used; ++i) {
      const size_t to = next[static_cast<size_t>(chosen_[r * used + i])]++;
      routed_rows_[to] = static_cast<int32_t>(r);
      routed_weights_[to] = chosen_weights_[r * used + i];
    }
  }
}

void MixtureBlock::add_expert(const Expert& expert, int64_t inner, std::span<const int32_t> named,
                              std::span<const float> weights, ConstMatrix normed, Matrix out) {
  const auto count = static_cast<int64_t>(named.size());
  ConstMatrix input = normed;
  if (count < normed.rows) {  // else they are all of them, in their order
    const Matrix gathered = arena_.view(gathered_, count, hyper_.width);
    device_.gather(normed, named, gathered);
    input = gathered;
  }
  const Matrix gate = arena_.view(gate_, count, inner);
  const Matrix up = arena_.view(up_, count, inner);
  const Matrix given = arena_.view(given_, count, hyper_.width);
  const std::array gate_and_up = {product(expert.gate, gate), product(expert.up, up)};
  device_.linear(gate_and_up, input);
  const std::array down = {product(expert.down, given)};
  device_.linear(down, tensor::Gated{hyper_.activation, gate, up});
  device_.add_scaled(out, named, given, weights);
}

}  // namespace tidemill::model
