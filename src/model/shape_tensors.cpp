#include "model/shape_tensors.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "model/architectures/always_f32.hpp"
#include "model/architectures/architecture.hpp"
#include "model/architectures/encoder_architecture.hpp"
#include "model/hyper_parameters.hpp"

namespace tidemill::model {
namespace {

using TensorKind = ShapeTensor::Kind;

template <typename Architectures>
const auto& architecture_of(const Shape& shape, Architectures all) {
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto* one) { return one->name == shape.architecture; });
  assert(found != all.end());
  return **found;
}

// Llama 3.1's scaling (Meta's models/llama3/model.py, apply_scaling): wavelengths within the old context's quarter
// stay, those past it are stretched by the factor, and between them the stretch is interpolated.
std::vector<float> llama3_factors(const Shape& shape) {
  constexpr double old_context = 8192;
  constexpr double low = 1;
  constexpr double high = 4;
  std::vector<float> factors;
  for (int64_t i = 0; i < shape.head_dim / 2; ++i) {
    const double frequency =
        std::pow(shape.rope_base, -2.0 * static_cast<double>(i) / static_cast<double>(shape.head_dim));
    const double wavelength = 2 * std::numbers::pi / frequency;
    double factor = 1;
    if (wavelength > old_context / low) {
      factor = shape.rope_factor;
    } else if (wavelength > old_context / high) {
      const double smooth = (old_context / wavelength - low) / (high - low);
      factor = 1 / ((1 - smooth) / shape.rope_factor + smooth);
    }
    factors.push_back(static_cast<float>(factor));
  }
  return factors;
}

// 1, 1 + step, 1 + 2 * step, ...
std::vector<float> long_factors(const Shape& shape, float step) {
  std::vector<float> factors(static_cast<size_t>(shape.rotary_dim() / 2));
  for (size_t i = 0; i < factors.size(); ++i)
    factors[i] = 1 + step * static_cast<float>(i);
  return factors;
}

class TensorList {
 public:
  explicit TensorList(const Shape& shape) : shape_(shape) {}

  // `name` is without the ending ".weight".
  void matrix(std::string_view name, int64_t cols, int64_t rows) {
    add(name, ".weight", TensorKind::matrix, {cols, rows});
  }
  void f32_matrix(std::string_view name, int64_t cols, int64_t rows) {
    matrix(name, cols, rows);
    tensors_.back().always_f32 = true;
  }
  // So many in one.
  void matrices(std::string_view name, int64_t cols, int64_t rows, int64_t count) {
    add(name, ".weight", TensorKind::matrix, {cols, rows, count});
  }
  void hidden_norm(std::string_view name) { add(name, ".weight", TensorKind::hidden_norm, {shape_.width}); }
  void vector(std::string_view name, TensorKind kind, int64_t elements) { add(name, ".weight", kind, {elements}); }
  void bias(std::string_view name, int64_t elements) { add(name, ".bias", TensorKind::near_zero, {elements}); }
  void biases(std::string_view name, int64_t elements, int64_t count) {
    add(name, ".bias", TensorKind::near_zero, {elements, count});
  }
  void given(std::string_view name, std::vector<float> values) {
    add(name, ".weight", TensorKind::given, {static_cast<int64_t>(values.size())});
    tensors_.back().values = std::move(values);
  }

  // Those that follow are a layer's; -1: of none.
  void begin_layer(int64_t index) { prefix_ = index < 0 ? std::string() : fmt::format("blk.{}.", index); }
  std::vector<ShapeTensor> take() { return std::move(tensors_); }

 private:
  void add(std::string_view name, std::string_view ending, TensorKind kind, std::vector<int64_t> shape) {
    std::string whole = fmt::format("{}{}{}", prefix_, name, ending);
    const bool always_f32 = is_always_f32(whole);
    tensors_.push_back({.name = std::move(whole), .kind = kind, .shape = std::move(shape), .always_f32 = always_f32});
  }

