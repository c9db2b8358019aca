#include "distill/torch/network.hpp"

#include <ATen/core/ivalue.h>  // which clang misses in others' headers
#include <ATen/ops/_softmax.h>
#include <ATen/ops/_softmax_backward_data.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <cmath>
#include <limits>

namespace tidemill::distill {

using at::Tensor;

namespace {

// Rows whose logits are held at a time: few enough for a core's cache, many enough for its multiplications.
constexpr int64_t kHeadRows = 256;
// What logarithms are taken of at least: a probability that F32's softmax has rounded away.
constexpr double kLeast = 1e-20;
constexpr double kLeastRest = 1e-6;

Tensor int_tensor(std::span<const int32_t> values, at::IntArrayRef shape) {
  return at::from_blob(const_cast<int32_t*>(values.data()), shape, at::kInt).to(at::kLong);
}

// 1 / sqrt(mean of squares), [rows][1].
Tensor inverse_rms(const Tensor& x, double epsilon) {
  const auto width = static_cast<double>(x.size(1));
  return at::linalg_vector_norm(x, 2, at::IntArrayRef({1}), true).square_().div_(width).add_(epsilon).rsqrt_();
}

}  // namespace

NetworkTensors NetworkTensors::zeros(const StudentShape& shape, int64_t vocabulary) {
  NetworkTensors made;
  const int64_t width = shape.width;
  made.embedding = at::zeros({vocabulary, width});
  made.final_norm = at::zeros({width});
  for (int64_t i = 0; i < shape.layers; ++i) {
    made.layers.push_back({.attention_norm = at::zeros({width}),
                           .qkv = at::zeros({(shape.heads + 2 * shape.kv_heads) * shape.head_dim(), width}),
                           .output = at::zeros({width, width}),
                           .ffn_norm = at::zeros({width}),
                           .gate_up = at::zeros({2 * shape.feed_forward, width}),
                           .down = at::zeros({width, shape.feed_forward})});
  }
  return made;
}

std::vector<Tensor> NetworkTensors::all() const {
  std::vector<Tensor> all = {embedding, final_norm};
  for (const LayerTensors& layer : layers)
    all.insert(all.end(), {layer.attention_norm, layer.qkv, layer.output, layer.ffn_norm, layer.gate_up, layer.down});
  return all;
}

std::vector<NamedView> named_views(const NetworkTensors& tensors, const StudentShape& shape) {
  std::vector<NamedView> views;
  views.push_back({"token_embd.weight", tensors.embedding});
  const int64_t query = shape.heads * shape.head_dim();
  const int64_t key = shape.kv_heads * shape.head_dim();
  for (size_t i = 0; i < tensors.layers.size(); ++i) {
    const LayerTensors& layer = tensors.layers[i];
    const std::string name = "blk." + std::to_string(i) + ".";
    views.push_back({name + "attn_norm.weight", layer.attention_norm});
    views.push_back({name + "attn_q.weight", layer.qkv.narrow(0, 0, query), true, shape.heads});
    views.push_back({name + "attn_k.weight", layer.qkv.narrow(0, query, key), true, shape.kv_heads});
    views.push_back({name + "attn_v.weight", layer.qkv.narrow(0, query + key, key), true});
    views.push_back({name + "attn_output.weight", layer.output, true});
    views.push_back({name + "ffn_norm.weight", layer.ffn_norm});
    views.push_back({name + "ffn_gate.weight", layer.gate_up.narrow(0, 0, shape.feed_forward), true});
    views.push_back({name + "ffn_up.weight", layer.gate_up.narrow(0, shape.feed_forward, shape.feed_forward), true});
    views.push_back({name + "ffn_down.weight", layer.down, true});
  }
  views.push_back({"output_norm.weight", tensors.final_norm});
  return views;
}

// What the backward pass wants of a layer's forward one.
struct Network::Layer {
  Tensor x;         // [rows][width], the layer's input
  Tensor x_rms;     // [rows][1]
  Tensor x_normed;  // [rows][width], with the norm's weight
  Tensor q, k, v;   // [windows * kv_heads][group * length | length][head_dim], q and k rotated, q scaled
  Tensor shares;    // [windows * kv_heads][group * length][length], of attention
  Tensor mixed;     // [rows][width], before the output matrix
  Tensor y;         // [rows][width], after attention
  Tensor y_rms;
  Tensor y_normed;
  Tensor gate_up;  // [rows][2 * feed_forward]
  Tensor gated;    // [rows][feed_forward]: silu(gate)
  Tensor inner;    // [rows][feed_forward]: silu(gate) * up
};

class Network::Pass {
 public:
  Pass(const Network& network, const NetworkTensors& weights, const Exercise& exercise)
      : plan_(network.plan_),
        shape_(network.plan_.shape),
        weights_(weights),
        exercise_(exercise),
        length_(exercise.length),
        rows_(exercise.windows * exercise.length),
        cosines_(network.cosines_.narrow(0, 0, length_)),
        sines_(network.sines_.narrow(0, 0, length_)),
        mask_(network.mask_.narrow(0, 0, length_).narrow(1, 0, length_)),
        tokens_(int_tensor(exercise.tokens, {rows_})),
        next_(int_tensor(exercise.next, {rows_})) {
    if (exercise.kept == 0) return;
    expected_ = int_tensor(exercise.expected, {rows_, exercise.kept});
    probabilities_ = at::from_blob(const_cast<float*>(exercise.probabilities.data()), {rows_, exercise.kept});
  }

