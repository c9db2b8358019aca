// The feed-forward block of a mixture's layers: a router chooses some of a layer's experts for each row, and what these
// give is added up by the weights of that choice, beside an expert that all rows use where there is one.
//
//   out = sum over the experts e chosen for h of weight_e * Wdown_e (activation(Wgate_e h) * Wup_e h)
//
// Each expert is computed for all rows that chose it at once. Every row's experts are added in the order of their
// numbers, so that what a row gets does not depend on the others.
#pragma once

#include <memory>
#include <span>
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
  // Sorts these choices by expert into routed_rows_ and routed_weights_.
  void sort_choices(int64_t rows);
  // Leaves in `out` what the expert that all rows use gives, or zeros.
  void share(const MixtureWeights& mixture, tensor::ConstMatrix normed, tensor::Matrix out);
  // Adds what the chosen experts give of one row: the first products of all of them are one operation.
  void add_experts_of_row(const MixtureWeights& mixture, tensor::ConstMatrix normed, tensor::Matrix out);
  // Adds what `expert` gives of the named rows of `normed` to those of `out`, times their weights.
  void add_expert(const Expert& expert, int64_t inner, std::span<const int32_t> named, std::span<const float> weights,
                  tensor::ConstMatrix normed, tensor::Matrix out);

  tensor::Device& device_;
  const HyperParameters& hyper_;

  std::vector<int32_t> chosen_;        // [rows][used] experts
  std::vector<float> chosen_weights_;  // likewise
  std::vector<int32_t> routed_rows_;   // the rows of the first expert, then of the next, ...
  std::vector<float> routed_weights_;  // likewise
  std::vector<size_t> routed_starts_;  // [experts + 1] where they begin
  std::vector<int32_t> all_rows_;      // 0, 1, 2, ...
  std::vector<float> ones_;            // as many

  ActivationArena arena_;
  // Where its activations begin. [max_rows, or experts that a row uses][...]
  size_t normed_ = 0;    // [width]
  size_t router_ = 0;    // [experts]
  size_t gathered_ = 0;  // [width]
  size_t gate_ = 0;      // [inner width of an expert]
  size_t up_ = 0;        // likewise
  size_t given_ = 0;     // [width] what an expert gives
};

}  // namespace tidemill::model
