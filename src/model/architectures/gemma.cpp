#include "model/architectures/gemma.hpp"

#include <cmath>

#include <fmt/format.h>

#include "model/architectures/layer_types.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/json_file.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::model {

using base::ErrorCode;
using base::Result;

Result<void> read_gemma_parts(const KeyReader& keys, int64_t largest_layers, HyperParameters& hyper) {
  hyper.activation = tensor::Activation::gelu_tanh;
  // Rounded as the models were trained (google-deepmind/gemma, Embedder.encode, casts it to bfloat16): 59.75 for 3584.
  hyper.embedding_scale = tensor::bf16_to_f32(tensor::f32_to_bf16(std::sqrt(static_cast<float>(hyper.width))));
  if (hyper.layers == largest_layers) {
    hyper.attention_scale = 1.0F / std::sqrt(static_cast<float>(hyper.width) / static_cast<float>(hyper.heads));
  }
  TM_TRY(hyper.attention_scale, keys.factor_or("attention.scale", hyper.attention_scale));
  return {};
}

Result<void> add_gemma_keys(const JsonMembers& config, std::string_view architecture, int64_t period,
                            GgufWriter& metadata) {
  TM_CHECK(check_layer_types(config, period));
  TM_TRY(const double scalar, config.get_number_or("query_pre_attn_scalar", 256));
  if (!std::isfinite(scalar) || scalar <= 0) return config.wrong("query_pre_attn_scalar", "a positive number");
  metadata.add_f32(fmt::format("{}.attention.scale", architecture), static_cast<float>(1 / std::sqrt(scalar)));
  for (const std::string_view cap : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (config.find(cap) == nullptr) continue;
    TM_TRY(const double value, config.get_number(cap));
    metadata.add_f32(fmt::format("{}.{}", architecture, cap), static_cast<float>(value));
  }
  return {};
}

}  // namespace tidemill::model
