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

// `supported` is how the wanted value is told of, where it is one of several.
Result<void> want(const JsonMembers& members, std::string_view name, std::string_view found, std::string_view supported,
                  std::string_view wanted = {}) {
  if (found == (wanted.empty() ? supported : wanted)) return {};
  return members.error(ErrorCode::unsupported,
                       fmt::format("'{}' is '{}'; supported is {}", members.name(name), printable(found), supported));
}

// How many columns share a scale: a number, or none or -1 for all.
Result<int64_t> read_group_size(const JsonMembers& members, std::string_view name) {
  TM_TRY(const int64_t size, members.get_int_or(name, -1));
  if (size == -1) return 0;
  if (size >= 1 && size <= kMostBlock) return size;
  return members.wrong(name, fmt::format("a number of columns, 1 to {}, or -1 for all", kMostBlock));
}

Result<int> read_bits(const JsonMembers& members, std::string_view name, bool may_be_four, bool may_be_eight) {
  TM_TRY(const int64_t bits, members.get_int(name));
  if ((bits == 4 && may_be_four) || (bits == 8 && may_be_eight)) return static_cast<int>(bits);
  return members.error(ErrorCode::unsupported, fmt::format("'{}' is {}; supported is {}", members.name(name), bits,
                                                           !may_be_eight  ? "4"
                                                           : !may_be_four ? "8"
                                                                          : "4 or 8"));
}

// GPTQ, as AutoGPTQ and GPTQModel write it.
Result<WeightScales> read_gptq(const JsonMembers& quantization) {
  WeightScales scales;
  scales.integers.form = IntegerForm::gptq;
  TM_TRY(scales.integers.bits, read_bits(quantization, "bits", true, true));
  TM_TRY(scales.integers.group, read_group_size(quantization, "group_size"));
  TM_TRY(const std::string format, quantization.get_string_or("checkpoint_format", "gptq"));
  if (format != "gptq_v2") TM_CHECK(want(quantization, "checkpoint_format", format, "gptq or gptq_v2", "gptq"));
  scales.integers.zeros_less_one = format == "gptq";
  TM_TRY(const bool by_activations, quantization.get_bool_or("desc_act", false));
  // With this one they are ordered while they are rounded, and lie as ever.
  TM_TRY(const bool fixed_groups, quantization.get_bool_or("static_groups", false));
  scales.integers.scattered = by_activations && !fixed_groups;
  return scales;
}

// AWQ, as AutoAWQ writes it.
Result<WeightScales> read_awq(const JsonMembers& quantization) {
  WeightScales scales;
  scales.integers.form = IntegerForm::awq;
  TM_TRY(scales.integers.bits, read_bits(quantization, "bits", true, false));
  TM_TRY(scales.integers.group, read_group_size(quantization, "group_size"));
  TM_TRY(std::string version, quantization.get_string_or("version", "gemm"));
  for (char& c : version)
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  TM_CHECK(want(quantization, "version", version, "gemm"));
  TM_TRY(const bool zeros, quantization.get_bool_or("zero_point", true));
  if (zeros) return scales;
  return quantization.error(ErrorCode::unsupported,
                            fmt::format("'{}' is false; supported is true", quantization.name("zero_point")));
}

// Whether compressed-tensors' columns are of groups in no order: true is what early versions wrote for "group".
Result<bool> read_act_order(const JsonMembers& weights) {
  const base::json::value* const value = weights.find("actorder");
  if (value == nullptr) return false;
  if (value->is_bool()) return value->get_bool();
  TM_TRY(const std::string order, weights.get_string_or("actorder", ""));
  if (order == "group" || order == "dynamic") return true;
  if (order == "weight" || order == "static") return false;
  return weights.error(ErrorCode::unsupported,
                       fmt::format("'{}' is '{}'; supported are group, dynamic, weight and static",
                                   weights.name("actorder"), printable(order)));
}

// 'weights' of one of compressed-tensors' groups, where they are integers.
Result<WeightScales> read_integer_group(const JsonMembers& weights, IntegerForm form) {
  WeightScales scales;
  scales.integers.form = form;
  TM_TRY(const std::string type, weights.get_string_or("type", "int"));
  TM_CHECK(want(weights, "type", type, "int"));
  TM_TRY(scales.integers.bits, read_bits(weights, "num_bits", form == IntegerForm::packed, true));
  TM_TRY(scales.integers.symmetric, weights.get_bool_or("symmetric", true));
  TM_TRY(const int64_t group, read_group_size(weights, "group_size"));
  TM_TRY(const std::string strategy, weights.get_string_or("strategy", group == 0 ? "channel" : "group"));
  if (strategy == "tensor" || strategy == "channel") return scales;
  if (strategy == "group" && group > 0) {
    scales.integers.group = group;
    TM_TRY(scales.integers.scattered, read_act_order(weights));
    return scales;
  }
  return weights.error(ErrorCode::unsupported,
                       fmt::format("'{}' is '{}'; supported are tensor, channel and group, with a '{}'",
                                   weights.name("strategy"), printable(strategy), weights.name("group_size")));
}

// The same where they are FP8.
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
  const IntegerForm form = format == "int-quantized"    ? IntegerForm::plain
                           : format == "pack-quantized" ? IntegerForm::packed
                                                        : IntegerForm::none;
  if (form == IntegerForm::none) {
    TM_CHECK(
        want(quantization, "format", format, "float-quantized, int-quantized or pack-quantized", "float-quantized"));
  }
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
    TM_TRY(const std::string own_format, group.get_string_or("format", format));
    TM_CHECK(want(group, "format", own_format, format));
    TM_TRY(const WeightScales scales,
           form == IntegerForm::none ? read_group(weights) : read_integer_group(weights, form));
    if (all && *all != scales) {
      return groups.error(ErrorCode::unsupported,
                          fmt::format("the groups of '{}' have different bits, sizes or blocks; supported are those "
                                      "that have the same",
                                      quantization.name("config_groups")));
    }
    all = scales;
  }
  return *all;
}

}  // namespace

bool scales_activations(std::string_view name) {
  constexpr std::array<std::string_view, 9> endings = {".input_scale",      ".input_zero_point", ".input_scale_ub",
                                                       ".activation_scale", ".output_scale",     ".q_scale",
                                                       ".k_scale",          ".v_scale",          ".kv_scale"};
  return std::any_of(endings.begin(), endings.end(),
                     [name](std::string_view ending) { return name.ends_with(ending); });
}

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
  if (method == "modelopt") {
    TM_TRY(const std::string algorithm, quantization.get_string_or("quant_algo", "?"));
    TM_CHECK(want(quantization, "quant_algo", algorithm, "FP8"));
    return WeightScales{.are_there = true};
  }
  if (method == "fbgemm_fp8") return WeightScales{.are_there = true};
  if (method == "gptq") return read_gptq(quantization);
  if (method == "awq") return read_awq(quantization);
  return config.error(ErrorCode::unsupported,
                      fmt::format("the weights are quantised by '{}' ('quantization_config'); supported are FP8 (the "
                                  "quant_method fp8, fbgemm_fp8 or modelopt, or compressed-tensors of the format "
                                  "float-quantized), integers (gptq, awq, and compressed-tensors of the formats "
                                  "int-quantized and pack-quantized), gpt-oss's MXFP4, and weights in F32, F16 and "
                                  "BF16",
                                  printable(method)));
}

}  // namespace tidemill::model
