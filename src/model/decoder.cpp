#include "model/decoder.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <iterator>
#include <utility>

namespace tidemill::model {

using tensor::ConstMatrix;
using tensor::Matrix;
using tensor::Product;

namespace {

// Moves rows[i] to row i. In place: `rows` is ascending, so no row is overwritten before it is read.
void compact(Matrix x, std::span<const int32_t> rows) {
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto to = static_cast<int64_t>(i);
    if (rows[i] != to) std::copy_n(x.row(rows[i]), x.cols, x.row(to));
  }
}

// Copies those rows of `from` (which holds the rows `held` of the batch) that `wanted` names.
void gather(ConstMatrix from, std::span<const int32_t> held, std::span<const int32_t> wanted, Matrix to) {
  size_t at = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    while (held[at] != wanted[i])
      ++at;
    std::copy_n(from.row(static_cast<int64_t>(at)), from.cols, to.row(static_cast<int64_t>(i)));
  }
}

Matrix columns_of(Matrix x, int64_t first, int64_t count) {
  return {x.data + first, x.rows, count, x.stride};
}

[[maybe_unused]] bool well_formed(const Batch& batch) {
  const size_t rows = batch.tokens.size();
  const auto names_rows = [&](std::span<const int32_t> list) {
    return std::is_sorted(list.begin(), list.end(), std::less_equal<>()) &&
           (list.empty() || (list.front() >= 0 && static_cast<size_t>(list.back()) < rows));
  };
  return batch.positions.size() == rows && batch.sequences.size() == rows && names_rows(batch.logit_rows) &&
         names_rows(batch.hidden_rows);
}

}  // namespace

base::Result<std::unique_ptr<Decoder>> Decoder::create(tensor::Device& device, HyperParameters hyper, Weights weights,
                                                       int64_t max_batch_rows) {
  assert(max_batch_rows > 0);
  std::unique_ptr<Decoder> decoder(new Decoder(device, std::move(hyper), std::move(weights), max_batch_rows));
  const HyperParameters& h = decoder->hyper_;
  const int64_t q_width = h.heads * h.head_dim;
  const int64_t kv_width = h.kv_heads * h.head_dim;
  const LatentShape& latent = h.latent;
  ActivationArena& arena = decoder->arena_;
  const auto place = [&](size_t& offset, int64_t cols) { offset = arena.place(max_batch_rows, cols); };
  place(decoder->residual_, h.width);
  place(decoder->change_, h.width);
  place(decoder->query_, q_width);
  place(decoder->key_, kv_width);
  place(decoder->value_, latent.rank > 0 ? 0 : kv_width);
  place(decoder->attended_, h.attended_width());
  if (latent.rank > 0) {
    place(decoder->query_down_, latent.query_rank);
    place(decoder->heads_, h.heads * (latent.key_dim + h.head_dim - latent.rank));
    place(decoder->latents_, h.heads * latent.rank);
  }
  const bool some_dense = h.experts.count == 0 || h.experts.first_layer > 0;
  place(decoder->gate_, some_dense ? h.feed_forward : 0);
  place(decoder->up_, some_dense ? h.feed_forward : 0);
  place(decoder->logit_input_, h.width);
  place(decoder->hidden_, h.width);
  TM_CHECK(arena.allocate());
  if (h.experts.count > 0) {
    TM_TRY(decoder->mixture_, MixtureBlock::create(device, decoder->hyper_, max_batch_rows));
  }
  TM_TRY(decoder->logits_, base::Buffer::allocate(static_cast<size_t>(max_batch_rows) *
                                                  static_cast<size_t>(h.vocabulary) * sizeof(float)));
  return decoder;
}

Decoder::Decoder(tensor::Device& device, HyperParameters hyper, Weights weights, int64_t max_batch_rows)
    : device_(device), hyper_(std::move(hyper)), weights_(std::move(weights)), max_rows_(max_batch_rows) {}

tensor::KvShape Decoder::kv_shape() const {
  return {
      .layers = hyper_.layers, .kv_heads = hyper_.kv_heads, .head_dim = hyper_.head_dim, .latent = hyper_.latent.rank};
}

size_t Decoder::activation_bytes() const {
  return arena_.bytes() + (mixture_ == nullptr ? 0 : mixture_->activation_bytes()) +
         static_cast<size_t>(most_logit_rows_ * hyper_.vocabulary) * sizeof(float);
}

size_t Decoder::step_weight_bytes() const {
  // Of an embedding that is not the output matrix too, a step reads a few rows; of a mixture, the experts of one row.
  size_t bytes = weights_.output == nullptr ? weights_.bytes : weights_.bytes - weights_.token_embedding->bytes();
  for (const LayerWeights& layer : weights_.layers) {
    const std::vector<Expert>& experts = layer.mixture.experts;
    const size_t used = experts.empty() ? 0 : static_cast<size_t>(hyper_.experts.rule.used);
    for (size_t i = used; i < experts.size(); ++i) {
      const Expert& expert = experts[i];
      bytes -= expert.gate.weight->bytes() + expert.up.weight->bytes() + expert.down.weight->bytes();
    }
  }
  return bytes;
}

