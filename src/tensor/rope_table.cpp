#include "tensor/rope_table.hpp"

#include <algorithm>
#include <cmath>

namespace tidemill::tensor {

bool RopeTable::holds(const Rope& rope, std::span<const int32_t> positions) const {
  return rope == rope_ && std::ranges::equal(positions, positions_);
}

void RopeTable::make(const Rope& rope, std::span<const int32_t> positions) {
  rope_ = rope;
  positions_.assign(positions.begin(), positions.end());
  stride_ = static_cast<int64_t>(rope.frequencies.size()) * 2;
  values_.resize(positions_.size() * rope.frequencies.size() * 2);
  float* out = values_.data();
  for (const int32_t position : positions_) {
    for (const double frequency : rope.frequencies) {
      const double angle = position * frequency;
      *out++ = static_cast<float>(std::cos(angle) * rope.magnitude);
      *out++ = static_cast<float>(std::sin(angle) * rope.magnitude);
    }
  }
}

const RopeTable& RopeTables::prepare(const Rope& rope, std::span<const int32_t> positions) {
  if (tables_[last_].holds(rope, positions)) return tables_[last_];
  last_ = 1 - last_;
  if (!tables_[last_].holds(rope, positions)) tables_[last_].make(rope, positions);
  return tables_[last_];
}

void rotate_row(Rope::Pairing pairing, const float* cos_sin, int64_t pairs, int64_t head_dim, int64_t heads, float* x) {
  const int64_t first_step = pairing == Rope::Pairing::adjacent ? 2 : 1;
  const int64_t second = pairing == Rope::Pairing::adjacent ? 1 : pairs;
  for (int64_t h = 0; h < heads; ++h) {
    float* head = x + h * head_dim;
    for (int64_t i = 0; i < pairs; ++i) {
      float& a = head[i * first_step];
      float& b = head[i * first_step + second];
      const float c = cos_sin[2 * i];
      const float s = cos_sin[2 * i + 1];
      const float turned_a = a * c - b * s;
      const float turned_b = a * s + b * c;
      a = turned_a;
      b = turned_b;
    }
  }
}

}  // namespace tidemill::tensor
