// The one decoder behind every architecture: a pre-norm transformer with rotary positions, grouped-query attention and
// a gated feed-forward block, written in Device operations only. What sets architectures apart are data: their
// HyperParameters, and which LayerWeights there are.
//
//   x = embed(token) * scale
//   each layer:  x += norm?(Wo attention(rope(norm?(Wq h)), rope(norm?(Wk h)), Wv h)) * scale   with h = rms_norm(x)
//                x += norm?(Wdown (activation(Wgate h) * Wup h)) * scale                        with h = rms_norm(x)
// In mixtures, the second line adds up what some of a layer's experts give, by the weights of h's choice among them.
// With latent attention (LatentShape), keys and values are kept as one latent c = norm(Wc h) and a rotated part r
// beside it, and of each head   query = (Wk^T q, rope(q')) with (q, q') = Wq h, key = (c, rope(r)), value = c and what
// attention gives is multiplied by its Wv. So the products with Wk and Wv are of queries, not of the context.
//   logits = soft_cap?(Wout rms_norm(x) * scale)
#pragma once

#include <memory>
#include <vector>

#include "base/memory.hpp"
#include "base/result.hpp"
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

  // One layer of forward() alone, for who has the layers' weights one after another (layerwise_decoder.hpp): `layer` is
  // that of `index`. Rows come and go on in `hidden`, [rows][width]; keys and values are those of the cache's only
  // layer.
  void run_layer(const LayerWeights& layer, int64_t index, const tensor::KvRows& rows, tensor::KvCache& cache,
                 tensor::Matrix hidden);

 private:
  Decoder(tensor::Device& device, HyperParameters hyper, Weights weights, int64_t max_batch_rows);

  // What one layer's attention is made from: matrices of their own, or columns of one.
  struct Heads {
    tensor::Matrix query;
    tensor::Matrix key;
    tensor::Matrix value;
  };

  // The first `rows` rows of an activation of `cols` columns that begins at `offset` of the arena.
  tensor::Matrix view(size_t offset, int64_t rows, int64_t cols);
  // The projections of the first `rows` rows of the residual stream.
  Heads project_heads(const AttentionWeights& attention, std::span<const float> input_norm, int64_t rows);
  // The same for latent attention, without values: queries as they meet what is kept, none of them rotated yet.
  Heads project_latents(const LatentWeights& latent, std::span<const float> input_norm, int64_t rows);
  // The queries of all heads, as the layer's matrices give them, and Heads::key beside it.
  tensor::Matrix project_queries(const LatentWeights& latent, const tensor::RmsNormed& input, tensor::Matrix key);
  // Leaves in attended_ what heads make of what attention gave them of the latents.
  void project_values(const LatentWeights& latent, int64_t rows);
  tensor::Gated project_gated(const FeedForwardWeights& block, std::span<const float> input_norm, int64_t rows);
  // Leaves what a layer's experts give in change_, each computed for all rows that chose it.
  void mix_experts(const MixtureWeights& mixture, std::span<const float> input_norm, int64_t rows);
  // The same for one row, as a step of one sequence has it: the first products of all its experts are one operation.
  void add_experts_of_row(const MixtureWeights& mixture);
  // Sorts the choices of `rows` rows by expert into routed_rows_ and routed_weights_.
  void sort_choices(int64_t rows);
  // Adds what `expert` gives of the named rows of normed_ to those of change_, times their weights.
  void add_expert(const Expert& expert, int64_t inner, std::span<const int32_t> named, std::span<const float> weights,
                  int64_t rows);
  // Adds change_ to the residual stream, normalised by `norm` where there is one.
  void add_change(int64_t rows, std::span<const float> norm);
  // Leaves the attention's result, before its output projection, in attended_. `layer` is that of `index`, and has its
  // keys and values in the cache's layer `kept_in`.
  void attend(const LayerWeights& layer, int64_t index, const tensor::KvRows& rows, tensor::KvCache& cache,
              int64_t kept_in);
  // Adds the attention's projection and the feed-forward block to the first `rows` rows of the residual stream.
  void feed_forward(const LayerWeights& layer, int64_t rows);
  Output outputs(const Batch& batch, std::span<const int32_t> kept);

  tensor::Device& device_;
  HyperParameters hyper_;
  Weights weights_;
  int64_t max_rows_;

  base::Buffer arena_;   // all activations but the logits
  base::Buffer logits_;  // [max_rows][vocabulary]; the system commits only the rows that were ever written
  int64_t most_logit_rows_ = 0;
  std::vector<int32_t> kept_;  // rows that an output is wanted for

  // Of a mixture's layer.
  std::vector<int32_t> chosen_;        // [rows][used] experts
  std::vector<float> chosen_weights_;  // likewise
  std::vector<int32_t> routed_rows_;   // the rows of the first expert, then of the next, ...
  std::vector<float> routed_weights_;  // likewise
  std::vector<size_t> routed_starts_;  // [experts + 1] where they begin
  std::vector<int32_t> all_rows_;      // 0, 1, 2, ...
  std::vector<float> ones_;            // as many

  // Offsets of the activations in the arena, in floats. [max_rows][...]. Query, key and value follow each other, and so
  // do gate and up: one matrix of all their columns fits in their place.
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
  // Of mixtures:
  size_t normed_ = 0;      // [width]
  size_t router_ = 0;      // [experts]
  size_t gathered_ = 0;    // [width]
  size_t expert_out_ = 0;  // [width]
};

}  // namespace tidemill::model
