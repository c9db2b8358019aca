// Matrices of codes of eight bits against the numbers that they stand for.
#include "model/hugging_face/stored_tensor.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "eight_bits.hpp"
#include "expect_says.hpp"
#include "safetensors_bytes.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using base::Result;

std::string bytes_of(std::span<const float> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

// A file with the tensor "w" and its scales.
class Codes {
 public:
  Codes(const std::string& dtype, const std::vector<int64_t>& shape, std::string codes, const std::string& ending,
        const std::string& scale_dtype, const std::vector<int64_t>& scale_shape, const std::string& scales) {
    file_ = test::SafetensorsBytes()
                .add("w", dtype, shape, codes)
                .add("w" + ending, scale_dtype, scale_shape, scales)
                .file();
    std::vector<SafetensorsFile> files;
    files.push_back(SafetensorsFile::parse(std::as_bytes(std::span(file_)), "w.safetensors").value());
    weights_ = FolderWeights::of(std::move(files)).value();
  }

  Result<StoredTensor> read(const WeightScales& scales) const {
    return StoredTensor::of(weights_, weights_.find("w"), scales);
  }
  std::string refusal(const WeightScales& scales, ErrorCode code) const {
    const auto stored = read(scales);
    if (stored) return "(accepted)";
    EXPECT_EQ(stored.error().code(), code) << stored.error().to_string();
    return stored.error().to_string();
  }

 private:
  std::string file_;
  FolderWeights weights_;
};

std::string all_codes() {
  std::string codes;
  for (int code = 0; code < 256; ++code)
    codes += static_cast<char>(code);
  return codes;
}

std::string rows_of(const StoredTensor& stored, int64_t first, int64_t count) {
  std::vector<std::byte> rows(static_cast<size_t>(count) * stored.row_bytes());
  stored.write_rows(first, count, rows);
  return {reinterpret_cast<const char*>(rows.data()), rows.size()};
}

// 2 to the power of 1, which all types have: BF16 then holds every number of eight bits.
TEST(StoredTensor, EveryCodeHasItsNumber) {
  const std::array<float, 1> two = {2};
  for (const std::string dtype : {"F8_E4M3", "F8_E5M2"}) {
    const Codes file(dtype, {16, 16}, all_codes(), "_scale", "F32", {}, bytes_of(two));
    const auto stored = file.read({.are_there = true});
    ASSERT_TRUE(stored) << stored.error().to_string();
    EXPECT_EQ(stored->type(), tensor::DType::bf16);
    const std::string rows = rows_of(*stored, 0, 16);
    for (int code = 0; code < 256; ++code) {
      uint16_t bits = 0;
      std::memcpy(&bits, rows.data() + static_cast<size_t>(code) * 2, sizeof bits);
      const float value = std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
      const double expected = 2 * test::eight_bit_value(dtype, code);
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(value)) << dtype << " " << code;
      } else {
        EXPECT_EQ(value, expected) << dtype << " " << code;
        EXPECT_EQ(std::signbit(value), code >= 128) << dtype << " " << code;
      }
    }
  }
}

// Blocks that are cut at the edges, blocks that are larger than the matrix, rows and whole matrices.
TEST(StoredTensor, CodesAreTimesTheScaleOfTheirBlock) {
  struct Form {
    int64_t block_rows;
    int64_t block_cols;
    bool named;  // in config.json
    std::vector<int64_t> shape;
  };
  constexpr int64_t rows = 37;
  constexpr int64_t cols = 530;  // more than are worked on at a time
  const std::vector<Form> forms = {{16, 64, true, {3, 9}},      {37, 530, true, {1, 1}},     {64, 1000, true, {1, 1}},
                                   {1, 512, true, {37, 2}},     {1, cols, false, {rows, 1}}, {1, cols, false, {rows}},
                                   {rows, cols, false, {1, 1}}, {rows, cols, false, {1}},    {rows, cols, false, {}}};
  std::mt19937 random(5);
  for (const Form& form : forms) {
    std::string codes;
    for (int64_t i = 0; i < rows * cols; ++i)
      codes += static_cast<char>(random() % 127 + random() % 2 * 128);
    const int64_t across = (cols + form.block_cols - 1) / form.block_cols;
    const int64_t down = (rows + form.block_rows - 1) / form.block_rows;
    std::vector<float> scales;
    for (int64_t i = 0; i < across * down; ++i)
      scales.push_back(static_cast<float>(random() % 1000 + 1) * 1e-6F);
    const Codes file("F8_E4M3", {rows, cols}, codes, "_scale_inv", "F32", form.shape, bytes_of(scales));
    const auto stored = file.read({.are_there = true,
                                   .block_rows = form.named ? form.block_rows : 0,
                                   .block_cols = form.named ? form.block_cols : 0});
    ASSERT_TRUE(stored) << stored.error().to_string();
    std::string expected;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < cols; ++col) {
        const auto scale = scales[static_cast<size_t>(row / form.block_rows * across + col / form.block_cols)];
        const auto code = static_cast<uint8_t>(codes[static_cast<size_t>(row * cols + col)]);
        expected += test::bf16_bytes(static_cast<float>(test::eight_bit_value("F8_E4M3", code)) * scale);
      }
    }
    EXPECT_EQ(rows_of(*stored, 0, rows), expected) << form.block_rows << " " << form.block_cols;
    // The rows are the same from wherever they are read.
    const size_t bytes = stored->row_bytes();
    EXPECT_EQ(rows_of(*stored, 20, 2), expected.substr(20 * bytes, 2 * bytes));
    EXPECT_EQ(rows_of(stored->from_row(19), 1, 3), expected.substr(20 * bytes, 3 * bytes));
    const GgufTensor all = stored->as_gguf("w.weight", {});
    EXPECT_EQ(all.bytes(), expected.size());
    EXPECT_EQ(all.shape_text(), "[530, 37]");
    EXPECT_EQ(all.more_data.size(), 1U);
    std::vector<std::byte> made(all.bytes());
    all.make(made);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(made.data()), made.size()), expected);
  }
}

