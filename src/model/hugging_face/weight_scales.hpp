// How a folder's weights are quantised, as quantization_config of config.json says it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/result.hpp"
#include "model/hugging_face/json_file.hpp"

namespace tidemill::model {

// What the scales' names have behind that of the matrix in codes; the first that is there counts.
inline constexpr std::array<std::string_view, 2> kScaleEndings = {"_scale_inv", "_scale"};

// How a folder has weights that are integers (integer_matrix.hpp).
enum class IntegerForm : uint8_t { none, gptq, awq, packed, plain };

struct IntegerCodes {
  IntegerForm form = IntegerForm::none;
  int bits = 8;
  int64_t group = 0;            // columns that share a scale; 0: all of a row, or of the matrix
  bool symmetric = true;        // of compressed-tensors: they may do without zeros
  bool zeros_less_one = false;  // of GPTQ: each is stored so
  bool scattered = false;       // columns are of groups in no order, which tensors beside the codes have to name

  bool operator==(const IntegerCodes&) const = default;
};

// Whether weights may be floating-point codes of eight bits or integers, and what shares a scale.
struct WeightScales {
  bool are_there = false;  // of the former
  // Rows and columns of a block with one scale; 0: a row has one, or the whole matrix, as the number of scales says.
  int64_t block_rows = 0;
  int64_t block_cols = 0;
  IntegerCodes integers{};

  bool none() const { return !are_there && integers.form == IntegerForm::none; }
  bool operator==(const WeightScales&) const = default;
};

// Whether a tensor of this name says something of activations or of the KV cache, which are quantised elsewhere.
bool scales_activations(std::string_view name);

// None for a folder that is not quantised, and where `may_be_mxfp4` for gpt-oss's MXFP4, whose tensors say it all.
// Read are the quant_method fp8 (DeepSeek V3's and transformers' own), modelopt of FP8, fbgemm_fp8, gptq, awq, and
// compressed-tensors of the formats float-quantized, int-quantized and pack-quantized. What they say of activations and
// of the KV cache is passed over: here these are not quantised by it. Which tensors are codes, these say themselves.
// Errors name the file and the member: `unsupported`, saying what is supported, for everything else that changes what
// weights are; `corrupt` and `not_found` for members that are wrong or missing.
base::Result<WeightScales> read_weight_scales(const JsonMembers& config, bool may_be_mxfp4);

}  // namespace tidemill::model
