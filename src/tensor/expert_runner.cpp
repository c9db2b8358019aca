#include "tensor/expert_runner.hpp"

#include <algorithm>
#include <cassert>

#include "tensor/expert_rows.hpp"

namespace tidemill::tensor {
namespace {

// Element operations that are worth handing to another thread.
constexpr int64_t kAddCost = 32 * 1024;

Matrix batch_room(std::vector<float>& space, int64_t rows, int64_t cols) {
  const auto size = static_cast<size_t>(rows * cols);
  if (space.size() < size) space.resize(size);
  return {space.data(), rows, cols, cols};
}

Matrix batch_rows(Matrix x, size_t first, size_t count) {
  return {x.row(static_cast<int64_t>(first)), static_cast<int64_t>(count), x.cols, x.stride};
}

Product expert_product(const ExpertMatrices::One& matrix, Matrix y) {
  return {matrix.weight, matrix.bias, y};
}

}  // namespace

void ExpertRunner::run(std::span<const ExpertMatrices> experts, Activation activation, ConstMatrix x,
                       std::span<const int32_t> chosen, std::span<const float> weights, Matrix out) {
  assert(chosen.size() == weights.size() && out.rows == x.rows && out.cols == x.cols);
  if (chosen.empty()) return;
  used_ = chosen.size() / static_cast<size_t>(x.rows);
  assert(used_ * static_cast<size_t>(x.rows) == chosen.size());
  sort(experts.size(), chosen, weights);

  const Places all = {0, chosen.size()};
  products_.clear();
  for_experts(all, [&](size_t expert, size_t /*first*/, size_t /*count*/) {
    products_.push_back({expert_product(experts[expert].gate, {}), 0});
    products_.push_back({expert_product(experts[expert].up, {}), 0});
  });
  rows_.make_ready(products_, x);
  const int64_t floats = 2 * experts[0].gate.weight->rows() + x.cols;
  const auto most = static_cast<size_t>(std::max(kMostLinearRows, batch_floats_ / floats));
  for (Places places = batch(0, most); places.first < all.end; places = batch(places.end, most)) {
    multiply(experts, activation, places);
    add_up(places, out);
  }
}

void ExpertRunner::sort(size_t experts, std::span<const int32_t> chosen, std::span<const float> weights) {
  starts_.assign(experts + 1, 0);
  for (const int32_t expert : chosen)
    ++starts_[static_cast<size_t>(expert) + 1];
  for (size_t e = 0; e < experts; ++e)
    starts_[e + 1] += starts_[e];
  row_of_.resize(chosen.size());
  weight_of_.resize(chosen.size());
  places_of_.resize(chosen.size());
  std::vector<size_t> next(starts_.begin(), starts_.end() - 1);
  for (size_t i = 0; i < chosen.size(); ++i) {
    const size_t place = next[static_cast<size_t>(chosen[i])]++;
    row_of_[place] = static_cast<int32_t>(i / used_);
    weight_of_[place] = weights[i];
    places_of_[i] = place;
  }
  for (auto row = places_of_.begin(); row != places_of_.end(); row += static_cast<std::ptrdiff_t>(used_))
    std::sort(row, row + static_cast<std::ptrdiff_t>(used_));
}

ExpertRunner::Places ExpertRunner::batch(size_t first, size_t most) const {
  const size_t all = row_of_.size();
  if (all - first <= most) return {first, all};
  // To the end of the last expert that fits; where none does, a part of one.
  const size_t end = *std::prev(std::upper_bound(starts_.begin(), starts_.end(), first + most));
  return {first, end > first ? end : first + most};
}

template <typename OnRun>
void ExpertRunner::for_experts(const Places& places, const OnRun& on_run) const {
  auto expert = static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), places.first) - starts_.begin());
  for (size_t first = places.first; first < places.end; ++expert) {
    const size_t end = std::min(starts_[expert], places.end);
    if (end > first) on_run(expert - 1, first, end - first);
    first = end;
  }
}

void ExpertRunner::multiply(std::span<const ExpertMatrices> experts, Activation activation, const Places& places) {
  const auto count = static_cast<int64_t>(places.end - places.first);
  const Matrix gate = batch_room(gate_, count, experts[0].gate.weight->rows());
  const Matrix up = batch_room(up_, count, gate.cols);
  const Matrix given = batch_room(given_, count, experts[0].down.weight->rows());
  // One row is ready where it is, for all experts.
  const bool lone = row_of_.size() == used_;
  products_.clear();
  for_experts(places, [&](size_t expert, size_t first, size_t rows) {
    const size_t at = first - places.first;
    const int64_t ready = lone ? 0 : static_cast<int64_t>(at);
    products_.push_back({expert_product(experts[expert].gate, batch_rows(gate, at, rows)), ready});
    products_.push_back({expert_product(experts[expert].up, batch_rows(up, at, rows)), ready});
  });
  if (!lone) placed_.take_ready(rows_, std::span(row_of_).subspan(places.first, places.end - places.first));
  (lone ? rows_ : placed_).multiply(products_);

  products_.clear();
  for_experts(places, [&](size_t expert, size_t first, size_t rows) {
    const size_t at = first - places.first;
    products_.push_back({expert_product(experts[expert].down, batch_rows(given, at, rows)), static_cast<int64_t>(at)});
  });
  gated_.make_ready(products_, Gated{activation, gate, up});
  gated_.multiply(products_);
}

// In the order of places, which is that of the experts' numbers, batch after batch.
void ExpertRunner::add_up(const Places& places, Matrix out) {
  const int64_t cost = out.cols * static_cast<int64_t>(places.end - places.first) / out.rows + 1;
  team_.parallel_for(out.rows, kAddCost / cost + 1, [&](int64_t begin, int64_t end, int /*member*/) {
    for (int64_t r = begin; r < end; ++r) {
      for (size_t i = static_cast<size_t>(r) * used_; i < (static_cast<size_t>(r) + 1) * used_; ++i) {
        const size_t place = places_of_[i];
        if (place < places.first || place >= places.end) continue;
        const float* given = given_.data() + static_cast<int64_t>(place - places.first) * out.cols;
        add_scaled_row(out.row(r), given, weight_of_[place], out.cols);
      }
    }
  });
}

}  // namespace tidemill::tensor
