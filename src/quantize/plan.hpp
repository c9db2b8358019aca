// Which type each tensor of a model gets.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::quantize {

// A type by its name, or "int8": 8-bit integers in groups of 32 with a scale each, which is Q8_0.
std::optional<tensor::DType> type_from_name(std::string_view name);

// "int8, f32, f16, ...": what type_from_name() knows.
std::string type_names();

// Tensors whose name a pattern matches get its type. In a pattern * stands for any characters and ? for one.
struct TensorRule {
  std::string pattern;
  tensor::DType type = tensor::DType::q8_0;
};

// "PATTERN=TYPE"; an error (`invalid_argument`) says what is wrong.
base::Result<TensorRule> parse_rule(std::string_view text);

bool matches(std::string_view pattern, std::string_view name);

// Whether a tensor may change its type: more than one row, and no biases.
bool is_matrix(const model::GgufTensor& tensor);

// The type for rows of `cols` elements where `wanted` is asked for: `wanted`, or where its blocks do not fit the rows,
// the block type of 32 elements with at least as many bits, or where those do not fit either, F16.
tensor::DType fitting_type(tensor::DType wanted, int64_t cols);

// In the order of the tensors. Matrices get the type of the last rule that matches them, exactly, or what fits of
// `type`, but F32 where there is no rule and model::is_always_f32() has them so: routers of experts, and an encoder's
// tables of positions and kinds of text. Others keep theirs, and so do those that only a larger type would fit.
// Errors: `invalid_argument` where a rule matches no matrix, or names a type whose blocks do not fit the rows.
base::Result<std::vector<tensor::DType>> plan_types(const model::Checkpoint& source, tensor::DType type,
                                                    std::span<const TensorRule> rules);

}  // namespace tidemill::quantize