  Score run(double rows, NetworkTensors* gradients) {
    Tensor x = at::embedding(weights_.embedding, tokens_);
    std::vector<Layer> layers(weights_.layers.size());
    for (size_t i = 0; i < layers.size(); ++i)
      x = forward(weights_.layers[i], x, layers[i]);
    const Tensor rms = inverse_rms(x, plan_.rms_epsilon);
    const Tensor hidden = normed(x, rms, weights_.final_norm);
    const Tensor d_hidden = gradients == nullptr ? Tensor() : at::empty_like(hidden);
    const Score score = head(hidden, rows, gradients, d_hidden);
    if (gradients == nullptr) return score;
    Tensor dx = norm_back(d_hidden, x, rms, weights_.final_norm, gradients->final_norm);
    for (size_t i = layers.size(); i-- > 0;) {
      dx = backward(weights_.layers[i], layers[i], dx, gradients->layers[i]);
      layers[i] = {};
    }
    gradients->embedding.add_(at::embedding_dense_backward(dx, tokens_, plan_.vocabulary, -1, false));
    return score;
  }

 private:
  Tensor product(const Tensor& a, const Tensor& b) const {
    if (plan_.precision == Precision::f32) return at::mm(a, b);
    return at::mm(a.to(at::kBFloat16), b.to(at::kBFloat16)).to(at::kFloat);
  }
  Tensor products(const Tensor& a, const Tensor& b) const {
    if (plan_.precision == Precision::f32) return at::bmm(a, b);
    return at::bmm(a.to(at::kBFloat16), b.to(at::kBFloat16)).to(at::kFloat);
  }
  // sum += a' * b, of tall matrices.
  void accumulate(Tensor& sum, const Tensor& a, const Tensor& b) const {
    if (plan_.precision == Precision::f32) {
      sum.addmm_(a.t(), b);
    } else {
      sum.add_(product(a.t(), b));
    }
  }

  static Tensor normed(const Tensor& x, const Tensor& rms, const Tensor& weight) {
    return at::mul(x, rms).mul_(weight);
  }

  // With n = x * rms: dx = rms * (dy * w - n * mean(dy * w * n)), dw = sum of dy * n over rows.
  static Tensor norm_back(const Tensor& dy, const Tensor& x, const Tensor& rms, const Tensor& weight,
                          Tensor& d_weight) {
    const Tensor n = at::mul(x, rms);
    const Tensor dyn = at::mul(dy, n);
    d_weight.add_(dyn.sum(0));
    const Tensor mean = at::mm(dyn, weight.unsqueeze(1)).div_(static_cast<double>(x.size(1)));
    return at::mul(dy, weight).addcmul_(n, mean, -1).mul_(rms);
  }

  // x: [..., length, head_dim]. Turns by `sines`, back by their negatives.
  Tensor rotated(const Tensor& x, double direction) const {
    const int64_t half = shape_.head_dim() / 2;
    const Tensor a = x.narrow(-1, 0, half);
    const Tensor b = x.narrow(-1, half, half);
    return at::cat(
        {at::mul(a, cosines_).addcmul_(b, sines_, -direction), at::mul(b, cosines_).addcmul_(a, sines_, direction)},
        -1);
  }

  // Columns [first, first + heads * head_dim) of `qkv`, as [windows][kv_heads][heads / kv_heads][length][head_dim].
  Tensor heads_of(const Tensor& qkv, int64_t first, int64_t heads) const {
    return qkv.narrow(1, first, heads * shape_.head_dim())
        .view({exercise_.windows, length_, shape_.kv_heads, heads / shape_.kv_heads, shape_.head_dim()})
        .permute({0, 2, 3, 1, 4});
  }

