#include "model/layer_loader.hpp"

#include <utility>

#include <fmt/format.h>

#include "base/memory.hpp"
#include "model/latent_expansion.hpp"

namespace tidemill::model {

using base::Result;

LayerLoader::LayerLoader(TensorLoader& tensors, const Architecture& architecture, const HyperParameters& hyper,
                         int64_t index)
    : tensors_(tensors), parts_(architecture.parts), names_(architecture.names), hyper_(hyper), index_(index) {}

std::string LayerLoader::name_of(Name name) const {
  return fmt::format("blk.{}.{}", index_, names_.*name);
}

Result<Projection> LayerLoader::projection(Name name, int64_t rows, int64_t cols, Presence bias) {
  return tensors_.projection(name_of(name), rows, cols, bias);
}

Result<std::vector<float>> LayerLoader::vector(Name name, int64_t elements, Presence presence) {
  return tensors_.vector(name_of(name) + ".weight", elements, presence);
}

Result<LayerWeights> LayerLoader::load() {
  LayerWeights layer;
  TM_CHECK(load_attention(layer));
  TM_CHECK(load_feed_forward(layer));
  return layer;
}

Result<void> LayerLoader::load_attention(LayerWeights& into) {
  const int64_t width = hyper_.width;
  TM_TRY(into.attention_norm, vector(&TensorNames::attention_norm, width));
  TM_TRY(into.attention, attention());
  TM_TRY(into.post_attention_norm, vector(&TensorNames::post_attention_norm, width, parts_.post_norms));
  return {};
}

Result<void> LayerLoader::load_feed_forward(LayerWeights& into) {
  const int64_t width = hyper_.width;
  TM_TRY(into.feed_forward_norm, vector(&TensorNames::feed_forward_norm, width));
  if (hyper_.has_experts(index_)) {
    TM_TRY(into.mixture, mixture());
  } else {
    TM_TRY(into.feed_forward, feed_forward());
  }
  TM_TRY(into.post_feed_forward_norm, vector(&TensorNames::post_feed_forward_norm, width, parts_.post_norms));
  return {};
}

Result<AttentionWeights> LayerLoader::attention() {
  AttentionWeights attention;
  if (hyper_.latent.rank > 0) {
    TM_TRY(attention.latent, latents());
  } else {
    TM_CHECK(heads(attention));
  }
  TM_TRY(attention.query_norm, vector(&TensorNames::query_norm, hyper_.head_dim, parts_.head_norms));
  TM_TRY(attention.key_norm, vector(&TensorNames::key_norm, hyper_.head_dim, parts_.head_norms));
  TM_TRY(attention.sinks, vector(&TensorNames::sinks, hyper_.heads, parts_.sinks));
  TM_TRY(attention.output,
         projection(&TensorNames::attention_output, hyper_.width, hyper_.attended_width(), parts_.output_bias));
  return attention;
}

Result<void> LayerLoader::heads(AttentionWeights& into) {
  const int64_t width = hyper_.width;
  const int64_t q_width = hyper_.heads * hyper_.head_dim;
  const int64_t kv_width = hyper_.kv_heads * hyper_.head_dim;
  const Presence bias = parts_.qkv_bias;
  if (parts_.apart == Presence::absent) {
    TM_TRY(into.query_key_value, projection(&TensorNames::query_key_value, q_width + 2 * kv_width, width, bias));
    return {};
  }
  TM_TRY(into.query, projection(&TensorNames::query, q_width, width, bias));
  TM_TRY(into.key, projection(&TensorNames::key, kv_width, width, bias));
  TM_TRY(into.value, projection(&TensorNames::value, kv_width, width, bias));
  return {};
}

Result<LatentWeights> LayerLoader::latents() {
  const LatentShape& shape = hyper_.latent;
  const int64_t width = hyper_.width;
  const int64_t heads_width = hyper_.heads * (shape.key_dim + hyper_.head_dim - shape.rank);
  LatentWeights latent;
  if (shape.query_rank > 0) {
    TM_TRY(latent.query_down, projection(&TensorNames::query_down, shape.query_rank, width));
    TM_TRY(latent.query_down_norm, vector(&TensorNames::query_down_norm, shape.query_rank));
    TM_TRY(latent.query, projection(&TensorNames::query_up, heads_width, shape.query_rank));
  } else {
    TM_TRY(latent.query, projection(&TensorNames::query, heads_width, width));
  }
  TM_TRY(latent.latent, projection(&TensorNames::latent, hyper_.head_dim, width));
  TM_TRY(latent.norm, vector(&TensorNames::latent_norm, shape.rank));
  if (tensors_.has(name_of(&TensorNames::latent_expansion) + ".weight")) {
    TM_CHECK(split_expansion(latent));
    return latent;
  }
  TM_TRY(auto key_up, tensors_.matrices(name_of(&TensorNames::key_up), hyper_.heads, shape.rank, shape.key_dim));
  TM_TRY(auto value_up, tensors_.matrices(name_of(&TensorNames::value_up), hyper_.heads, shape.value_dim, shape.rank));
  latent.key_up = projections(std::move(key_up));
  latent.value_up = projections(std::move(value_up));
  return latent;
}

Result<void> LayerLoader::split_expansion(LatentWeights& into) {
  const LatentShape& shape = hyper_.latent;
  const int64_t rows = hyper_.heads * (shape.key_dim + shape.value_dim);
  TM_TRY(const TensorLoader::Source source, tensors_.source(name_of(&TensorNames::latent_expansion), rows, shape.rank));
  if (tensors_.only_checks()) return {};
  const tensor::DType type = source.tensor->type;
  const LatentExpansion expansion(type, hyper_.heads, shape);
  {
    TM_TRY(base::Buffer keys, base::Buffer::allocate(expansion.key_bytes()));
    expansion.write_keys(source.bytes, {keys.data(), keys.size()});
    TM_TRY(auto key_up, tensors_.made_of(source, expansion.key_type(), {keys.data(), keys.size()}, hyper_.heads,
                                         shape.rank, shape.key_dim));
    into.key_up = projections(std::move(key_up));
  }
  TM_TRY(base::Buffer values, base::Buffer::allocate(expansion.value_bytes()));
  expansion.write_values(source.bytes, {values.data(), values.size()});
  TM_TRY(auto value_up,
         tensors_.made_of(source, type, {values.data(), values.size()}, hyper_.heads, shape.value_dim, shape.rank));
  into.value_up = projections(std::move(value_up));
  tensors_.finish(source);
  return {};
}

Result<FeedForwardWeights> LayerLoader::feed_forward() {
  const int64_t width = hyper_.width;
  const int64_t inner = hyper_.feed_forward;
  const Presence bias = parts_.feed_forward_bias;
  FeedForwardWeights block;
  if (parts_.apart == Presence::absent) {
    TM_TRY(block.gate_and_up, projection(&TensorNames::gate_and_up, 2 * inner, width, bias));
  } else {
    TM_TRY(block.gate, projection(&TensorNames::gate, inner, width, bias));
    TM_TRY(block.up, projection(&TensorNames::up, inner, width, bias));
  }
  TM_TRY(block.down, projection(&TensorNames::down, width, inner, bias));
  return block;
}

Result<MixtureWeights> LayerLoader::mixture() {
  const ExpertShape& shape = hyper_.experts;
  const int64_t width = hyper_.width;
  const int64_t inner = shape.feed_forward;
  MixtureWeights mixture;
  TM_TRY(mixture.router, projection(&TensorNames::router, shape.count, width, parts_.mixture_bias));
  TM_TRY(mixture.score_correction_bias, tensors_.vector(name_of(&TensorNames::score_correction_bias) + ".bias",
                                                        shape.count, parts_.score_correction_bias));
  mixture.experts.resize(tensors_.only_checks() ? 0 : static_cast<size_t>(shape.count));
  TM_CHECK(experts(&TensorNames::expert_gate, inner, width, &Expert::gate, mixture.experts));
  TM_CHECK(experts(&TensorNames::expert_up, inner, width, &Expert::up, mixture.experts));
  TM_CHECK(experts(&TensorNames::expert_down, width, inner, &Expert::down, mixture.experts));
  if (shape.shared_feed_forward == 0) return mixture;
  if (parts_.shared_gate != Presence::absent) {
    TM_TRY(mixture.shared_gate, projection(&TensorNames::shared_gate_input, 1, width));
  }
  TM_TRY(mixture.shared, shared_expert());
  return mixture;
}

Result<void> LayerLoader::experts(Name name, int64_t rows, int64_t cols, Projection Expert::*part,
                                  std::vector<Expert>& into) {
  const int64_t count = hyper_.experts.count;
  TM_TRY(auto weights, tensors_.matrices(name_of(name), count, rows, cols));
  TM_TRY(auto biases, tensors_.vectors(name_of(name) + ".bias", count, rows, parts_.mixture_bias));
  for (size_t i = 0; i < into.size(); ++i)
    into[i].*part = {std::move(weights[i]), std::move(biases[i])};
  return {};
}

Result<Expert> LayerLoader::shared_expert() {
  const int64_t width = hyper_.width;
  const int64_t inner = hyper_.experts.shared_feed_forward;
  Expert shared;
  TM_TRY(shared.gate, projection(&TensorNames::shared_gate, inner, width));
  TM_TRY(shared.up, projection(&TensorNames::shared_up, inner, width));
  TM_TRY(shared.down, projection(&TensorNames::shared_down, width, inner));
  return shared;
}

}  // namespace tidemill::model