Multiplies Decoder::row_multiplies() const {
  const bool floats = device_.activations() == tensor::ActivationScheme::f32;
  const auto alike = [floats](const tensor::Weight& weight) {
    return floats || (weight.type() != tensor::DType::bf16 && weight.type() != tensor::DType::f16);
  };
  Multiplies found;
  found.alike = alike(weights_.output == nullptr ? *weights_.token_embedding : *weights_.output);
  const auto count = [&](const Projection& projection) {
    const tensor::Weight& w = *projection.weight;
    found.alike = found.alike && alike(w);
    (!floats && tensor::info(w.type()).block_elements > 1 ? found.int8 : found.floating) += w.rows() * w.cols();
  };
  for (const LayerWeights& layer : weights_.layers) {
    const AttentionWeights& attention = layer.attention;
    const FeedForwardWeights& dense = layer.feed_forward;
    const MixtureWeights& mixture = layer.mixture;
    for (const Projection* projection :
         {&attention.query, &attention.key, &attention.value, &attention.query_key_value, &attention.latent.query_down,
          &attention.latent.query, &attention.latent.latent, &attention.output, &dense.gate, &dense.up,
          &dense.gate_and_up, &dense.down, &mixture.router, &mixture.shared.gate, &mixture.shared.up,
          &mixture.shared.down, &mixture.shared_gate}) {
      if (projection->weight != nullptr) count(*projection);
    }
    for (const auto* heads : {&attention.latent.key_up, &attention.latent.value_up}) {
      for (const Projection& projection : *heads)
        count(projection);
    }
    // All experts are alike, and a row uses so many.
    for (int64_t i = 0; i < (mixture.experts.empty() ? 0 : hyper_.experts.rule.used); ++i) {
      const Expert& expert = mixture.experts[static_cast<size_t>(i)];
      for (const Projection* projection : {&expert.gate, &expert.up, &expert.down})
        count(*projection);
    }
  }
  return found;
}

Output Decoder::forward(const Batch& batch, tensor::KvCache& cache) {
  assert(well_formed(batch));
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  assert(rows <= max_rows_);
  if (rows == 0) return {};

  kept_.clear();
  std::set_union(batch.logit_rows.begin(), batch.logit_rows.end(), batch.hidden_rows.begin(), batch.hidden_rows.end(),
                 std::back_inserter(kept_));
  const auto kept = static_cast<int64_t>(kept_.size());

  const tensor::KvRows kv_rows{batch.positions, batch.sequences, batch.block_tables};
  const Matrix embedded = arena_.view(residual_, rows, hyper_.width);
  device_.embed(*weights_.token_embedding, batch.tokens, embedded);
  if (hyper_.embedding_scale != 1) device_.scale(embedded, hyper_.embedding_scale);
  for (int64_t i = 0; i < hyper_.layers; ++i) {
    const LayerWeights& layer = weights_.layers[static_cast<size_t>(i)];
    attend(layer, i, kv_rows, cache, i);
    int64_t going_on = rows;
    if (i == hyper_.layers - 1) {
      // From here on nothing looks across rows: only those go on that an output is wanted for.
      compact(arena_.view(residual_, rows, hyper_.width), kept_);
      compact(arena_.view(attended_, rows, hyper_.attended_width()), kept_);
      going_on = kept;
    }
    if (going_on == 0) continue;
    add_attention(layer, going_on);
    feed_forward(layer, going_on);
  }
  return outputs(batch, kept_);
}

void Decoder::run_attention(const LayerWeights& layer, int64_t index, const tensor::KvRows& rows,
                            tensor::KvCache& cache, Matrix hidden) {
  assert(hidden.rows == static_cast<int64_t>(rows.positions.size()) && hidden.rows <= max_rows_);
  const Matrix residual = arena_.view(residual_, hidden.rows, hyper_.width);
  device_.copy(hidden, residual);
  attend(layer, index, rows, cache, 0);
  add_attention(layer, hidden.rows);
  device_.copy(residual, hidden);
}

void Decoder::run_feed_forward(const LayerWeights& layer, Matrix hidden) {
  assert(hidden.rows <= max_rows_);
  const Matrix residual = arena_.view(residual_, hidden.rows, hyper_.width);
  device_.copy(hidden, residual);
  feed_forward(layer, hidden.rows);
  device_.copy(residual, hidden);
}

