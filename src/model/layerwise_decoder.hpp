// A decoder that has the weights of a part of one layer in memory at a time: for work that goes through a text layer by
// layer, with models that are larger than memory. The hidden states of all rows are the caller's, between the parts:
//
//   embed(tokens, hidden)
//   each layer, each part:  load(layer, part), then forward() for every sequence, from its first row to its last
//   normalise(hidden), which is what the output matrix is multiplied by
//
// Bits are those of the model that load_model() gives (load.hpp).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/memory.hpp"
#include "base/result.hpp"
#include "model/architectures/architecture.hpp"
#include "model/checkpoint.hpp"
#include "model/decoder.hpp"
#include "model/tensor_loader.hpp"
#include "tensor/device.hpp"

namespace tidemill::model {

enum class LayerPart : uint8_t {
  attention,     // its norms, and all up to its output projection
  feed_forward,  // its norms, and the block or the mixture
};
inline constexpr std::array kLayerParts = {LayerPart::attention, LayerPart::feed_forward};

// Not thread-safe.
class LayerwiseDecoder {
 public:
  // Checks all tensors and loads no matrix. Sequences are of up to options.context tokens, forward() takes up to
  // options.max_batch_rows rows; options.on_matrix is told of a part's matrices when it is loaded. Both must outlive
  // it. Errors: those of load_model(), but for what only a look at weights shows; `unsupported` for packed files.
  static base::Result<std::unique_ptr<LayerwiseDecoder>> create(const Checkpoint& file, tensor::Device& device,
                                                                const LoadOptions& options);

  const HyperParameters& hyper_parameters() const { return hyper_; }
  // What has the output matrix: a tensor of its own, or the embedding.
  const std::string& output_tensor() const { return output_tensor_; }
  const std::string& embedding_tensor() const { return embedding_tensor_; }

  // What the first layer is given of `tokens`, [tokens][width]. Reads their rows of the embedding alone, which, where
  // the file has it in another form, is kept until a layer is loaded. `corrupt` where one is not finite.
  base::Result<void> embed(std::span<const Token> tokens, tensor::Matrix hidden);
  // Takes the place of the part before, which is freed first. Errors: those of load_model() of weights.
  base::Result<void> load(int64_t layer, LayerPart part);
  // Bytes of the part on the device.
  size_t part_bytes() const { return part_bytes_; }
  // What the loaded part makes of the rows of one sequence that stand at `position` and behind, in place. Those before
  // them went through it in the calls before.
  void forward(int64_t position, tensor::Matrix hidden);
  // After the last layer: the final norm, in place.
  void normalise(tensor::Matrix hidden);

 private:
  LayerwiseDecoder(const Checkpoint& file, const Architecture& architecture, HyperParameters hyper,
                   tensor::Device& device, const LoadOptions& options);

  const Checkpoint& file_;
  const Architecture& architecture_;
  const HyperParameters hyper_;
  tensor::Device& device_;
  TensorLoader loader_;
  std::string embedding_tensor_;
  std::string output_tensor_;
  std::vector<float> output_norm_;
  std::unique_ptr<Decoder> decoder_;  // without weights
  std::unique_ptr<tensor::KvCache> cache_;
  std::vector<int32_t> blocks_;
  int64_t loaded_ = -1;  // layer; none: -1
  LayerPart part_ = LayerPart::attention;
  LayerWeights layer_;  // the part of it
  size_t part_bytes_ = 0;
  std::span<const std::byte> table_;  // the embedding, while it is looked at
  base::Buffer made_;                 // where the file has it in another form
};

}  // namespace tidemill::model
