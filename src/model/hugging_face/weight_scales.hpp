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

// Whether weights may be codes of eight bits, and what shares a scale.
struct WeightScales {
  bool are_there = false;
  // Rows and columns of a block with one scale; 0: a row has one, or the whole matrix, as the number of scales says.
  int64_t block_rows = 0;
  int64_t block_cols = 0;

  bool operator==(const WeightScales&) const = default;
};

// None for a folder that is not quantised, and where `may_be_mxfp4` for gpt-oss's MXFP4, whose tensors say it all.
// Read are the quant_method fp8 (DeepSeek V3's and transformers' own) and compressed-tensors of the format
// float-quantized. What they say of activations and of the KV cache is passed over: here these are not quantised by it.
// Errors name the file and the member: `unsupported`, saying what is supported, for everything else that changes what
// weights are; `corrupt` and `not_found` for members that are wrong or missing.
base::Result<WeightScales> read_weight_scales(const JsonMembers& config, bool may_be_mxfp4);

}  // namespace tidemill::model
