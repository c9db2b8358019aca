// A decoder that has one layer's weights in memory at a time: for work that goes through a text layer by layer, with
// models that are larger than memory. The hidden states of all rows are the caller's, between the layers:
//
//   embed(tokens, hidden)
//   each layer:  load(layer), then forward() for every sequence, from its first row to its last
//   normalise(hidden), which is what the output matrix is multiplied by
//
// Bits are those of the model that load_model() gives (load.hpp).
#pragma once

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

// Not thread-safe.
class LayerwiseDecoder {
 public:
  // Checks all tensors and loads no matrix. Sequences are of up to options.context tokens, forward() takes up to
  // options.max_batch_rows rows; options.on_matrix is told of a layer's matrices when it is loaded. Both must outlive
  // it. Errors: those of load_model(), but for what only a look at weights shows; `unsupported` for packed files.
  static base::Result<std::unique_ptr<LayerwiseDecoder>> create(const Checkpoint& file, tensor::Device& device,
                                                                const LoadOptions& options);

  const HyperParameters& hyper_parameters() const { return hyper_; }
  // What has the output matrix: a tensor of its own, or the embedding.
  const std::string& output_tensor() const { return output_tensor_; }
  const std::string& embedding_tensor() const { return embedding_tensor_; }

  // What the first layer is given of `tokens`, [tokens][width]. Reads their rows of the embedding alone. `corrupt`
  // where one is not finite.
  base::Result<void> embed(std::span<const Token> tokens, tensor::Matrix hidden);
  // Takes the place of the layer before, which is freed first. Errors: those of load_model() of weights.
  base::Result<void> load(int64_t layer);
  // Bytes of the layer on the device.
  size_t layer_bytes() const { return layer_bytes_; }
  // What the loaded layer makes of the rows of one sequence that stand at `position` and behind, in place. Those before
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
  int64_t loaded_ = -1;
  LayerWeights layer_;
  size_t layer_bytes_ = 0;
  base::Buffer made_;  // the embedding, where the file has it in another form
};

}  // namespace tidemill::model
