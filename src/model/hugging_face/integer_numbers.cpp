// What the tensors of an IntegerMatrix stand for.
#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "model/hugging_face/integer_matrix.hpp"
#include "model/metadata.hpp"

namespace tidemill::model {
namespace {

using tensor::DType;

constexpr int64_t kBlock = 32;  // columns of Q4_0's and Q8_0's
// Rows that are made at a time: as many words of GPTQ's codes as there are in a cache line.
constexpr int64_t kTileRows = 16;
// Which four bits of a word have row i of eight.
constexpr std::array<int, 8> kAwqPlace = {0, 4, 1, 5, 2, 6, 3, 7};

bool is_f16(float value) {
  return std::isfinite(value) && tensor::f16_to_f32(tensor::f32_to_f16(value)) == value;
}

float rounded_to(DType type, float value) {
  std::array<std::byte, sizeof value> bytes{};
  tensor::quantize(type, &value, 1, bytes.data());
  tensor::dequantize(type, bytes.data(), 1, &value);
  return value;
}

}  // namespace

// Calls take(group, first column, column behind the last) for columns beside each other that are of one group.
template <typename Take>
void IntegerMatrix::for_each_run(const Take& take) const {
  if (groups_of_cols_.empty()) {
    for (int64_t group = 0; group < groups_; ++group)
      take(group, group * group_cols_, std::min((group + 1) * group_cols_, cols_));
    return;
  }
  for (int64_t col = 0; col < cols_; ++col)
    take(groups_of_cols_[static_cast<size_t>(col)], col, col + 1);
}

float IntegerMatrix::scale(int64_t row, int64_t group) const {
  const bool by_groups = codes_.form == IntegerForm::gptq || codes_.form == IntegerForm::awq;
  const int64_t index = one_scale_ ? 0 : by_groups ? group * rows_ + row : row * groups_ + group;
  float value = 0;
  tensor::dequantize(*scales_->type, scales_->data.data() + index * tensor::info(*scales_->type).block_bytes, 1,
                     &value);
  return value;
}

int IntegerMatrix::zero(int64_t row, int64_t group) const {
  const int64_t in_word = 32 / codes_.bits;
  const uint32_t ones = (uint32_t{1} << codes_.bits) - 1;
  if (zeros_ == nullptr) return codes_.form == IntegerForm::packed ? 1 << (codes_.bits - 1) : 0;
  switch (codes_.form) {
    case IntegerForm::gptq: {
      const uint32_t word = word_at(*zeros_, group * parts_of(rows_, in_word) + row / in_word);
      const uint32_t stored = word >> (row % in_word * codes_.bits) & ones;
      return static_cast<int>(stored) + (codes_.zeros_less_one ? 1 : 0);
    }
    case IntegerForm::awq: {
      const uint32_t word = word_at(*zeros_, group * (rows_ / 8) + row / 8);
      return static_cast<int>(word >> (kAwqPlace[static_cast<size_t>(row % 8)] * 4) & ones);
    }
    case IntegerForm::packed: {
      if (one_scale_) return static_cast<int>(word_at(*zeros_, 0) & ones);
      return static_cast<int>(word_at(*zeros_, row / in_word * groups_ + group) >> (row % in_word * codes_.bits) &
                              ones);
    }
    case IntegerForm::plain:
    case IntegerForm::none:
      break;
  }
  return static_cast<int8_t>(zeros_->data[static_cast<size_t>(one_scale_ ? 0 : row * groups_ + group)]);
}

bool IntegerMatrix::scales_are_f16() const {
  if (*scales_->type == DType::f16) return true;
  const int64_t size = tensor::info(*scales_->type).block_bytes;
  const auto count = static_cast<int64_t>(scales_->data.size()) / size;
  std::array<float, 256> values;
  for (int64_t i = 0; i < count;) {
    const int64_t some = std::min<int64_t>(count - i, values.size());
    tensor::dequantize(*scales_->type, scales_->data.data() + i * size, some, values.data());
    if (!std::all_of(values.begin(), values.begin() + some, is_f16)) return false;
    i += some;
  }
  return true;
}

int IntegerMatrix::largest_code(int64_t row, int64_t group) const {
  const int first = codes_.form == IntegerForm::plain ? -128 : 0;
  const int last = first + (1 << codes_.bits) - 1;
  const int none = zero(row, group);
  return std::max(std::abs(first - none), std::abs(last - none));
}

template <typename Take>
void IntegerMatrix::for_each_scale(const Take& take) const {
  const int64_t rows = one_scale_ ? 1 : rows_;
  const int64_t groups = one_scale_ ? 1 : groups_;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      if (take(row, group, scale(row, group))) return;
    }
  }
}

