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

// Whether a tensor may change its type: more than one row.
bool is_matrix(const model::GgufTensor& tensor);

// Whether it had better not, unless it is asked for: small matrices on which much depends, which are the routers of
// experts and an encoder's tables of positions and of kinds of text.
bool is_delicate(const model::GgufTensor& tensor);

// The type for rows of `cols` elements where `wanted` is asked for: `wanted`, or where its blocks do not fit the rows,
// the block type of 32 elements with at least as many bits, or where those do not fit either, F16.
tensor::DType fitting_type(tensor::DType wanted, int64_t cols);

// In the order of the tensors. Matrices get the type of the last rule that matches them, exactly, or what fits of
// `type`; others keep theirs, and so do delicate ones without a rule, and those that only a larger type would fit.
// Errors: `invalid_argument` where a rule matches no matrix, or names a type whose blocks do not fit the rows.
base::Result<std::vector<tensor::DType>> plan_types(const model::Checkpoint& source, tensor::DType type,
                                                    std::span<const TensorRule> rules);

// llama.cpp's number for "mostly this type" (general.file_type).
uint32_t file_type(tensor::DType type);

}  // namespace tidemill::quantize