  const Shape& shape_;
  std::string prefix_;
  std::vector<ShapeTensor> tensors_;
};

// What an architecture may have, its shapes have not.
bool has(Presence presence) {
  return presence == Presence::required;
}

class DecoderTensors {
 public:
  explicit DecoderTensors(const Shape& shape)
      : shape_(shape),
        parts_(architecture_of(shape, architectures()).parts),
        names_(architecture_of(shape, architectures()).names),
        list_(shape) {}

  std::vector<ShapeTensor> run() {
    list_.matrix(names_.token_embedding, shape_.width, shape_.tokens);
    rotation();
    for (int64_t i = 0; i < shape_.layers; ++i) {
      list_.begin_layer(i);
      list_.hidden_norm(names_.attention_norm);
      attention();
      if (has(parts_.post_norms)) list_.hidden_norm(names_.post_attention_norm);
      list_.hidden_norm(names_.feed_forward_norm);
      if (shape_.experts > 0 && i >= shape_.dense_layers) {
        mixture();
      } else {
        feed_forward();
      }
      if (has(parts_.post_norms)) list_.hidden_norm(names_.post_feed_forward_norm);
    }
    list_.begin_layer(-1);
    list_.hidden_norm(names_.output_norm);
    if (!shape_.tied) list_.matrix(names_.output, shape_.width, shape_.tokens);
    return list_.take();
  }

 private:
  void rotation() {
    if (shape_.rope_factor != 1) list_.given("rope_freqs", llama3_factors(shape_));
    if (shape_.old_context == 0 || shape_.yarn_factor != 1) return;
    list_.given("rope_factors_long", long_factors(shape_, 0.5F));
    list_.given("rope_factors_short", long_factors(shape_, 0.05F));
  }

  void attention() {
    const int64_t q_width = shape_.heads * shape_.head_dim;
    if (shape_.latent > 0) {
      latents();
    } else {
      heads(q_width, shape_.kv_heads * shape_.head_dim);
    }
    if (has(parts_.head_norms)) {
      list_.vector(names_.query_norm, TensorKind::near_one, shape_.head_dim);
      list_.vector(names_.key_norm, TensorKind::near_one, shape_.head_dim);
    }
    const int64_t attended = shape_.latent > 0 ? shape_.heads * shape_.value_dim : q_width;
    list_.matrix(names_.attention_output, attended, shape_.width);
    if (has(parts_.output_bias)) list_.bias(names_.attention_output, shape_.width);
    if (has(parts_.sinks)) list_.vector(names_.sinks, TensorKind::near_one, shape_.heads);
  }

  void heads(int64_t q_width, int64_t kv_width) {
    if (!has(parts_.apart)) return list_.matrix(names_.query_key_value, shape_.width, q_width + 2 * kv_width);
    list_.matrix(names_.query, shape_.width, q_width);
    list_.matrix(names_.key, shape_.width, kv_width);
    list_.matrix(names_.value, shape_.width, kv_width);
    if (!has(parts_.qkv_bias)) return;
    list_.bias(names_.query, q_width);
    list_.bias(names_.key, kv_width);
    list_.bias(names_.value, kv_width);
  }

  void latents() {
    const int64_t heads_width = shape_.heads * (shape_.key_dim + shape_.rotated);
    if (shape_.query_latent > 0) {
      list_.matrix(names_.query_down, shape_.width, shape_.query_latent);
      list_.vector(names_.query_down_norm, TensorKind::near_one, shape_.query_latent);
      list_.matrix(names_.query_up, shape_.query_latent, heads_width);
    } else {
      list_.matrix(names_.query, shape_.width, heads_width);
    }
    list_.matrix(names_.latent, shape_.width, shape_.head_dim);
    list_.vector(names_.latent_norm, TensorKind::near_one, shape_.latent);
    list_.matrices(names_.key_up, shape_.key_dim, shape_.latent, shape_.heads);
    list_.matrices(names_.value_up, shape_.latent, shape_.value_dim, shape_.heads);
  }

