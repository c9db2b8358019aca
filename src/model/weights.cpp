#include "model/weights.hpp"

#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "model/layer_loader.hpp"
#include "model/packed_file.hpp"
#include "model/tensor_loader.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using base::Result;

std::string numbers_of(const EncoderParameters& parameters) {
  return fmt::format("{}, context {}, {} token types", numbers_of(parameters.shape), parameters.shape.context,
                     parameters.token_types);
}

Result<Weights> load_decoder(TensorLoader& tensors, const Architecture& architecture, const HyperParameters& hyper) {
  const TensorNames& names = architecture.names;
  const std::string output(names.output);
  Weights weights;
  TM_TRY(weights.token_embedding, tensors.matrix(std::string(names.token_embedding), hyper.vocabulary, hyper.width));
  for (int64_t i = 0; i < hyper.layers; ++i) {
    TM_TRY(LayerWeights layer, LayerLoader(tensors, architecture, hyper, i).load());
    if (!tensors.only_checks()) weights.layers.push_back(std::move(layer));
  }
  TM_TRY(weights.output_norm, tensors.vector(std::string(names.output_norm) + ".weight", hyper.width));
  if (tensors.has(output + ".weight")) {
    TM_TRY(weights.output, tensors.matrix(output, hyper.vocabulary, hyper.width));
  }
  return weights;
}

class EncoderLoader {
 public:
  EncoderLoader(TensorLoader& tensors, const EncoderArchitecture& architecture, const EncoderParameters& parameters)
      : tensors_(tensors), names_(architecture.names), parameters_(parameters) {}

  Result<EncoderWeights> load() {
    const HyperParameters& shape = parameters_.shape;
    const int64_t width = shape.width;
    EncoderWeights weights;
    TM_TRY(weights.token_embedding, tensors_.matrix(std::string(names_.token_embedding), shape.vocabulary, width));
    TM_TRY(weights.position_embedding, tensors_.matrix(std::string(names_.position_embedding), shape.context, width));
    if (parameters_.token_types > 0) {
      TM_TRY(weights.type_embedding,
             tensors_.matrix(std::string(names_.type_embedding), parameters_.token_types, width));
    }
    TM_TRY(weights.embedding_norm, norm(std::string(names_.embedding_norm)));
    for (int64_t i = 0; i < shape.layers; ++i) {
      TM_TRY(EncoderLayerWeights layer, load_layer(fmt::format("blk.{}.", i)));
      if (!tensors_.only_checks()) weights.layers.push_back(std::move(layer));
    }
    if (!parameters_.ranks) return weights;
    const std::string pooler(names_.pooler);
    if (tensors_.has(pooler + ".weight")) {
      TM_TRY(weights.pooler, tensors_.projection(pooler, width, width, Presence::optional));
    }
    TM_TRY(weights.score, tensors_.projection(std::string(names_.score), 1, width, Presence::optional));
    return weights;
  }

 private:
  Result<EncoderLayerWeights> load_layer(const std::string& prefix) {
    const HyperParameters& shape = parameters_.shape;
    const int64_t q_width = shape.heads * shape.head_dim;
    const int64_t kv_width = shape.kv_heads * shape.head_dim;
    const auto load = [&](std::string_view part, int64_t rows, int64_t cols) {
      return tensors_.projection(prefix + std::string(part), rows, cols, Presence::required);
    };
    EncoderLayerWeights layer;
    TM_TRY(layer.query, load(names_.query, q_width, shape.width));
    TM_TRY(layer.key, load(names_.key, kv_width, shape.width));
    TM_TRY(layer.value, load(names_.value, kv_width, shape.width));
    TM_TRY(layer.attention_output, load(names_.attention_output, shape.width, q_width));
    TM_TRY(layer.attention_norm, norm(prefix + std::string(names_.attention_norm)));
    TM_TRY(layer.up, load(names_.up, shape.feed_forward, shape.width));
    TM_TRY(layer.down, load(names_.down, shape.width, shape.feed_forward));
    TM_TRY(layer.output_norm, norm(prefix + std::string(names_.output_norm)));
    return layer;
  }

  Result<LayerNorm> norm(const std::string& name) {
    LayerNorm norm;
    TM_TRY(norm.weight, tensors_.vector(name + ".weight", parameters_.shape.width));
    TM_TRY(norm.bias, tensors_.vector(name + ".bias", parameters_.shape.width));
    return norm;
  }

  TensorLoader& tensors_;
  const EncoderTensorNames& names_;
  const EncoderParameters& parameters_;
};

// All shapes first: a wrong file is refused before minutes of packing. `load` is called with what checks, and with what
// loads.
template <typename All>
Result<All> check_and_load(const Checkpoint& file, const HyperParameters& hyper, const std::string& numbers,
                           tensor::Device& device, const LoadOptions& options, auto load) {
  TM_CHECK(check_packed_layout(file));
  if (options.dequantize && file.packed() != nullptr) {
    return file.error(ErrorCode::unsupported, "a packed file is not dequantised; load its source");
  }
  TensorLoader checker(file, hyper, numbers);
  TM_CHECK(load(checker));
  TensorLoader loader(file, hyper, numbers, &device, options);
  TM_CHECK(loader.verify_vectors());
  TM_TRY(All weights, load(loader));
  loader.complete();
  weights.bytes = loader.bytes();
  weights.mapping = loader.mapping();
  return weights;
}

}  // namespace

std::string numbers_of(const HyperParameters& hyper) {
  return fmt::format("width {}, {} heads and {} key/value heads of {}, feed-forward {}, vocabulary {}", hyper.width,
                     hyper.heads, hyper.kv_heads, hyper.head_dim, hyper.feed_forward, hyper.vocabulary);
}

tensor::Product product(const Projection& projection, tensor::Matrix y) {
  return {projection.weight.get(), projection.bias, y};
}

Result<void> check_tensors(const Checkpoint& file, const Architecture& architecture, const HyperParameters& hyper) {
  TensorLoader checker(file, hyper, numbers_of(hyper));
  TM_CHECK(load_decoder(checker, architecture, hyper));
  return {};
}

Result<Weights> load_weights(const Checkpoint& file, const Architecture& architecture, const HyperParameters& hyper,
                             tensor::Device& device, const LoadOptions& options) {
  return check_and_load<Weights>(file, hyper, numbers_of(hyper), device, options,
                                 [&](TensorLoader& tensors) { return load_decoder(tensors, architecture, hyper); });
}

Result<void> check_encoder_tensors(const Checkpoint& file, const EncoderArchitecture& architecture,
                                   const EncoderParameters& parameters) {
  TensorLoader checker(file, parameters.shape, numbers_of(parameters));
  TM_CHECK(EncoderLoader(checker, architecture, parameters).load());
  return {};
}

Result<EncoderWeights> load_encoder_weights(const Checkpoint& file, const EncoderArchitecture& architecture,
                                            const EncoderParameters& parameters, tensor::Device& device,
                                            const LoadOptions& options) {
  return check_and_load<EncoderWeights>(
      file, parameters.shape, numbers_of(parameters), device, options,
      [&](TensorLoader& tensors) { return EncoderLoader(tensors, architecture, parameters).load(); });
}

}  // namespace tidemill::model
