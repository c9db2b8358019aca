// The experts of a mixture on the CPU device: what rows chose is sorted by expert, so that each expert is multiplied
// once with all rows that chose it, and many experts are one list of work.
//
// A choice has a place: those of the first expert come first, in the order of their rows. Each row is quantised once;
// its codes are then copied to its places. Places are taken some hundreds at a time, whole experts where that can be,
// so that what lies between the products stays in the cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_team.hpp"
#include "tensor/device.hpp"
#include "tensor/kernels.hpp"
#include "tensor/linear_runner.hpp"

namespace tidemill::tensor {

class ExpertRunner {
 public:
  // What a batch of places keeps between its products, in floats, had best stay within a part of the last cache. But
  // weights are read anew for every batch that has a part of their rows, so there are at least kMostLinearRows places.
  static constexpr int64_t kBatchFloats = 2 * 1024 * 1024;

  ExpertRunner(const Kernels& kernels, ActivationScheme activations, base::ThreadTeam& team,
               int64_t batch_floats = kBatchFloats)
      : team_(team),
        batch_floats_(batch_floats),
        rows_(kernels, activations, team),
        placed_(kernels, activations, team),
        gated_(kernels, activations, team) {}

  // As Device::add_experts().
  void run(std::span<const ExpertMatrices> experts, Activation activation, ConstMatrix x,
           std::span<const int32_t> chosen, std::span<const float> weights, Matrix out);

 private:
  // Places of one batch: first .. end - 1.
  struct Places {
    size_t first;
    size_t end;
  };

  // Gives every choice its place.
  void sort(size_t experts, std::span<const int32_t> chosen, std::span<const float> weights);
  // As many places from `first` on as make a batch.
  Places batch(size_t first, size_t most) const;
  void multiply(std::span<const ExpertMatrices> experts, Activation activation, const Places& places);
  // Calls on_run(expert, first place, places) for the stretches of a batch that are of one expert.
  template <typename OnRun>
  void for_experts(const Places& places, const OnRun& on_run) const;
  void add_up(const Places& places, Matrix out);

  base::ThreadTeam& team_;
  int64_t batch_floats_;
  LinearRunner rows_;    // has the rows ready
  LinearRunner placed_;  // has them ready at the places of a batch
  LinearRunner gated_;   // has what they become between the products
  // Of the operation that runs:
  size_t used_ = 0;                // by each row
  std::vector<size_t> starts_;     // [experts + 1] places
  std::vector<int32_t> row_of_;    // [places]
  std::vector<float> weight_of_;   // [places]
  std::vector<size_t> places_of_;  // [rows][used_], ascending
  std::vector<float> gate_;        // [places of a batch][inner]
  std::vector<float> up_;          // likewise
  std::vector<float> given_;       // [places of a batch][width]
  std::vector<LinearRunner::RowsProduct> products_;
};

}  // namespace tidemill::tensor