  void feed_forward() {
    if (has(parts_.apart)) {
      list_.matrix(names_.gate, shape_.width, shape_.feed_forward);
      list_.matrix(names_.up, shape_.width, shape_.feed_forward);
    } else {
      list_.matrix(names_.gate_and_up, shape_.width, 2 * shape_.feed_forward);
    }
    list_.matrix(names_.down, shape_.feed_forward, shape_.width);
  }

  void mixture() {
    const int64_t inner = shape_.expert_feed_forward;
    list_.matrix(names_.router, shape_.width, shape_.experts);
    list_.matrices(names_.expert_gate, shape_.width, inner, shape_.experts);
    list_.matrices(names_.expert_up, shape_.width, inner, shape_.experts);
    list_.matrices(names_.expert_down, inner, shape_.width, shape_.experts);
    if (has(parts_.expert_biases)) {
      list_.bias(names_.router, shape_.experts);
      list_.biases(names_.expert_gate, inner, shape_.experts);
      list_.biases(names_.expert_up, inner, shape_.experts);
      list_.biases(names_.expert_down, shape_.width, shape_.experts);
    }
    if (shape_.sigmoids) list_.bias(names_.expert_bias, shape_.experts);
    const int64_t shared = shape_.shared_feed_forward + shape_.shared_experts * inner;
    if (shared == 0) return;
    if (has(parts_.shared_gate)) list_.vector(names_.shared_gate_input, TensorKind::near_zero, shape_.width);
    list_.matrix(names_.shared_gate, shape_.width, shared);
    list_.matrix(names_.shared_up, shape_.width, shared);
    list_.matrix(names_.shared_down, shared, shape_.width);
  }

  const Shape& shape_;
  const DecoderParts& parts_;
  const TensorNames& names_;
  TensorList list_;
};

class EncoderTensors {
 public:
  explicit EncoderTensors(const Shape& shape)
      : shape_(shape), names_(architecture_of(shape, encoder_architectures()).names), list_(shape) {}

  std::vector<ShapeTensor> run() {
    const int64_t width = shape_.width;
    list_.matrix(names_.token_embedding, width, shape_.tokens);
    list_.matrix(names_.position_embedding, width, shape_.context);
    list_.matrix(names_.type_embedding, width, kBertTokenTypes);
    norm(names_.embedding_norm);
    for (int64_t i = 0; i < shape_.layers; ++i) {
      list_.begin_layer(i);
      const int64_t heads_width = shape_.heads * shape_.head_dim;
      for (const std::string_view name : {names_.query, names_.key, names_.value})
        projection(name, width, heads_width);
      projection(names_.attention_output, heads_width, width);
      norm(names_.attention_norm);
      projection(names_.up, width, shape_.feed_forward);
      projection(names_.down, shape_.feed_forward, width);
      norm(names_.output_norm);
    }
    list_.begin_layer(-1);
    if (shape_.pooling == kRankPooling) {
      projection(names_.pooler, width, width);
      list_.f32_matrix(names_.score, width, 1);  // as in released files
      list_.bias(names_.score, 1);
    }
    return list_.take();
  }

 private:
  void norm(std::string_view name) {
    list_.hidden_norm(name);
    list_.bias(name, shape_.width);
  }

  void projection(std::string_view name, int64_t cols, int64_t rows) {
    list_.matrix(name, cols, rows);
    list_.bias(name, rows);
  }

  const Shape& shape_;
  const EncoderTensorNames& names_;
  TensorList list_;
};

}  // namespace

int64_t ShapeTensor::elements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

std::vector<ShapeTensor> tensors_of(const Shape& shape) {
  return shape.encodes() ? EncoderTensors(shape).run() : DecoderTensors(shape).run();
}

}  // namespace tidemill::model