  // And back into columns.
  void put_heads(const Tensor& x, const Tensor& qkv, int64_t first, int64_t heads) const {
    heads_of(qkv, first, heads)
        .copy_(x.view({exercise_.windows, shape_.kv_heads, heads / shape_.kv_heads, length_, shape_.head_dim()}));
  }

  // [windows * kv_heads][rows of a group][head_dim]
  Tensor grouped(const Tensor& x) const {
    return x.reshape({exercise_.windows * shape_.kv_heads, -1, shape_.head_dim()});
  }

  double attention_scale() const { return 1 / std::sqrt(static_cast<double>(shape_.head_dim())); }

  Tensor forward(const LayerTensors& w, const Tensor& x, Layer& kept) const {
    const int64_t query = shape_.heads * shape_.head_dim();
    const int64_t key = shape_.kv_heads * shape_.head_dim();
    kept.x = x;
    kept.x_rms = inverse_rms(x, plan_.rms_epsilon);
    kept.x_normed = normed(x, kept.x_rms, w.attention_norm);
    const Tensor qkv = product(kept.x_normed, w.qkv.t());
    kept.q = grouped(rotated(heads_of(qkv, 0, shape_.heads), 1)).mul_(attention_scale());
    kept.k = grouped(rotated(heads_of(qkv, query, shape_.kv_heads), 1));
    kept.v = grouped(heads_of(qkv, query + key, shape_.kv_heads));
    const Tensor scores = products(kept.q, kept.k.transpose(1, 2));
    scores.view({-1, length_, length_}).add_(mask_);
    kept.shares = at::_softmax(scores, -1, false);
    kept.mixed = at::empty({rows_, query});
    put_heads(products(kept.shares, kept.v), kept.mixed, 0, shape_.heads);
    kept.y = product(kept.mixed, w.output.t()).add_(x);

    kept.y_rms = inverse_rms(kept.y, plan_.rms_epsilon);
    kept.y_normed = normed(kept.y, kept.y_rms, w.ffn_norm);
    kept.gate_up = product(kept.y_normed, w.gate_up.t());
    kept.gated = at::silu(kept.gate_up.narrow(1, 0, shape_.feed_forward));
    kept.inner = at::mul(kept.gated, kept.gate_up.narrow(1, shape_.feed_forward, shape_.feed_forward));
    return product(kept.inner, w.down.t()).add_(kept.y);
  }

  Tensor backward(const LayerTensors& w, const Layer& kept, const Tensor& d_out, LayerTensors& d) const {
    const int64_t inner = shape_.feed_forward;
    accumulate(d.down, d_out, kept.inner);
    const Tensor d_inner = product(d_out, w.down);
    Tensor d_gate_up = at::empty_like(kept.gate_up);
    d_gate_up.narrow(1, inner, inner).copy_(at::mul(d_inner, kept.gated));
    d_gate_up.narrow(1, 0, inner)
        .copy_(at::silu_backward(at::mul(d_inner, kept.gate_up.narrow(1, inner, inner)),
                                 kept.gate_up.narrow(1, 0, inner)));
    accumulate(d.gate_up, d_gate_up, kept.y_normed);
    const Tensor dy = norm_back(product(d_gate_up, w.gate_up), kept.y, kept.y_rms, w.ffn_norm, d.ffn_norm).add_(d_out);

    accumulate(d.output, dy, kept.mixed);
    const Tensor d_mixed = grouped(heads_of(product(dy, w.output), 0, shape_.heads));
    const Tensor d_shares = products(d_mixed, kept.v.transpose(1, 2));
    const Tensor d_scores = at::_softmax_backward_data(d_shares, kept.shares, -1, at::kFloat);
    const int64_t query = shape_.heads * shape_.head_dim();
    const int64_t key = shape_.kv_heads * shape_.head_dim();
    const Tensor d_qkv = at::empty({rows_, query + 2 * key});
    const auto turned_back = [this](const Tensor& x) { return rotated(x.view({-1, length_, shape_.head_dim()}), -1); };
    put_heads(turned_back(products(d_scores, kept.k).mul_(attention_scale())), d_qkv, 0, shape_.heads);
    put_heads(turned_back(products(d_scores.transpose(1, 2), kept.q)), d_qkv, query, shape_.kv_heads);
    put_heads(products(kept.shares.transpose(1, 2), d_mixed), d_qkv, query + key, shape_.kv_heads);
    accumulate(d.qkv, d_qkv, kept.x_normed);
    return norm_back(product(d_qkv, w.qkv), kept.x, kept.x_rms, w.attention_norm, d.attention_norm).add_(dy);
  }

