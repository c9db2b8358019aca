#include "model/hugging_face/joined_experts.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "model/metadata.hpp"

namespace tidemill::model {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

constexpr int64_t kGroupBytes = 16;                  // of codes
constexpr int64_t kGroupElements = 2 * kGroupBytes;  // as many as a block of MXFP4 has
constexpr int64_t kBlockBytes = 1 + kGroupBytes;     // GGUF's: the scale, then the codes

Error error_of(const FolderWeights::Found& found, ErrorCode code, std::string_view message) {
  return Error(code,
               fmt::format("{}: tensor '{}' {}", found.file->path().string(), printable(found.tensor->name), message));
}

Error wrong_shape(const FolderWeights::Found& found, std::string_view wanted) {
  return error_of(found, ErrorCode::corrupt,
                  fmt::format("has the shape [{}]; expected {}", fmt::join(found.tensor->shape, ", "), wanted));
}

// That the tensor is one of `experts` alike parts of `rank` - 1 dimensions, whose dimension `row_dimension` has whole
// turns of rows.
Result<void> check_extents(const FolderWeights::Found& found, int64_t experts, size_t rank, size_t row_dimension,
                           const TakenRows& taken, std::string_view wanted) {
  const std::vector<int64_t>& shape = found.tensor->shape;
  const bool fits = shape.size() == rank && shape[0] == experts && shape[row_dimension] % taken.step == 0;
  return fits ? Result<void>() : Result<void>(wrong_shape(found, wanted));
}

Result<tensor::DType> plain_type(const FolderWeights::Found& found) {
  if (found.tensor->type) return *found.tensor->type;
  return error_of(found, ErrorCode::unsupported,
                  fmt::format("is of the type {}; supported are F32, F16 and BF16, or MXFP4 as '{}_blocks' and "
                              "'{}_scales'",
                              found.tensor->dtype, printable(found.tensor->name), printable(found.tensor->name)));
}

Result<void> check_bytes(const FolderWeights::Found& found) {
  if (found.tensor->dtype == "U8") return {};
  return error_of(found, ErrorCode::unsupported,
                  fmt::format("is of the type {}; MXFP4's codes and scales are U8", found.tensor->dtype));
}

struct Extents {
  int64_t experts;
  int64_t rows;  // that are taken of each
  int64_t cols;
};

// Where element (row, col) of an expert lies in turns: rows are the inner dimension.
void transpose(std::span<const std::byte> from, std::span<std::byte> to, const Extents& extents, const TakenRows& taken,
               size_t size) {
  constexpr int64_t tile = 64;  // columns whose cache lines stay while the rows beside each other are taken
  const auto [experts, rows, cols] = extents;
  for (int64_t e = 0; e < experts; ++e) {
    for (int64_t begin = 0; begin < cols; begin += tile) {
      const int64_t end = std::min(cols, begin + tile);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = begin; c < end; ++c) {
          const int64_t source = (e * cols + c) * rows * taken.step + taken.first + r * taken.step;
          std::memcpy(to.data() + static_cast<size_t>((e * rows + r) * cols + c) * size,
                      from.data() + static_cast<size_t>(source) * size, size);
        }
      }
    }
  }
}

std::byte code_at(const std::byte* codes, int64_t element) {
  return codes[element / 2] >> static_cast<int>(element % 2 * 4) & std::byte{15};
}

// GGUF has the first half of a block's codes in the low halves of its bytes, and the second in the high ones.
void write_block(const std::byte* codes, std::byte scale, std::byte* block) {
  *block = scale;
  for (int64_t i = 0; i < kGroupBytes; ++i)
    block[1 + i] = code_at(codes, i) | code_at(codes, i + kGroupBytes) << 4;
}

void write_blocks(std::span<const std::byte> codes, std::span<const std::byte> scales, std::span<std::byte> to,
                  const Extents& extents, const TakenRows& taken) {
  const int64_t groups = extents.cols / kGroupElements;
  std::byte* block = to.data();
  for (int64_t e = 0; e < extents.experts; ++e) {
    for (int64_t r = 0; r < extents.rows; ++r) {
      const int64_t first = ((e * extents.rows + r) * taken.step + taken.first) * groups;
      for (int64_t g = first; g < first + groups; ++g, block += kBlockBytes)
        write_block(codes.data() + g * kGroupBytes, scales[static_cast<size_t>(g)], block);
    }
  }
}

