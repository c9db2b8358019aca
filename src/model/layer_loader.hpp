// What a layer of a decoder is made of, part by part: which tensors, by the names that the architecture gives them, of
// which shape, and whether they must be there. A part that is new to all architectures is a function here, beside its
// weights (weights.hpp) and what is computed with them (decoder.hpp).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "model/architectures/architecture.hpp"
#include "model/hyper_parameters.hpp"
#include "model/tensor_loader.hpp"
#include "model/weights.hpp"

namespace tidemill::model {

// Of one layer; what it is made with must outlive it. Where `tensors` only checks, all parts come empty.
class LayerLoader {
 public:
  LayerLoader(TensorLoader& tensors, const Architecture& architecture, const HyperParameters& hyper, int64_t index);

  base::Result<LayerWeights> load();
  // Of `into` the norms and matrices of attention, or those of the feed-forward block or mixture.
  base::Result<void> load_attention(LayerWeights& into);
  base::Result<void> load_feed_forward(LayerWeights& into);

 private:
  using Name = std::string_view TensorNames::*;

  base::Result<AttentionWeights> attention();
  // Query, key and value, which are kept themselves.
  base::Result<void> heads(AttentionWeights& into);
  base::Result<LatentWeights> latents();
  // The heads' own matrices, of the one that older files have them in.
  base::Result<void> split_expansion(LatentWeights& into);
  base::Result<FeedForwardWeights> feed_forward();
  base::Result<MixtureWeights> mixture();
  // One matrix of each expert.
  base::Result<void> experts(Name name, int64_t rows, int64_t cols, Projection Expert::*part,
                             std::vector<Expert>& into);
  base::Result<Expert> shared_expert();

  // The tensor's whole name, but for its ending.
  std::string name_of(Name name) const;
  base::Result<Projection> projection(Name name, int64_t rows, int64_t cols, Presence bias = Presence::absent);
  base::Result<std::vector<float>> vector(Name name, int64_t elements, Presence presence = Presence::required);

  TensorLoader& tensors_;
  const DecoderParts& parts_;
  const TensorNames& names_;
  const HyperParameters& hyper_;
  int64_t index_;
};

}  // namespace tidemill::model
