// From the hidden states of a text's rows to one vector for the whole text.
#pragma once

#include <span>
#include <vector>

#include "model/hyper_parameters.hpp"

namespace tidemill::engine {

// Takes rows in the order of their positions, in as many pieces as they come.
class Pooling {
 public:
  // `none`, a model that says nothing about it, means the mean.
  Pooling(model::Pooling kind, int64_t width);

  void add(std::span<const float> hidden);  // [width]
  // The pooled vector scaled to unit length; a zero vector stays zero. Empty if it is not finite.
  std::vector<float> result() const;

 private:
  model::Pooling kind_;
  std::vector<double> sum_;
  bool began_ = false;
};

}  // namespace tidemill::engine