std::string IntegerMatrix::explain(DType type, float value) const {
  const auto said = [&](int64_t row, int64_t group, std::string_view what) {
    const std::string which = one_scale_ ? "" : fmt::format(" of row {} and group {}", row, group);
    return fmt::format("the scale{} in '{}' is {}", which, printable(scales_->name), what);
  };
  std::string why;
  for_each_scale([&](int64_t row, int64_t group, float scale) {
    if (!std::isfinite(scale)) why = said(row, group, std::isnan(scale) ? "NaN" : fmt::format("{}", scale));
    return !why.empty();
  });
  if (!why.empty() || std::isnan(value)) return why;
  for_each_scale([&](int64_t row, int64_t group, float scale) {
    if (std::isfinite(rounded_to(type, scale * static_cast<float>(largest_code(row, group))))) return false;
    why = said(row, group, fmt::format("{}, and times its codes too large for {}", scale, tensor::info(type).name));
    return true;
  });
  return why;
}

DType IntegerMatrix::number_type() const {
  bool holds = true;
  if (*scales_->type == DType::f16) {
    for_each_scale([&](int64_t row, int64_t group, float scale) {
      holds = !std::isfinite(scale) ||
              std::isfinite(rounded_to(DType::f16, scale * static_cast<float>(largest_code(row, group))));
      return !holds;
    });
  }
  return holds ? *scales_->type : DType::f32;
}

std::optional<DType> IntegerMatrix::find_block_type() const {
  const bool whole_blocks = groups_of_cols_.empty() && cols_ % kBlock == 0 && group_cols_ % kBlock == 0;
  if (!whole_blocks || !scales_are_f16()) return std::nullopt;
  // Codes less their zero are -half to half - 1 with this one.
  const int half = codes_.form == IntegerForm::plain ? 0 : 1 << (codes_.bits - 1);
  bool usual = true;
  for (int64_t row = 0; zeros_ != nullptr && usual && row < rows_; ++row) {
    for (int64_t group = 0; usual && group < groups_; ++group)
      usual = zero(row, group) == half;
  }
  if (codes_.bits == 4) return usual ? DType::q4_0 : DType::q8_0;
  return usual ? std::optional(DType::q8_0) : std::nullopt;
}

// Some rows as whole numbers, and what they are times.
struct IntegerMatrix::Tile {
  std::vector<int16_t> less_zero;  // [rows][cols]: the codes less their zeros
  std::vector<int16_t> zeros;      // [rows][groups]
  std::vector<float> scales;       // [rows][groups]
};