TEST(StoredTensor, ScalesAreOfAnyFloat) {
  const WeightScales scales{.are_there = true};
  const auto first = [&](const std::string& dtype, const std::string& bytes) {
    const Codes file("F8_E4M3", {1, 2}, "\x38\xB8", "_scale", dtype, {1}, bytes);  // 1 and -1
    const auto stored = file.read(scales);
    EXPECT_TRUE(stored) << stored.error().to_string();
    return stored ? rows_of(*stored, 0, 1) : std::string();
  };
  const std::string expected = test::bf16_bytes(0.375F) + test::bf16_bytes(-0.375F);
  const std::array<float, 1> value = {0.375F};
  EXPECT_EQ(first("F32", bytes_of(value)), expected);
  EXPECT_EQ(first("BF16", std::string("\xC0\x3E", 2)), expected);
  EXPECT_EQ(first("F16", std::string("\x00\x36", 2)), expected);
  EXPECT_EQ(first("F8_E8M0", std::string("\x7A", 1)), test::bf16_bytes(0.03125F) + test::bf16_bytes(-0.03125F));
}

TEST(StoredTensor, SaysWhatScalesDoNotFit) {
  const std::array<float, 4> four = {1, 1, 1, 1};
  const WeightScales any{.are_there = true};
  const WeightScales blocks{.are_there = true, .block_rows = 2, .block_cols = 4};
  const std::string codes(8, '8');
  const Codes square("F8_E4M3", {2, 4}, codes, "_scale", "F32", {2, 2}, bytes_of(four));
  EXPECT_SAYS(square.refusal(any, ErrorCode::corrupt),
              "w.safetensors: tensor 'w' has the shape [2, 4] and scales ('w_scale') of the shape [2, 2]; expected one "
              "for all or [2, 1], one for each row");
  EXPECT_SAYS(square.refusal(blocks, ErrorCode::corrupt), "expected [1, 1] for blocks of 2 rows and 4 columns");
  EXPECT_SAYS(square.refusal({}, ErrorCode::unsupported),
              "tensor 'w' is of the type F8_E4M3; supported are F32, F16 and BF16, and F8_E4M3 and F8_E5M2 where "
              "'quantization_config' of config.json says how they are scaled");
  const Codes other("F8_E4M3", {2, 4}, codes, ".zero", "F32", {2, 2}, bytes_of(four));
  EXPECT_SAYS(other.refusal(any, ErrorCode::not_found), "its scales are missing: 'w_scale_inv' or 'w_scale'");
  const Codes bytes("F8_E4M3", {2, 4}, codes, "_scale", "U8", {2, 1}, "12");
  EXPECT_SAYS(bytes.refusal(any, ErrorCode::unsupported),
              "has scales ('w_scale') of the type U8; supported are F32, F16, BF16 and F8_E8M0");
  const Codes vector("F8_E4M3", {8}, codes, "_scale", "F32", {4}, bytes_of(four));
  EXPECT_SAYS(vector.refusal(any, ErrorCode::unsupported), "is a vector of F8_E4M3; supported are matrices");
  const Codes integers("I8", {2, 4}, codes, "_scale", "F32", {4}, bytes_of(four));
  EXPECT_SAYS(integers.refusal(any, ErrorCode::unsupported), "is of the type I8; supported are F32, F16 and BF16, and");
}

}  // namespace
}  // namespace tidemill::model