  // The loss, a few rows at a time; its gradients come with it, so that logits are never kept.
  Score head(const Tensor& hidden, double rows, NetworkTensors* gradients, const Tensor& d_hidden) const {
    Score score;
    score.rows = rows_;
    for (int64_t first = 0; first < rows_; first += kHeadRows) {
      const int64_t count = std::min(kHeadRows, rows_ - first);
      const Tensor slice = hidden.narrow(0, first, count);
      const Tensor logits = product(slice, weights_.embedding.t());
      const Tensor next = next_.narrow(0, first, count).unsqueeze(1);
      if (gradients == nullptr) score.right += logits.argmax(1, true).eq(next).sum().item<int64_t>();
      Tensor q = at::_softmax(logits, 1, false);
      const Tensor d_logits = losses(q, next, first, count, score, gradients != nullptr);
      if (gradients == nullptr) continue;
      d_logits.div_(rows);
      accumulate(gradients->embedding, d_logits, slice);
      d_hidden.narrow(0, first, count).copy_(product(d_logits, weights_.embedding));
    }
    return score;
  }

  // Adds the rows' losses to `score`; gives the gradient by their logits, in place of the probabilities q [count][V].
  //
  // Next token y: -log q_y, with gradient q - [y]. Teacher: of the kept tokens K with probabilities p, and the others
  // as one, with p_r = 1 - sum p and q_r = 1 - sum q_K: KL = sum p log(p / q) + p_r log(p_r / q_r), with gradient
  // q - p on K and q (1 - p_r / q_r) elsewhere.
  Tensor losses(Tensor& q, const Tensor& next, int64_t first, int64_t count, Score& score, bool gradient) const {
    score.nats -= q.gather(1, next).clamp_min_(kLeast).log_().sum(at::kDouble).item<double>();
    const bool taught = exercise_.kept > 0;
    const double hard = taught ? plan_.hard_share : 1;
    if (taught) {
      const Tensor kept = expected_.narrow(0, first, count);
      const Tensor p = probabilities_.narrow(0, first, count);
      const Tensor q_kept = q.gather(1, kept);
      const Tensor p_rest = p.sum(1, true).neg_().add_(1).clamp_min_(0);
      const Tensor q_rest = q_kept.sum(1, true).neg_().add_(1).clamp_min_(kLeastRest);
      const auto part = [](const Tensor& p_part, const Tensor& q_part) {
        return p_part.clamp_min(kLeast).log_().sub_(q_part.clamp_min(kLeast).log_()).mul_(p_part).sum(at::kDouble);
      };
      score.divergence += part(p, q_kept).item<double>() + part(p_rest, q_rest).item<double>();
      if (gradient) {
        q.mul_(p_rest.div(q_rest).mul_(hard - 1).add_(1));
        q.scatter_(1, kept, q_kept.sub(p, 1 - hard));
      }
    }
    if (gradient) q.scatter_add_(1, next, at::full({count, 1}, -hard));
    return q;
  }

  const StudentPlan& plan_;
  const StudentShape& shape_;
  const NetworkTensors& weights_;
  const Exercise& exercise_;
  int64_t length_;
  int64_t rows_;
  Tensor cosines_;
  Tensor sines_;
  Tensor mask_;
  Tensor tokens_;
  Tensor next_;
  Tensor expected_;
  Tensor probabilities_;
};

Network::Network(const StudentPlan& plan) : plan_(plan) {
  const int64_t half = plan.shape.head_dim() / 2;
  const Tensor frequencies =
      at::arange(half, at::kDouble).mul_(-std::log(plan.rope_base) / static_cast<double>(half)).exp_();
  const Tensor angles = at::outer(at::arange(plan.window, at::kDouble), frequencies);
  cosines_ = angles.cos().to(at::kFloat);
  sines_ = angles.sin().to(at::kFloat);
  mask_ = at::full({plan.window, plan.window}, -std::numeric_limits<float>::infinity()).triu_(1);
}

Score Network::run(const NetworkTensors& weights, const Exercise& exercise, double rows,
                   NetworkTensors* gradients) const {
  return Pass(*this, weights, exercise).run(rows, gradients);
}

}  // namespace tidemill::distill