Decoder::Heads Decoder::project_heads(const AttentionWeights& attention, std::span<const float> input_norm,
                                      int64_t rows) {
  const int64_t q_width = hyper_.heads * hyper_.head_dim;
  const int64_t kv_width = hyper_.kv_heads * hyper_.head_dim;
  const tensor::RmsNormed input{arena_.view(residual_, rows, hyper_.width), input_norm, hyper_.rms_epsilon};
  if (attention.query_key_value.weight != nullptr) {
    const Matrix all = arena_.view(query_, rows, q_width + 2 * kv_width);
    const std::array products = {product(attention.query_key_value, all)};
    device_.linear(products, input);
    return {columns_of(all, 0, q_width), columns_of(all, q_width, kv_width),
            columns_of(all, q_width + kv_width, kv_width)};
  }
  const Heads heads = {arena_.view(query_, rows, q_width), arena_.view(key_, rows, kv_width),
                       arena_.view(value_, rows, kv_width)};
  const std::array products = {product(attention.query, heads.query), product(attention.key, heads.key),
                               product(attention.value, heads.value)};
  device_.linear(products, input);
  return heads;
}

Matrix Decoder::project_queries(const LatentWeights& latent, const tensor::RmsNormed& input, Matrix key) {
  const Matrix heads = arena_.view(heads_, input.x.rows, latent.query.weight->rows());
  if (latent.query_down.weight == nullptr) {
    const std::array products = {product(latent.query, heads), product(latent.latent, key)};
    device_.linear(products, input);
    return heads;
  }
  const Matrix down = arena_.view(query_down_, input.x.rows, hyper_.latent.query_rank);
  const std::array products = {product(latent.query_down, down), product(latent.latent, key)};
  device_.linear(products, input);
  const std::array up = {product(latent.query, heads)};
  device_.linear(up, tensor::RmsNormed{down, latent.query_down_norm, hyper_.rms_epsilon});
  return heads;
}

Decoder::Heads Decoder::project_latents(const LatentWeights& latent, std::span<const float> input_norm, int64_t rows) {
  const LatentShape& shape = hyper_.latent;
  const int64_t head_dim = hyper_.head_dim;
  const int64_t rotated = head_dim - shape.rank;
  const Matrix key = arena_.view(key_, rows, head_dim);
  const Matrix heads =
      project_queries(latent, {arena_.view(residual_, rows, hyper_.width), input_norm, hyper_.rms_epsilon}, key);
  const Matrix kept = columns_of(key, 0, shape.rank);
  device_.rms_norm(kept, latent.norm, hyper_.rms_epsilon, kept);

  const Matrix query = arena_.view(query_, rows, hyper_.heads * head_dim);
  std::vector<Product> products;
  std::vector<ConstMatrix> inputs;
  for (int64_t h = 0; h < hyper_.heads; ++h) {
    inputs.emplace_back(columns_of(heads, h * (shape.key_dim + rotated), shape.key_dim));
    products.push_back(product(latent.key_up[static_cast<size_t>(h)], columns_of(query, h * head_dim, shape.rank)));
  }
  device_.linear_each(products, inputs);
  device_.copy(columns_of(heads.reshaped(shape.key_dim + rotated), shape.key_dim, rotated),
               columns_of(query.reshaped(head_dim), shape.rank, rotated));
  return {query, key, {}};
}

void Decoder::project_values(const LatentWeights& latent, int64_t rows) {
  const LatentShape& shape = hyper_.latent;
  const Matrix latents = arena_.view(latents_, rows, hyper_.heads * shape.rank);
  const Matrix attended = arena_.view(attended_, rows, hyper_.attended_width());
  std::vector<Product> products;
  std::vector<ConstMatrix> inputs;
  for (int64_t h = 0; h < hyper_.heads; ++h) {
    inputs.emplace_back(columns_of(latents, h * shape.rank, shape.rank));
    products.push_back(
        product(latent.value_up[static_cast<size_t>(h)], columns_of(attended, h * shape.value_dim, shape.value_dim)));
  }
  device_.linear_each(products, inputs);
}

