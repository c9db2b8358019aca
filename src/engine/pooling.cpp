#include "engine/pooling.hpp"

#include <cassert>
#include <cmath>
#include <utility>

namespace tidemill::engine {

Pooling::Pooling(model::Pooling kind, int64_t width) : kind_(kind), sum_(static_cast<size_t>(width), 0.0) {}

void Pooling::add(std::span<const float> hidden) {
  assert(hidden.size() == sum_.size());
  if (kind_ == model::Pooling::first && std::exchange(began_, true)) return;
  for (size_t i = 0; i < sum_.size(); ++i) {
    const auto x = static_cast<double>(hidden[i]);
    sum_[i] = kind_ == model::Pooling::last ? x : sum_[i] + x;
  }
}

std::vector<float> Pooling::result() const {
  double squares = 0;
  for (const double x : sum_)
    squares += x * x;
  if (!std::isfinite(squares)) return {};
  const double scale = squares > 0 ? 1.0 / std::sqrt(squares) : 0.0;  // the mean's 1 / n cancels out
  std::vector<float> vector;
  vector.reserve(sum_.size());
  for (const double x : sum_)
    vector.push_back(static_cast<float>(x * scale));
  return vector;
}

}  // namespace tidemill::engine
