#include "model/layerwise_decoder.hpp"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <utility>

#include "model/finite.hpp"
#include "model/layer_loader.hpp"
#include "model/load.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::model {

using base::ErrorCode;
using base::Result;

namespace {

// Rows of an embedding that are looked up before their pages of the file are let go: each brings some around it along.
constexpr size_t kLookedUp = 256;

}  // namespace

LayerwiseDecoder::LayerwiseDecoder(const Checkpoint& file, const Architecture& architecture, HyperParameters hyper,
                                   tensor::Device& device, const LoadOptions& options)
    : file_(file),
      architecture_(architecture),
      hyper_(std::move(hyper)),
      device_(device),
      loader_(file, hyper_, numbers_of(hyper_), &device, options) {
  const TensorNames& names = architecture.names;
  embedding_tensor_ = std::string(names.token_embedding) + ".weight";
  output_tensor_ = std::string(names.output) + ".weight";
  if (file.find_tensor(output_tensor_) == nullptr) output_tensor_ = embedding_tensor_;
}

Result<std::unique_ptr<LayerwiseDecoder>> LayerwiseDecoder::create(const Checkpoint& file, tensor::Device& device,
                                                                   const LoadOptions& options) {
  TM_CHECK(check_options(options));
  if (file.packed() != nullptr) {
    return file.error(ErrorCode::unsupported, "a packed file is not read layer by layer; use its source");
  }
  TM_TRY(const Architecture* architecture, find_architecture(file));
  TM_TRY(HyperParameters hyper, architecture->read_hyper_parameters(file));
  hyper.choose_rotation(options.context);
  TM_CHECK(check_tensors(file, *architecture, hyper));
  std::unique_ptr<LayerwiseDecoder> made(new LayerwiseDecoder(file, *architecture, std::move(hyper), device, options));
  const std::string norm = std::string(architecture->names.output_norm) + ".weight";
  TM_TRY(made->output_norm_, made->loader_.vector(norm, made->hyper_.width));
  TM_TRY(made->decoder_, Decoder::create(device, made->hyper_, Weights{}, options.max_batch_rows));
  tensor::KvShape shape = made->decoder_->kv_shape();
  shape.layers = 1;
  shape.type = tensor::KvType::f32;
  const int64_t context = options.context > 0 ? options.context : made->hyper_.context;
  shape.blocks = (context + tensor::kKvBlockTokens - 1) / tensor::kKvBlockTokens;
  TM_TRY(made->cache_, device.make_kv_cache(shape));
  made->blocks_.resize(static_cast<size_t>(shape.blocks));
  std::iota(made->blocks_.begin(), made->blocks_.end(), 0);
  return made;
}

Result<void> LayerwiseDecoder::embed(std::span<const Token> tokens, tensor::Matrix hidden) {
  assert(hidden.rows == static_cast<int64_t>(tokens.size()) && hidden.cols == hyper_.width);
  const GgufTensor& table = *file_.find_tensor(embedding_tensor_);
  if (table_.empty()) {
    TM_TRY(table_, file_.read(table, made_));
  }
  const auto row_bytes = static_cast<size_t>(tensor::row_bytes(table.type, hyper_.width));
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto token = static_cast<size_t>(tokens[i]);
    const auto row = table_.subspan(token * row_bytes, row_bytes);
    TM_CHECK(check_finite(file_, table, row, static_cast<int64_t>(token) * hyper_.width, nullptr));
    tensor::dequantize(table.type, row.data(), hyper_.width, hidden.row(static_cast<int64_t>(i)));
    if (i % kLookedUp == kLookedUp - 1 || i + 1 == tokens.size()) file_.release(table);
  }
  if (hyper_.embedding_scale != 1) device_.scale(hidden, hyper_.embedding_scale);
  return {};
}

Result<void> LayerwiseDecoder::load(int64_t layer, LayerPart part) {
  assert(layer >= 0 && layer < hyper_.layers);
  table_ = {};
  made_ = {};
  loaded_ = -1;
  layer_ = {};
  const size_t before = loader_.bytes();
  LayerLoader layers(loader_, architecture_, hyper_, layer);
  TM_CHECK(part == LayerPart::attention ? layers.load_attention(layer_) : layers.load_feed_forward(layer_));
  loader_.free_scratch();
  part_bytes_ = loader_.bytes() - before;
  part_ = part;
  loaded_ = layer;
  return {};
}

void LayerwiseDecoder::forward(int64_t position, tensor::Matrix hidden) {
  assert(loaded_ >= 0);
  assert(position + hidden.rows <= static_cast<int64_t>(blocks_.size()) * tensor::kKvBlockTokens);
  if (part_ == LayerPart::feed_forward) return decoder_->run_feed_forward(layer_, hidden);
  std::vector<int32_t> positions(static_cast<size_t>(hidden.rows));
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(position));
  const std::vector<int32_t> sequences(positions.size(), 0);
  const std::span<const int32_t> table = blocks_;
  decoder_->run_attention(layer_, loaded_, {positions, sequences, std::span(&table, 1)}, *cache_, hidden);
}

void LayerwiseDecoder::normalise(tensor::Matrix hidden) {
  device_.rms_norm(hidden, output_norm_, hyper_.rms_epsilon, hidden);
}

}  // namespace tidemill::model