void Decoder::attend(const LayerWeights& layer, int64_t index, const tensor::KvRows& rows, tensor::KvCache& cache,
                     int64_t kept_in) {
  const AttentionWeights& attention = layer.attention;
  const auto n = static_cast<int64_t>(rows.positions.size());
  const int64_t head_dim = hyper_.head_dim;
  const bool latent = hyper_.latent.rank > 0;
  const auto [query, key, value] = latent ? project_latents(attention.latent, layer.attention_norm, n)
                                          : project_heads(attention, layer.attention_norm, n);
  if (!attention.query_norm.empty()) {
    device_.rms_norm(query.reshaped(head_dim), attention.query_norm, hyper_.rms_epsilon, query.reshaped(head_dim));
  }
  if (!attention.key_norm.empty()) {
    device_.rms_norm(key.reshaped(head_dim), attention.key_norm, hyper_.rms_epsilon, key.reshaped(head_dim));
  }
  if (const tensor::Rope& rope = hyper_.rope_of(index); !rope.frequencies.empty()) {
    device_.rope(rope, rows.positions, head_dim, query);
    device_.rope(rope, rows.positions, head_dim, key);
  }
  device_.store_kv(cache, kept_in, rows, key, value);
  const Matrix out = latent ? arena_.view(latents_, n, hyper_.heads * hyper_.latent.rank)
                            : arena_.view(attended_, n, hyper_.heads * head_dim);
  tensor::AttentionRule rule = hyper_.attention_rule(index);
  rule.sinks = attention.sinks;
  device_.attention(cache, kept_in, rows, rule, query, out);
  if (latent) project_values(attention.latent, n);
}

tensor::Gated Decoder::project_gated(const FeedForwardWeights& block, std::span<const float> input_norm, int64_t rows) {
  const int64_t inner = hyper_.feed_forward;
  const tensor::RmsNormed input{arena_.view(residual_, rows, hyper_.width), input_norm, hyper_.rms_epsilon};
  if (block.gate_and_up.weight != nullptr) {
    const Matrix both = arena_.view(gate_, rows, 2 * inner);
    const std::array products = {product(block.gate_and_up, both)};
    device_.linear(products, input);
    return {hyper_.activation, columns_of(both, 0, inner), columns_of(both, inner, inner)};
  }
  const Matrix gate = arena_.view(gate_, rows, inner);
  const Matrix up = arena_.view(up_, rows, inner);
  const std::array products = {product(block.gate, gate), product(block.up, up)};
  device_.linear(products, input);
  return {hyper_.activation, gate, up};
}

void Decoder::add_attention(const LayerWeights& layer, int64_t rows) {
  const std::array output = {product(layer.attention.output, arena_.view(change_, rows, hyper_.width))};
  device_.linear(output, arena_.view(attended_, rows, hyper_.attended_width()));
  add_change(rows, layer.post_attention_norm);
}

void Decoder::feed_forward(const LayerWeights& layer, int64_t rows) {
  const Matrix change = arena_.view(change_, rows, hyper_.width);
  if (layer.mixture.router.weight != nullptr) {
    const tensor::RmsNormed input{arena_.view(residual_, rows, hyper_.width), layer.feed_forward_norm,
                                  hyper_.rms_epsilon};
    mixture_->run(layer.mixture, input, change);
  } else {
    const tensor::Gated gated = project_gated(layer.feed_forward, layer.feed_forward_norm, rows);
    const std::array down = {product(layer.feed_forward.down, change)};
    device_.linear(down, gated);
  }
  add_change(rows, layer.post_feed_forward_norm);
}

void Decoder::add_change(int64_t rows, std::span<const float> norm) {
  const Matrix change = arena_.view(change_, rows, hyper_.width);
  if (!norm.empty()) device_.rms_norm(change, norm, hyper_.rms_epsilon, change);
  if (hyper_.residual_scale != 1) device_.scale(change, hyper_.residual_scale);
  device_.add(arena_.view(residual_, rows, hyper_.width), change);
}

Output Decoder::outputs(const Batch& batch, std::span<const int32_t> kept) {
  if (kept.empty()) return {};
  const Matrix normed = arena_.view(residual_, static_cast<int64_t>(kept.size()), hyper_.width);
  device_.rms_norm(normed, weights_.output_norm, hyper_.rms_epsilon, normed);

  Output output;
  if (!batch.hidden_rows.empty()) {
    const Matrix hidden = arena_.view(hidden_, static_cast<int64_t>(batch.hidden_rows.size()), hyper_.width);
    gather(normed, kept, batch.hidden_rows, hidden);
    output.hidden = hidden;
  }
  if (!batch.logit_rows.empty()) {
    const auto rows = static_cast<int64_t>(batch.logit_rows.size());
    const Matrix input = arena_.view(logit_input_, rows, hyper_.width);
    gather(normed, kept, batch.logit_rows, input);
    const Matrix logits{logits_.as<float>(), rows, hyper_.vocabulary, hyper_.vocabulary};
    const tensor::Weight& matrix = weights_.output ? *weights_.output : *weights_.token_embedding;
    const std::array products = {Product{&matrix, {}, logits}};
    device_.linear(products, input);
    if (hyper_.logit_scale != 1) device_.scale(logits, hyper_.logit_scale);
    if (hyper_.logit_soft_cap > 0) device_.soft_cap(logits, hyper_.logit_soft_cap);
    most_logit_rows_ = std::max(most_logit_rows_, rows);
    output.logits = logits;
  }
  return output;
}

}  // namespace tidemill::model
