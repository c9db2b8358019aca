#include "model/hugging_face/weight_scales.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "model/metadata.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using base::Result;

constexpr int64_t kMostBlock = 1 << 20;

// The rows and the columns of a block.
Result<WeightScales> read_blocks(const JsonMembers& members, std::string_view name) {
  WeightScales scales{.are_there = true};
  const base::json::value* value = members.find(name);
  const base::json::array* sizes = value == nullptr ? nullptr : value->if_array();
  const bool are_two = sizes != nullptr && sizes->size() == 2 &&
                       std::all_of(sizes->begin(), sizes->end(), [](const base::json::value& size) {
                         return size.is_int64() && size.get_int64() >= 1 && size.get_int64() <= kMostBlock;
                       });
  if (!are_two) return members.wrong(name, fmt::format("two numbers of 1 to {}, rows and columns", kMostBlock));
  scales.block_rows = sizes->front().get_int64();
  scales.block_cols = sizes->back().get_int64();
  return scales;
}

Result<void> want(const JsonMembers& members, std::string_view name, std::string_view found, std::string_view wanted) {
  if (found == wanted) return {};
  return members.error(ErrorCode::unsupported,
                       fmt::format("'{}' is '{}'; supported is {}", members.name(name), printable(found), wanted));
}

// 'weights' of one of compressed-tensors' groups.
Result<WeightScales> read_group(const JsonMembers& weights) {
  TM_TRY(const std::string type, weights.get_string_or("type", "int"));
  TM_CHECK(want(weights, "type", type, "float"));
  TM_TRY(const int64_t bits, weights.get_int("num_bits"));
  TM_TRY(const bool symmetric, weights.get_bool_or("symmetric", true));
  if (bits != 8 || !symmetric) {
    return weights.error(ErrorCode::unsupported,
                         fmt::format("'{}' is {} and '{}' {}; supported are 8 and true", weights.name("num_bits"), bits,
                                     weights.name("symmetric"), symmetric));
  }
  TM_TRY(const std::string strategy, weights.get_string_or("strategy", "tensor"));
  if (strategy == "block") return read_blocks(weights, "block_structure");
  if (strategy == "tensor" || strategy == "channel") return WeightScales{.are_there = true};
  return weights.error(ErrorCode::unsupported, fmt::format("'{}' is '{}'; supported are tensor, channel and block",
                                                           weights.name("strategy"), printable(strategy)));
}

Result<WeightScales> read_compressed_tensors(const JsonMembers& quantization) {
  TM_TRY(const std::string format, quantization.get_string_or("format", "dense"));
  TM_CHECK(want(quantization, "format", format, "float-quantized"));
  TM_TRY(const JsonMembers sparsity, quantization.members("sparsity_config"));
  TM_TRY(const std::string sparse, sparsity.get_string_or("format", "dense"));
  TM_CHECK(want(sparsity, "format", sparse, "dense"));
  TM_TRY(const JsonMembers transform, quantization.members("transform_config"));
  if (transform.exists() && !transform.object().empty()) {
    return quantization.error(ErrorCode::unsupported,
                              fmt::format("'{}' says that weights are transformed; supported is that they are not",
                                          quantization.name("transform_config")));
  }
  TM_TRY(const JsonMembers groups, quantization.members("config_groups"));
  if (!groups.exists() || groups.object().empty()) {
    return quantization.wrong("config_groups", "an object with at least one group");
  }
  std::optional<WeightScales> all;
  for (const auto& [name, ignored] : groups.object()) {
    TM_TRY(const JsonMembers group, groups.members(name));
    TM_TRY(const JsonMembers weights, group.members("weights"));
    if (!weights.exists()) return group.wrong("weights", "an object");
    TM_TRY(const WeightScales scales, read_group(weights));
    if (all && *all != scales) {
      return groups.error(ErrorCode::unsupported,
                          fmt::format("the groups of '{}' have blocks of different sizes; supported are those of one",
                                      quantization.name("config_groups")));
    }
    all = scales;
  }
  return *all;
}

}  // namespace

Result<WeightScales> read_weight_scales(const JsonMembers& config, bool may_be_mxfp4) {
  TM_TRY(const JsonMembers quantization, config.members("quantization_config"));
  if (!quantization.exists()) return WeightScales();
  TM_TRY(const std::string method, quantization.get_string_or("quant_method", "?"));
  if (may_be_mxfp4 && method == "mxfp4") return WeightScales();
  if (method == "compressed-tensors") return read_compressed_tensors(quantization);
  if (method == "fp8") {
    if (quantization.find("weight_block_size") == nullptr) return WeightScales{.are_there = true};
    return read_blocks(quantization, "weight_block_size");
  }
  return config.error(ErrorCode::unsupported,
                      fmt::format("the weights are quantised by '{}' ('quantization_config'); supported are FP8 (the "
                                  "quant_method fp8, or compressed-tensors of the format float-quantized), gpt-oss's "
                                  "MXFP4, and weights in F32, F16 and BF16",
                                  printable(method)));
}

}  // namespace tidemill::model