Result<GgufTensor> from_plain(const FolderWeights::Found& found, int64_t experts, const TakenRows& taken) {
  TM_TRY(const tensor::DType type, plain_type(found));
  TM_CHECK(check_extents(found, experts, 3, 2, taken, fmt::format("[{}, columns, rows]", experts)));
  const std::vector<int64_t>& shape = found.tensor->shape;
  const Extents extents = {experts, shape[2] / taken.step, shape[1]};
  GgufTensor tensor;
  tensor.type = type;
  tensor.rank = 3;
  tensor.shape = {extents.cols, extents.rows, experts, 1};
  tensor.data = found.tensor->data;
  tensor.make = [=, from = found.tensor->data](std::span<std::byte> to) {
    transpose(from, to, extents, taken, static_cast<size_t>(tensor::info(type).block_bytes));
  };
  return tensor;
}

Result<GgufTensor> from_blocks(const JoinedExperts& found, int64_t experts, const TakenRows& taken) {
  for (const FolderWeights::Found& part : {found.blocks, found.scales})
    TM_CHECK(check_bytes(part));
  TM_CHECK(check_extents(found.blocks, experts, 4, 1, taken, fmt::format("[{}, rows, groups, 16]", experts)));
  const std::vector<int64_t>& shape = found.blocks.tensor->shape;
  if (shape[3] != kGroupBytes) return wrong_shape(found.blocks, fmt::format("[{}, rows, groups, 16]", experts));
  if (found.scales.tensor->shape != std::vector<int64_t>(shape.begin(), shape.begin() + 3)) {
    return wrong_shape(found.scales, fmt::format("[{}, {}, {}], as of '{}'", experts, shape[1], shape[2],
                                                 printable(found.blocks.tensor->name)));
  }
  const Extents extents = {experts, shape[1] / taken.step, shape[2] * kGroupElements};
  GgufTensor tensor;
  tensor.type = tensor::DType::mxfp4;
  tensor.rank = 3;
  tensor.shape = {extents.cols, extents.rows, experts, 1};
  tensor.data = found.blocks.tensor->data;
  tensor.more_data = {found.scales.tensor->data};
  tensor.make = [=, codes = found.blocks.tensor->data, scales = found.scales.tensor->data](std::span<std::byte> to) {
    write_blocks(codes, scales, to, extents, taken);
  };
  return tensor;
}

}  // namespace

JoinedExperts find_joined_experts(const FolderWeights& weights, const std::string& name) {
  return {.plain = weights.find(name),
          .blocks = weights.find(name + "_blocks"),
          .scales = weights.find(name + "_scales"),
          .bias = weights.find(name + "_bias")};
}

Result<GgufTensor> joined_weights(const JoinedExperts& found, int64_t experts, const TakenRows& taken) {
  return found.plain.tensor != nullptr ? from_plain(found.plain, experts, taken) : from_blocks(found, experts, taken);
}

Result<GgufTensor> joined_biases(const JoinedExperts& found, int64_t experts, const TakenRows& taken) {
  TM_TRY(const tensor::DType type, plain_type(found.bias));
  TM_CHECK(check_extents(found.bias, experts, 2, 1, taken, fmt::format("[{}, rows]", experts)));
  const int64_t rows = found.bias.tensor->shape[1] / taken.step;
  GgufTensor tensor;
  tensor.rank = 2;
  tensor.shape = {rows, experts, 1, 1};
  tensor.data = found.bias.tensor->data;
  tensor.make = [=, from = found.bias.tensor->data](std::span<std::byte> to) {
    const int64_t size = tensor::info(type).block_bytes;
    for (int64_t i = 0; i < rows * experts; ++i) {
      float value = 0;
      tensor::dequantize(type, from.data() + (taken.first + i * taken.step) * size, 1, &value);
      std::memcpy(to.data() + static_cast<size_t>(i) * sizeof value, &value, sizeof value);
    }
  };
  return tensor;
}

}  // namespace tidemill::model
