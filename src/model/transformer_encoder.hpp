// The one encoder behind every encoder architecture: a post-norm transformer with learned positions, attention in both
// directions and a plain feed-forward block (Vaswani et al. 2017, as Devlin et al. 2018 use it), written in Device
// operations only.
//
//   x = layer_norm(embed(token) + embed(position) + embed(type))
//   each layer:  x = layer_norm(x + Wo attention(Wq x, Wk x, Wv x))
//                x = layer_norm(x + Wdown gelu(Wup x))
//   a reranker's score = Wscore tanh(Wpooler x[first])
//
// Attention needs keys and values in blocks (Device::attention): those of one layer at a time are, in a cache that is
// written anew for each.
#pragma once

#include <memory>
#include <vector>

#include "base/result.hpp"
#include "model/activation_arena.hpp"
#include "model/encoder.hpp"
#include "model/weights.hpp"

namespace tidemill::model {

class TransformerEncoder final : public Encoder {
 public:
  // The device must outlive the encoder. `exhausted` when there is not enough memory for the activations.
  static base::Result<std::unique_ptr<TransformerEncoder>> create(tensor::Device& device, EncoderParameters parameters,
                                                                  EncoderWeights weights, int64_t max_rows);

  const HyperParameters& hyper_parameters() const override { return shape_; }
  int64_t token_types() const override { return parameters_.token_types; }
  bool ranks() const override { return parameters_.ranks; }
  int64_t max_rows() const override { return max_rows_; }
  int64_t max_texts() const override { return kMostTexts; }
  size_t weight_bytes() const override { return weights_.bytes; }
  size_t activation_bytes() const override { return arena_.bytes() + cache_->bytes(); }
  tensor::ConstMatrix encode(const Texts& texts) override;
  tensor::ConstMatrix score(std::span<const int32_t> rows) override;

 private:
  // Each may leave a block of the cache partly empty.
  static constexpr int64_t kMostTexts = 64;

  TransformerEncoder(tensor::Device& device, EncoderParameters parameters, EncoderWeights weights, int64_t max_rows);

  void place_rows(const Texts& texts);
  void embed(const Texts& texts, tensor::Matrix x);
  void attend(const EncoderLayerWeights& layer, tensor::Matrix x);
  void feed_forward(const EncoderLayerWeights& layer, tensor::Matrix x);
  // x = layer_norm(x + change)
  void add_and_norm(tensor::Matrix x, tensor::Matrix change, const LayerNorm& norm);

  tensor::Device& device_;
  EncoderParameters parameters_;
  const HyperParameters& shape_ = parameters_.shape;
  EncoderWeights weights_;
  int64_t max_rows_;

  ActivationArena arena_;  // all activations
  std::unique_ptr<tensor::KvCache> cache_;
  std::vector<int32_t> blocks_;  // all of the cache's, in order

  // Where the rows of the call at hand stand.
  std::vector<int32_t> positions_;  // [rows] in their text
  std::vector<int32_t> last_;       // [rows] of their text's last row: how far they see
  std::vector<int32_t> sequences_;  // [rows] which text
  std::vector<std::span<const int32_t>> block_tables_;

  // Where the activations begin in the arena. [max_rows][...]
  size_t hidden_ = 0;    // [width]
  size_t change_ = 0;    // [width] what is added to it
  size_t query_ = 0;     // [heads * head_dim]
  size_t key_ = 0;       // [kv_heads * head_dim]
  size_t value_ = 0;     // [kv_heads * head_dim]
  size_t attended_ = 0;  // [heads * head_dim]
  size_t inner_ = 0;     // [feed_forward]
  size_t firsts_ = 0;    // [kMostTexts][width] of a reranker: the first rows
  size_t pooled_ = 0;    // [kMostTexts][width]
  size_t scores_ = 0;    // [kMostTexts][1]
};

}  // namespace tidemill::model
