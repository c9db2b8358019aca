#include "quantize/plan.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/lower_case.hpp"
#include "model/architectures/always_f32.hpp"

namespace tidemill::quantize {

using base::Error;
using base::ErrorCode;
using base::Result;
using tensor::DType;

std::optional<DType> type_from_name(std::string_view name) {
  if (name == "int8" || name == "INT8") return DType::q8_0;
  return tensor::dtype_from_name(name);
}

std::string type_names() {
  std::string names = "int8";
  for (const DType type : tensor::all_dtypes())
    names += ", " + base::lower(tensor::info(type).name);
  return names;
}

Result<TensorRule> parse_rule(std::string_view text) {
  const size_t equals = text.rfind('=');
  if (equals == std::string_view::npos || equals == 0) {
    return Error(
        ErrorCode::invalid_argument,
        fmt::format("'{}' is no rule: write PATTERN=TYPE, such as '*.ffn_down.weight=q6_k'", model::printable(text)));
  }
  const auto type = type_from_name(text.substr(equals + 1));
  if (!type) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("'{}' in '{}' is no type: use one of {}", model::printable(text.substr(equals + 1)),
                             model::printable(text), type_names()));
  }
  return TensorRule{std::string(text.substr(0, equals)), *type};
}

bool matches(std::string_view pattern, std::string_view name) {
  // The usual walk: a star is tried with nothing first, and takes one character more each time the rest fails.
  size_t p = 0;
  size_t n = 0;
  size_t star = std::string_view::npos;
  size_t resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*')
    ++p;
  return p == pattern.size();
}

bool is_matrix(const model::GgufTensor& tensor) {
  // Experts have their biases in one tensor, which nothing is multiplied by.
  return tensor.rank > 1 && tensor.rows() > 1 && !tensor.name.ends_with(".bias");
}

DType fitting_type(DType wanted, int64_t cols) {
  if (cols % tensor::info(wanted).block_elements == 0) return wanted;
  DType smaller = wanted;
  switch (wanted) {
    case DType::q6_k:
      smaller = DType::q8_0;
      break;
    case DType::q5_k:
      smaller = DType::q5_1;
      break;
    case DType::q4_k:
      smaller = DType::q5_0;
      break;
    case DType::q2_k:
    case DType::q3_k:
    case DType::iq4_xs:
      smaller = DType::iq4_nl;
      break;
    default:
      break;
  }
  return cols % tensor::info(smaller).block_elements == 0 ? smaller : DType::f16;
}

namespace {

const TensorRule* last_match(std::span<const TensorRule> rules, std::string_view name) {
  for (size_t i = rules.size(); i > 0; --i) {
    if (matches(rules[i - 1].pattern, name)) return &rules[i - 1];
  }
  return nullptr;
}

Result<void> check_rules(const model::Checkpoint& source, std::span<const TensorRule> rules) {
  for (const TensorRule& rule : rules) {
    const bool found =
        std::any_of(source.tensors().begin(), source.tensors().end(),
                    [&rule](const model::GgufTensor& t) { return is_matrix(t) && matches(rule.pattern, t.name); });
    if (!found) {
      return Error(ErrorCode::invalid_argument,
                   fmt::format("'{}' matches no matrix of {}; 'tidemill inspect --tensors' lists their names",
                               model::printable(rule.pattern), source.path().string()));
    }
  }
  return {};
}

}  // namespace

Result<std::vector<DType>> plan_types(const model::Checkpoint& source, DType type, std::span<const TensorRule> rules) {
  TM_CHECK(check_rules(source, rules));
  std::vector<DType> types;
  for (const model::GgufTensor& tensor : source.tensors()) {
    if (!is_matrix(tensor)) {
      types.push_back(tensor.type);
      continue;
    }
    if (const TensorRule* rule = last_match(rules, tensor.name)) {
      if (tensor.cols() % tensor::info(rule->type).block_elements != 0) {
        return Error(
            ErrorCode::invalid_argument,
            fmt::format("{} has rows of {} elements, which are no whole blocks of {} ({})", tensor.title(),
                        tensor.cols(), tensor::info(rule->type).name, tensor::info(rule->type).block_elements));
      }
      types.push_back(rule->type);
      continue;
    }
    if (model::is_always_f32(tensor.name)) {
      types.push_back(DType::f32);
      continue;
    }
    const DType fits = fitting_type(type, tensor.cols());
    // A type that was not asked for is no reason to grow.
    const bool grows =
        fits != type && tensor::row_bytes(fits, tensor.cols()) >= tensor::row_bytes(tensor.type, tensor.cols());
    types.push_back(grows ? tensor.type : fits);
  }
  return types;
}

}  // namespace tidemill::quantize
