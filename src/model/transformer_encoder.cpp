#include "model/transformer_encoder.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <numeric>
#include <utility>

namespace tidemill::model {

using tensor::ConstMatrix;
using tensor::Matrix;
using tensor::Product;

namespace {

int64_t blocks_for(int64_t tokens) {
  return (tokens + tensor::kKvBlockTokens - 1) / tensor::kKvBlockTokens;
}

[[maybe_unused]] bool well_formed(const Texts& texts, int64_t context) {
  if (texts.types.size() != texts.tokens.size() || texts.begins.empty() || texts.begins.front() != 0) return false;
  if (texts.begins.back() != static_cast<int32_t>(texts.tokens.size())) return false;
  for (size_t t = 1; t < texts.begins.size(); ++t) {
    const int32_t rows = texts.begins[t] - texts.begins[t - 1];
    if (rows < 1 || rows > context) return false;
  }
  return true;
}

}  // namespace

base::Result<std::unique_ptr<TransformerEncoder>> TransformerEncoder::create(tensor::Device& device,
                                                                             EncoderParameters parameters,
                                                                             EncoderWeights weights, int64_t max_rows) {
  std::unique_ptr<TransformerEncoder> encoder(
      new TransformerEncoder(device, std::move(parameters), std::move(weights), max_rows));
  const HyperParameters& shape = encoder->shape_;
  assert(max_rows >= shape.context);
  ActivationArena& arena = encoder->arena_;
  const auto place = [&](size_t& offset, int64_t cols) { offset = arena.place(max_rows, cols); };
  place(encoder->hidden_, shape.width);
  place(encoder->change_, shape.width);
  place(encoder->query_, shape.heads * shape.head_dim);
  place(encoder->key_, shape.kv_heads * shape.head_dim);
  place(encoder->value_, shape.kv_heads * shape.head_dim);
  place(encoder->attended_, shape.heads * shape.head_dim);
  place(encoder->inner_, shape.feed_forward);
  if (encoder->parameters_.ranks) {
    encoder->firsts_ = arena.place(kMostTexts, shape.width);
    encoder->pooled_ = arena.place(kMostTexts, shape.width);
    encoder->scores_ = arena.place(kMostTexts, 1);
  }
  TM_CHECK(arena.allocate());
  const int64_t blocks = blocks_for(max_rows) + kMostTexts;
  TM_TRY(encoder->cache_, device.make_kv_cache({.layers = 1,
                                                .kv_heads = shape.kv_heads,
                                                .head_dim = shape.head_dim,
                                                .blocks = blocks,
                                                .type = tensor::KvType::f32}));
  encoder->blocks_.resize(static_cast<size_t>(blocks));
  std::iota(encoder->blocks_.begin(), encoder->blocks_.end(), 0);
  return encoder;
}

TransformerEncoder::TransformerEncoder(tensor::Device& device, EncoderParameters parameters, EncoderWeights weights,
                                       int64_t max_rows)
    : device_(device), parameters_(std::move(parameters)), weights_(std::move(weights)), max_rows_(max_rows) {}

ConstMatrix TransformerEncoder::encode(const Texts& texts) {
  assert(well_formed(texts, shape_.context));
  const auto rows = static_cast<int64_t>(texts.tokens.size());
  assert(rows <= max_rows_ && std::ssize(texts.begins) <= kMostTexts + 1);
  const Matrix x = arena_.view(hidden_, rows, shape_.width);
  if (rows == 0) return x;
  place_rows(texts);
  embed(texts, x);
  for (const EncoderLayerWeights& layer : weights_.layers) {
    attend(layer, x);
    feed_forward(layer, x);
  }
  return x;
}

void TransformerEncoder::place_rows(const Texts& texts) {
  positions_.clear();
  last_.clear();
  sequences_.clear();
  block_tables_.clear();
  size_t block = 0;
  for (size_t t = 0; t + 1 < texts.begins.size(); ++t) {
    const int32_t length = texts.begins[t + 1] - texts.begins[t];
    for (int32_t position = 0; position < length; ++position) {
      positions_.push_back(position);
      last_.push_back(length - 1);
      sequences_.push_back(static_cast<int32_t>(t));
    }
    const auto count = static_cast<size_t>(blocks_for(length));
    block_tables_.push_back(std::span(blocks_).subspan(block, count));
    block += count;
  }
}

void TransformerEncoder::embed(const Texts& texts, Matrix x) {
  const Matrix change = arena_.view(change_, x.rows, x.cols);
  device_.embed(*weights_.token_embedding, texts.tokens, x);
  if (weights_.type_embedding) {
    device_.embed(*weights_.type_embedding, texts.types, change);
    device_.add(x, change);
  }
  device_.embed(*weights_.position_embedding, positions_, change);
  add_and_norm(x, change, weights_.embedding_norm);
}

void TransformerEncoder::attend(const EncoderLayerWeights& layer, Matrix x) {
  const int64_t n = x.rows;
  const Matrix query = arena_.view(query_, n, shape_.heads * shape_.head_dim);
  const Matrix key = arena_.view(key_, n, shape_.kv_heads * shape_.head_dim);
  const Matrix value = arena_.view(value_, n, shape_.kv_heads * shape_.head_dim);
  const Matrix attended = arena_.view(attended_, n, shape_.heads * shape_.head_dim);
  const Matrix change = arena_.view(change_, n, shape_.width);

  const std::array products = {product(layer.query, query), product(layer.key, key), product(layer.value, value)};
  device_.linear(products, x);
  device_.store_kv(*cache_, 0, {positions_, sequences_, block_tables_}, key, value);
  const float scale = 1.0F / std::sqrt(static_cast<float>(shape_.head_dim));
  device_.attention(*cache_, 0, {last_, sequences_, block_tables_}, {.scale = scale}, query, attended);
  const std::array output = {product(layer.attention_output, change)};
  device_.linear(output, attended);
  add_and_norm(x, change, layer.attention_norm);
}

void TransformerEncoder::feed_forward(const EncoderLayerWeights& layer, Matrix x) {
  const Matrix inner = arena_.view(inner_, x.rows, shape_.feed_forward);
  const Matrix change = arena_.view(change_, x.rows, shape_.width);
  const std::array up = {product(layer.up, inner)};
  device_.linear(up, x);
  device_.gelu(inner);
  const std::array down = {product(layer.down, change)};
  device_.linear(down, inner);
  add_and_norm(x, change, layer.output_norm);
}

void TransformerEncoder::add_and_norm(Matrix x, Matrix change, const LayerNorm& norm) {
  device_.add(x, change);
  device_.layer_norm(x, norm.weight, norm.bias, parameters_.norm_epsilon, x);
}

ConstMatrix TransformerEncoder::score(std::span<const int32_t> rows) {
  assert(parameters_.ranks && std::ssize(rows) <= kMostTexts);
  const int64_t n = std::ssize(rows);
  const Matrix scores = arena_.view(scores_, n, 1);
  if (n == 0) return scores;
  Matrix firsts = arena_.view(firsts_, n, shape_.width);
  const ConstMatrix hidden = arena_.view(hidden_, max_rows_, shape_.width);
  device_.gather(hidden, rows, firsts);
  if (weights_.pooler.weight) {
    const Matrix pooled = arena_.view(pooled_, n, shape_.width);
    const std::array pool = {product(weights_.pooler, pooled)};
    device_.linear(pool, firsts);
    device_.tanh(pooled);
    firsts = pooled;
  }
  const std::array score = {product(weights_.score, scores)};
  device_.linear(score, firsts);
  return scores;
}

}  // namespace tidemill::model
