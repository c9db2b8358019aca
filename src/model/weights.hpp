// A model's weights on a device, checked against its hyper-parameters.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "model/architectures/architecture.hpp"
#include "model/architectures/encoder_architecture.hpp"
#include "model/checkpoint.hpp"
#include "model/hyper_parameters.hpp"
#include "model/model.hpp"
#include "tensor/device.hpp"

namespace tidemill::model {

// y = x W^T (+ bias)
struct Projection {
  std::unique_ptr<tensor::Weight> weight;  // [outputs][inputs]
  std::vector<float> bias;                 // [outputs], or empty
};

// As an operand of Device::linear.
tensor::Product product(const Projection& projection, tensor::Matrix y);

struct Expert {
  Projection gate;  // [feed_forward][width]
  Projection up;    // [feed_forward][width]
  Projection down;  // [width][feed_forward]
};

// Of latent attention (LatentShape).
struct LatentWeights {
  Projection query_down;               // [query_rank][width]; without a weight where queries are of the hidden state
  std::vector<float> query_down_norm;  // [query_rank], or empty
  Projection query;                    // [heads * (key_dim + rotated)][query_rank or width]
  Projection latent;                   // [head_dim][width]: the latent, and the rotated part behind it
  std::vector<float> norm;             // [rank]
  // Of each head.
  std::vector<Projection> key_up;    // [rank][key_dim]: the transpose of what would make its key of a latent
  std::vector<Projection> value_up;  // [value_dim][rank]
};

struct AttentionWeights {
  LatentWeights latent;           // in place of query, key and value; or without weights
  Projection query;               // [heads * head_dim][width]
  Projection key;                 // [kv_heads * head_dim][width]
  Projection value;               // [kv_heads * head_dim][width]
  Projection query_key_value;     // these three in one, one below the other; or without a weight
  std::vector<float> query_norm;  // [head_dim], or empty
  std::vector<float> key_norm;    // [head_dim], or empty
  std::vector<float> sinks;       // [heads], or empty
  Projection output;              // [width][attended_width()]
};

struct FeedForwardWeights {
  Projection gate;         // [feed_forward][width]
  Projection up;           // [feed_forward][width]
  Projection gate_and_up;  // these two in one; or without a weight
  Projection down;         // [width][feed_forward]
};

// A feed-forward block of experts (ExpertShape).
struct MixtureWeights {
  Projection router;                         // [experts][width]; without a weight where there is no mixture
  std::vector<float> score_correction_bias;  // [experts] of the scores that choose, or empty
  std::vector<Expert> experts;               // of experts.feed_forward
  Expert shared;                             // of experts.shared_feed_forward; without weights where there is none
  Projection shared_gate;                    // [1][width]; without a weight where it counts wholly
};

struct LayerWeights {
  std::vector<float> attention_norm;  // [width]
  AttentionWeights attention;
  std::vector<float> post_attention_norm;     // [width], or empty
  std::vector<float> feed_forward_norm;       // [width]
  FeedForwardWeights feed_forward;            // without weights where the layer is a mixture,
  MixtureWeights mixture;                     // and this is where it is none
  std::vector<float> post_feed_forward_norm;  // [width], or empty
};

struct Weights {
  std::unique_ptr<tensor::Weight> token_embedding;  // [vocabulary][width]
  std::vector<LayerWeights> layers;
  std::vector<float> output_norm;                   // [width]
  std::unique_ptr<tensor::Weight> output;           // [vocabulary][width]; null where the embedding serves for both
  size_t bytes = 0;                                 // on the device, norms and biases included
  std::shared_ptr<const base::MappedFile> mapping;  // of a packed file: the matrices lie in it
};

struct LayerNorm {
  std::vector<float> weight;  // [width]
  std::vector<float> bias;    // [width]
};

struct EncoderLayerWeights {
  Projection query;             // [heads * head_dim][width]
  Projection key;               // [kv_heads * head_dim][width]
  Projection value;             // [kv_heads * head_dim][width]
  Projection attention_output;  // [width][heads * head_dim]
  LayerNorm attention_norm;
  Projection up;    // [feed_forward][width]
  Projection down;  // [width][feed_forward]
  LayerNorm output_norm;
};

struct EncoderWeights {
  std::unique_ptr<tensor::Weight> token_embedding;     // [vocabulary][width]
  std::unique_ptr<tensor::Weight> position_embedding;  // [context][width]
  std::unique_ptr<tensor::Weight> type_embedding;      // [token_types][width]; null without those
  LayerNorm embedding_norm;
  std::vector<EncoderLayerWeights> layers;
  Projection pooler;                                // [width][width] of a reranker; no weight where it has none
  Projection score;                                 // [1][width] of a reranker
  size_t bytes = 0;                                 // as of Weights
  std::shared_ptr<const base::MappedFile> mapping;  // likewise
};

// The numbers that shapes of tensors follow from, for errors.
std::string numbers_of(const HyperParameters& hyper);

// That the file has every tensor that the architecture wants, in the shapes that the hyper-parameters want. Errors: a
// missing tensor is `not_found`; a wrong shape is `corrupt` and the message gives both.
base::Result<void> check_tensors(const Checkpoint& file, const Architecture& architecture,
                                 const HyperParameters& hyper);

// The same, then loads. From a plain file, packs every tensor that the architecture names onto the device, one after
// another, releasing each one's pages of the file: the most memory ever used is about that of the packed weights, and
// of one tensor where the file has it in another form. Of a packed file nothing is copied, but its norms and biases;
// every tensor's checksum is verified, and a damaged one is `corrupt`. Further errors: `corrupt` naming the tensor and
// the element where a weight is NaN or infinite (finite.hpp), `unsupported` for a packed file of another layout,
// `exhausted` when memory is short.
base::Result<Weights> load_weights(const Checkpoint& file, const Architecture& architecture,
                                   const HyperParameters& hyper, tensor::Device& device, const LoadOptions& options);

// Both for an encoder.
base::Result<void> check_encoder_tensors(const Checkpoint& file, const EncoderArchitecture& architecture,
                                         const EncoderParameters& parameters);
base::Result<EncoderWeights> load_encoder_weights(const Checkpoint& file, const EncoderArchitecture& architecture,
                                                  const EncoderParameters& parameters, tensor::Device& device,
                                                  const LoadOptions& options);

}  // namespace tidemill::model
