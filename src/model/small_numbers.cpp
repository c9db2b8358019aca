#include "model/small_numbers.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>

#include <fmt/format.h>

namespace tidemill::model {

using tensor::DType;

namespace {

constexpr float kSixBitScale = 0x1p-18F;  // 64 steps of 2^-24

struct ScaledType {
  float most;     // the largest multiple of a block's scale; of types with a minimum, of their range
  double levels;  // the largest number of a group over what two levels are apart
  double group;   // elements that share what scales them
};

// Levels 0: nothing of the type is F16.
ScaledType scaled_type(DType type) {
  switch (type) {
    case DType::f16:
      return {.most = 1, .levels = 127, .group = 32};  // held to what Q8_0 is
    case DType::q8_0:
      return {.most = 127, .levels = 127, .group = 32};
    case DType::q6_k:
      return {.most = 128 * 32, .levels = 32, .group = 16};
    case DType::q5_k:
      return {.most = 63 * 31, .levels = 15.5, .group = 32};
    case DType::q5_0:
      return {.most = 16, .levels = 16, .group = 32};
    case DType::q5_1:
      return {.most = 31, .levels = 15.5, .group = 32};
    case DType::q4_k:
      return {.most = 63 * 15, .levels = 7.5, .group = 32};
    case DType::q4_0:
      return {.most = 8, .levels = 8, .group = 32};
    case DType::q4_1:
      return {.most = 15, .levels = 7.5, .group = 32};
    case DType::iq4_nl:
      return {.most = 127, .levels = 127 / 24.0, .group = 32};  // its levels are up to 24 apart
    case DType::iq4_xs:
      return {.most = 32 * 127, .levels = 127 / 24.0, .group = 32};
    case DType::q3_k:
      return {.most = 32 * 4, .levels = 4, .group = 16};
    case DType::q2_k:
      return {.most = 15 * 3, .levels = 1.5, .group = 16};
    default:
      return {.most = 0, .levels = 0, .group = 0};
  }
}

}  // namespace

SmallNumbers::SmallNumbers(DType type, int64_t cols, bool one_scale) : type_(type), cols_(cols) {
  const ScaledType scaled = scaled_type(type);
  if (scaled.levels == 0) return;
  least_peak_ = scaled.most * kSixBitScale;
  // The worst block has one large number, and all are half a level off: root(group) / (2 levels) of it.
  const double group = one_scale ? static_cast<double>(cols) : scaled.group;
  most_loss_ = std::sqrt(group) / (4 * scaled.levels);
}

SmallNumbers::Row SmallNumbers::look_at(const float* values, const std::byte* rounded,
                                        std::vector<float>& decoded) const {
  constexpr int64_t lanes = 8;  // sums beside each other, as vectors have them
  std::array<double, lanes> squares{};
  std::array<float, lanes> peaks{};
  const auto add = [&](int64_t i, size_t lane) {
    squares[lane] += static_cast<double>(values[i]) * values[i];
    peaks[lane] = std::max(peaks[lane], std::fabs(values[i]));
  };
  int64_t i = 0;
  for (; i + lanes <= cols_; i += lanes) {
    for (size_t lane = 0; lane < lanes; ++lane)
      add(i + static_cast<int64_t>(lane), lane);
  }
  for (; i < cols_; ++i)
    add(i, 0);
  Row row;
  for (size_t lane = 0; lane < lanes; ++lane) {
    row.squares += squares[lane];
    row.peak = std::max(row.peak, peaks[lane]);
  }
  if (row.peak == 0 || row.peak >= least_peak_) return row;
  decoded.resize(static_cast<size_t>(cols_));
  tensor::dequantize(type_, rounded, cols_, decoded.data());
  for (int64_t c = 0; c < cols_; ++c) {
    const double off = static_cast<double>(values[c]) - decoded[static_cast<size_t>(c)];
    row.errors += off * off;
  }
  return row;
}

void SmallNumbers::add(std::span<const float> values, std::span<const std::byte> rounded, base::ThreadTeam* team) {
  if (!can_be()) return;
  const int64_t rows = static_cast<int64_t>(values.size()) / cols_;
  const int64_t row_bytes = tensor::row_bytes(type_, cols_);
  assert(static_cast<int64_t>(rounded.size()) == rows * row_bytes);
  rows_.resize(static_cast<size_t>(rows));
  const auto look = [&](int64_t begin, int64_t end, int /*member*/) {
    std::vector<float> decoded;
    for (int64_t r = begin; r < end; ++r) {
      rows_[static_cast<size_t>(r)] = look_at(values.data() + r * cols_, rounded.data() + r * row_bytes, decoded);
    }
  };
  if (team != nullptr) {
    team->parallel_for(rows, 16, look);
  } else {
    look(0, rows, 0);
  }
  for (const Row& row : rows_) {
    sum_.squares += row.squares;
    sum_.errors += row.errors;
    sum_.peak = std::max(sum_.peak, row.peak);
  }
}

std::optional<double> SmallNumbers::loss() const {
  if (sum_.squares == 0) return std::nullopt;
  const double lost = std::sqrt(sum_.errors / sum_.squares);
  return lost > most_loss_ ? std::optional(lost) : std::nullopt;
}

std::string SmallNumbers::fault() const {
  const bool blocks = tensor::info(type_).block_elements > 1;
  return fmt::format("holds numbers up to {:g} in size, which are too small for {}{}: they would be {:.3g} % off",
                     sum_.peak, blocks ? "the scales of " : "", tensor::info(type_).name, 100 * loss().value_or(0));
}

}  // namespace tidemill::model