void IntegerMatrix::read_codes(int64_t first, int64_t count, Tile& tile) const {
  tile.less_zero.resize(static_cast<size_t>(count * cols_));
  tile.zeros.resize(static_cast<size_t>(count * groups_));
  tile.scales.resize(static_cast<size_t>(count * groups_));
  for (int64_t i = 0; i < count * groups_; ++i) {
    tile.zeros[static_cast<size_t>(i)] = static_cast<int16_t>(zero(first + i / groups_, i % groups_));
    tile.scales[static_cast<size_t>(i)] = scale(first + i / groups_, i % groups_);
  }
  int16_t* const out = tile.less_zero.data();
  const SafetensorsTensor& source = *found_.tensor;
  const int64_t in_word = 32 / codes_.bits;
  const uint32_t ones = (uint32_t{1} << codes_.bits) - 1;
  switch (codes_.form) {
    case IntegerForm::gptq:
      for (int64_t words = 0; words < cols_ / in_word; ++words) {
        for (int64_t row = 0; row < count; ++row) {
          uint32_t word = word_at(source, words * rows_ + first + row);
          int16_t* const at = out + row * cols_ + words * in_word;
          for (int64_t i = 0; i < in_word; ++i, word >>= codes_.bits)
            at[i] = static_cast<int16_t>(word & ones);
        }
      }
      break;
    case IntegerForm::awq:
      for (int64_t col = 0; col < cols_; ++col) {
        for (int64_t row = 0; row < count; ++row) {
          const uint32_t word = word_at(source, col * (rows_ / 8) + (first + row) / 8);
          out[row * cols_ + col] =
              static_cast<int16_t>(word >> (kAwqPlace[static_cast<size_t>((first + row) % 8)] * 4) & ones);
        }
      }
      break;
    case IntegerForm::packed:
      for (int64_t row = 0; row < count; ++row) {
        int64_t words = (first + row) * parts_of(cols_, in_word);
        for (int64_t col = 0; col < cols_; col += in_word) {
          uint32_t word = word_at(source, words++);
          for (int64_t i = col; i < std::min(col + in_word, cols_); ++i, word >>= codes_.bits)
            out[row * cols_ + i] = static_cast<int16_t>(word & ones);
        }
      }
      break;
    case IntegerForm::plain:
    case IntegerForm::none:
      for (int64_t i = 0; i < count * cols_; ++i)
        out[i] = static_cast<int8_t>(source.data[static_cast<size_t>(first * cols_ + i)]);
      break;
  }
  for (int64_t row = 0; row < count; ++row) {
    for_each_run([&](int64_t group, int64_t begin, int64_t end) {
      const int zero = tile.zeros[static_cast<size_t>(row * groups_ + group)];
      for (int64_t i = row * cols_ + begin; i < row * cols_ + end; ++i)
        out[i] = static_cast<int16_t>(out[i] - zero);
    });
  }
}

namespace {

// Blocks of one row: the scale, then 32 codes, of which Q4_0 has the first 16 in the low halves of its bytes.
void write_row_of_blocks(DType type, const int16_t* codes, const float* scales, int64_t cols, int64_t group_cols,
                         std::byte* to) {
  for (int64_t col = 0; col < cols; col += kBlock, codes += kBlock) {
    const uint16_t scale = tensor::f32_to_f16(scales[col / group_cols]);
    std::memcpy(to, &scale, sizeof scale);
    to += sizeof scale;
    if (type == DType::q8_0) {
      for (int64_t i = 0; i < kBlock; ++i)
        *to++ = static_cast<std::byte>(codes[i]);
    } else {
      for (int64_t i = 0; i < kBlock / 2; ++i)
        *to++ = static_cast<std::byte>((codes[i] + 8) | (codes[i + kBlock / 2] + 8) << 4);
    }
  }
}

}  // namespace

void IntegerMatrix::write_rows(DType type, int64_t first, int64_t count, std::span<std::byte> to) const {
  const auto row_bytes = static_cast<size_t>(tensor::row_bytes(type, cols_));
  assert(first >= 0 && first + count <= rows_ && to.size() == static_cast<size_t>(count) * row_bytes);
  const bool blocks = type == DType::q4_0 || type == DType::q8_0;
  Tile tile;
  std::vector<float> numbers(static_cast<size_t>(cols_));
  for (int64_t some = 0; count > 0; first += some, count -= some) {
    some = std::min(count, kTileRows - first % kTileRows);
    read_codes(first, some, tile);
    for (int64_t row = 0; row < some; ++row, to = to.subspan(row_bytes)) {
      const int16_t* const codes = tile.less_zero.data() + row * cols_;
      const float* const scales = tile.scales.data() + row * groups_;
      if (blocks) {
        write_row_of_blocks(type, codes, scales, cols_, group_cols_, to.data());
        continue;
      }
      for_each_run([&](int64_t group, int64_t begin, int64_t end) {
        for (int64_t col = begin; col < end; ++col)
          numbers[static_cast<size_t>(col)] = static_cast<float>(codes[col]) * scales[group];
      });
      tensor::quantize(type, numbers.data(), cols_, to.data());
    }
  }
}

}  // namespace tidemill::model
