// The student's forward and backward passes, by hand: a Llama with tied embeddings, in ATen's operations.
//
// Nothing here uses autograd: the network is one of a kind, half of the graph's time would be bookkeeping at these
// widths, and one pass over a few windows keeps its activations in a core's own cache.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <string>
#include <vector>

#include "distill/student.hpp"

namespace tidemill::distill {

// Of weights, or of gradients by them. Query and key rows are in halves, as rotations pair them here: dimension i of a
// head with i + head_dim / 2.
struct LayerTensors {
  at::Tensor attention_norm;  // [width]
  at::Tensor qkv;             // [(heads + 2 kv_heads) * head_dim][width]
  at::Tensor output;          // [width][width]
  at::Tensor ffn_norm;        // [width]
  at::Tensor gate_up;         // [2 * feed_forward][width]
  at::Tensor down;            // [width][feed_forward]
};

struct NetworkTensors {
  at::Tensor embedding;  // [vocabulary][width]
  std::vector<LayerTensors> layers;
  at::Tensor final_norm;  // [width]

  static NetworkTensors zeros(const StudentShape& shape, int64_t vocabulary);
  std::vector<at::Tensor> all() const;
};

// A tensor, or a part of one, that GGUF has by a name of its own. Views: what is written to them is written there.
struct NamedView {
  std::string name;
  at::Tensor values;
  bool matrix = false;  // of a layer
  int64_t heads = 0;    // of a matrix whose rows are in halves by head; 0: they are as GGUF has them
};
std::vector<NamedView> named_views(const NetworkTensors& tensors, const StudentShape& shape);

// What all passes over windows of up to plan.window tokens share. Const calls are thread-safe.
class Network {
 public:
  explicit Network(const StudentPlan& plan);

  // Adds the gradients of the exercise's loss, divided by `rows`, to `gradients`, unless that is null. Runs on the
  // calling thread alone if ATen is told so, or inside at::parallel_for.
  Score run(const NetworkTensors& weights, const Exercise& exercise, double rows, NetworkTensors* gradients) const;

 private:
  struct Layer;
  class Pass;

  StudentPlan plan_;
  at::Tensor cosines_;  // [window][head_dim / 2]
  at::Tensor sines_;
  at::Tensor mask_;  // [window][window]: 0 for what a row sees, minus infinity for what comes after it
};

}  // namespace tidemill::distill
