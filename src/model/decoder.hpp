// The one decoder behind every architecture: a pre-norm transformer with rotary positions, grouped-query attention and
// a gated feed-forward block, written in Device operations only. What sets architectures apart are data: their
// HyperParameters, and which LayerWeights there are.
//
//   x = embed(token) * scale
//   each layer:  x += norm?(Wo attention(rope(norm?(Wq h)), rope(norm?(Wk h)), Wv h)) * scale   with h = rms_norm(x)
//                x += norm?(Wdown (activation(Wgate h) * Wup h)) * scale                        with h = rms_norm(x)
// In mixtures, the second line is of some of a layer's experts (mixture_block.hpp).
// With latent attention (LatentShape), keys and values are kept as one latent c = norm(Wc h) and a rotated part r
// beside it, and of each head   query = (Wk^T q, rope(q')) with (q, q') = Wq h, key = (c, rope(r)), value = c and what
// attention gives is multiplied by its Wv. So the products with Wk and Wv are of queries, not of the context.
//   logits = soft_cap?(Wout rms_norm(x) * scale)
#pragma once

#include <memory>
#include <vector>

#include "base/memory.hpp"
#include "base/result.hpp"
#include "model/activation_arena.hpp"
#include "model/mixture_block.hpp"
#include "model/model.hpp"
#include "model/weights.hpp"

namespace tidemill::model {

class Decoder final : public Model {
 public:
  // The device must outlive the decoder. `exhausted` when there is not enough memory for the activations.
  static base::Result<std::unique_ptr<Decoder>> create(tensor::Device& device, HyperParameters hyper, Weights weights,
                                                       int64_t max_batch_rows);

  const HyperParameters& hyper_parameters() const override { return hyper_; }
  tensor::KvShape kv_shape() const override;
  size_t weight_bytes() const override { return weights_.bytes; }
  size_t activation_bytes() const override;
  size_t step_weight_bytes() const override;
  Multiplies row_multiplies() const override;
  Output forward(const Batch& batch, tensor::KvCache& cache) override;

  // One layer of forward() alone, in its two parts, for who has the layers' weights one after another
  // (layerwise_decoder.hpp): `layer` is that of `index`, and has the part's matrices. Rows come and go on in `hidden`,
  // [rows][width]; keys and values are those of the cache's only layer.
  void run_attention(const LayerWeights& layer, int64_t index, const tensor::KvRows& rows, tensor::KvCache& cache,
                     tensor::Matrix hidden);
  void run_feed_forward(const LayerWeights& layer, tensor::Matrix hidden);

 private:
  Decoder(tensor::Device& device, HyperParameters hyper, Weights weights, int64_t max_batch_rows);

  // What one layer's attention is made from: matrices of their own, or columns of one.
  struct Heads {
    tensor::Matrix query;
    tensor::Matrix key;
    tensor::Matrix value;
  };

  // The projections of the first `rows` rows of the residual stream.
  Heads project_heads(const AttentionWeights& attention, std::span<const float> input_norm, int64_t rows);
  // The same for latent attention, without values: queries as they meet what is kept, none of them rotated yet.
  Heads project_latents(const LatentWeights& latent, std::span<const float> input_norm, int64_t rows);
  // The queries of all heads, as the layer's matrices give them, and Heads::key beside it.
  tensor::Matrix project_queries(const LatentWeights& latent, const tensor::RmsNormed& input, tensor::Matrix key);
  // Leaves in attended_ what heads make of what attention gave them of the latents.
  void project_values(const LatentWeights& latent, int64_t rows);
  tensor::Gated project_gated(const FeedForwardWeights& block, std::span<const float> input_norm, int64_t rows);
  // Adds change_ to the residual stream, normalised by `norm` where there is one.
  void add_change(int64_t rows, std::span<const float> norm);
  // Leaves the attention's result, before its output projection, in attended_. `layer` is that of `index`, and has its
  // keys and values in the cache's layer `kept_in`.
  void attend(const LayerWeights& layer, int64_t index, const tensor::KvRows& rows, tensor::KvCache& cache,
              int64_t kept_in);
  // Each adds to the first `rows` rows of the residual stream: what the output projection makes of attended_, and then
  // the feed-forward block.
  void add_attention(const LayerWeights& layer, int64_t rows);
  void feed_forward(const LayerWeights& layer, int64_t rows);
  Output outputs(const Batch& batch, std::span<const int32_t> kept);

  tensor::Device& device_;
  HyperParameters hyper_;
  Weights weights_;
  int64_t max_rows_;

  ActivationArena arena_;  // all activations but the logits, and those of mixture_
  base::Buffer logits_;    // [max_rows][vocabulary]; the system commits only the rows that were ever written
  int64_t most_logit_rows_ = 0;
  std::vector<int32_t> kept_;              // rows that an output is wanted for
  std::unique_ptr<MixtureBlock> mixture_;  // null where no layer has experts

  // Where the activations begin in the arena. [max_rows][...]. Query, key and value follow each other, and so do gate
  // and up: one matrix of all their columns fits in their place.
  size_t residual_ = 0;     // [width]; normalised by outputs()
  size_t change_ = 0;       // [width] what a projection adds to the residual stream
  size_t query_ = 0;        // [heads * head_dim]
  size_t key_ = 0;          // [kv_heads * head_dim]
  size_t value_ = 0;        // [kv_heads * head_dim]
  size_t attended_ = 0;     // [attended_width()]
  size_t gate_ = 0;         // [feed_forward]
  size_t up_ = 0;           // [feed_forward]
  size_t logit_input_ = 0;  // [width]
  size_t hidden_ = 0;       // [width]
  // Of latent attention:
  size_t query_down_ = 0;  // [query_rank]
  size_t heads_ = 0;       // [heads * (key_dim + rotated)] queries before they are brought to latents
  size_t latents_ = 0;     // [heads * rank] what attention gives
};

}  // namespace tidemill::model
