// The feed-forward block of a mixture's layers: a router chooses some of a layer's experts for each row, and what these
// give is added up by the weights of that choice, beside an expert that all rows use where there is one.
//
//   out = sum over the experts e chosen for h of weight_e * Wdown_e (activation(Wgate_e h) * Wup_e h)
//
// Every row's experts are added in the order of their numbers, so that what a row gets does not depend on the others.
#pragma once

#include <memory>
#include <vector>

#include "base/result.hpp"
#include "model/activation_arena.hpp"
#include "model/hyper_parameters.hpp"
#include "model/weights.hpp"

namespace tidemill::model {

class MixtureBlock {
 public:
  // Of a model with experts. The device and the hyper-parameters must outlive the block. `exhausted` when there is not
  // enough memory for the activations.
  static base::Result<std::unique_ptr<MixtureBlock>> create(tensor::Device& device, const HyperParameters& hyper,
                                                            int64_t max_rows);

  // Leaves in `out` what the experts of a layer give of the normalised rows; both are [rows][width], with 1 .. max_rows
  // rows.
  void run(const MixtureWeights& mixture, const tensor::RmsNormed& input, tensor::Matrix out);

  size_t activation_bytes() const { return arena_.bytes(); }

 private:
  MixtureBlock(tensor::Device& device, const HyperParameters& hyper) : device_(device), hyper_(hyper) {}

  // Chooses the experts of all rows: chosen_ and chosen_weights_.
  void route(const MixtureWeights& mixture, tensor::ConstMatrix normed);
  // Leaves in `out` what the expert that all rows use gives, or zeros.
  void share(const MixtureWeights& mixture, tensor::ConstMatrix normed, tensor::Matrix out);

  tensor::Device& device_;
  const HyperParameters& hyper_;

  std::vector<int32_t> chosen_;                   // [rows][used] experts
  std::vector<float> chosen_weights_;             // likewise
  std::vector<tensor::ExpertMatrices> matrices_;  // [experts]

  ActivationArena arena_;
  // Where its activations begin. [max_rows][...]
  size_t normed_ = 0;  // [width]
  size_t router_ = 0;  // [experts]
  // Of the expert that all rows use:
  size_t gate_ = 0;         // [shared_feed_forward]
  size_t up_ = 0;           // likewise
  size_t shared_ = 0;       // [width] what it gives,
  size_t shared_gate_ = 0;  // [1] times this
};

}  // namespace tidemill::model
