#include "model/read_rotation.hpp"

#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace tidemill::model {
namespace {

using base::ErrorCode;
using base::Result;

constexpr std::string_view kLlama3Factors = "rope_freqs.weight";
constexpr std::string_view kLongFactors = "rope_factors_long.weight";
constexpr std::string_view kShortFactors = "rope_factors_short.weight";
constexpr int64_t kMostOriginalContext = int64_t{1} << 30;

// Writers say "no scaling" with 0 as well as with 1.
Result<double> written_factor(const KeyReader& keys) {
  double factor = 1;
  for (const std::string_view name : {"rope.scale_linear", "rope.scaling.factor"}) {
    TM_TRY(const double written, keys.file().get_float_or(keys.key(name), 0));
    if (written != 0) factor = written;
  }
  return factor;
}

// What each rotation frequency is divided by for the whole head: 1 without scaling.
Result<double> linear_scaling(const KeyReader& keys) {
  const Checkpoint& file = keys.file();
  TM_TRY(const std::string_view type, file.get_string_or(keys.key("rope.scaling.type"), "linear"));
  TM_TRY(const double factor, written_factor(keys));
  if (type == "none") return 1.0;
  if (!std::isfinite(factor) || factor <= 0) {
    return file.error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {}; expected a positive number",
                                                      keys.key("rope.scaling.factor"), factor));
  }
  if (type == "linear" || factor == 1) return factor;
  return file.error(
      ErrorCode::unsupported,
      fmt::format("RoPE scaling '{}' with factor {} ({}); supported are none, linear, Llama 3's (the "
                  "tensor {}) and LongRoPE (the tensors {} and {})",
                  printable(type), factor, keys.key("rope.scaling.type"), kLlama3Factors, kLongFactors, kShortFactors));
}

// Divides the frequencies by what the tensor holds, a number for each.
Result<void> divide_by(const Checkpoint& file, std::string_view name, std::vector<double>& frequencies) {
  const GgufTensor* factors = file.find_tensor(name);
  if (factors == nullptr) {
    return file.error(ErrorCode::not_found,
                      fmt::format("tensor '{}' is missing; {} and {} go together", name, kLongFactors, kShortFactors));
  }
  const auto pairs = static_cast<int64_t>(frequencies.size());
  if (factors->type != tensor::DType::f32 || factors->elements() != pairs) {
    return file.error(ErrorCode::corrupt,
                      fmt::format("tensor '{}' is {} {}; the rotation's {} pairs want F32 [{}]", name,
                                  tensor::info(factors->type).name, factors->shape_text(), pairs, pairs));
  }
  std::vector<float> values(frequencies.size());
  base::Buffer made;
  TM_TRY(const auto bytes, file.read(*factors, made));
  tensor::dequantize(tensor::DType::f32, bytes.data(), pairs, values.data());
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]) || values[i] <= 0) {
      return file.error(ErrorCode::corrupt,
                        fmt::format("tensor '{}' holds {} at {}; factors are positive", name, values[i], i));
    }
    frequencies[i] /= static_cast<double>(values[i]);
  }
  return {};
}

// Beside LongRoPE's tensors nothing else scales.
Result<void> refuse_other_scaling(const KeyReader& keys) {
  const Checkpoint& file = keys.file();
  if (file.find_tensor(kLlama3Factors) != nullptr) {
    return file.error(ErrorCode::unsupported,
                      fmt::format("the rotation is scaled by the tensor {} and by {} and {}; supported are Llama 3's "
                                  "scaling or LongRoPE",
                                  kLlama3Factors, kLongFactors, kShortFactors));
  }
  TM_TRY(const std::string_view type, file.get_string_or(keys.key("rope.scaling.type"), "longrope"));
  TM_TRY(const double factor, written_factor(keys));
  if ((type == "longrope" || type == "none") && factor == 1) return {};
  return file.error(
      ErrorCode::unsupported,
      fmt::format("RoPE scaling '{}' with factor {} ({}) beside the tensors {} and {}; supported are none "
                  "and longrope with factor 1",
                  printable(type), factor, keys.key("rope.scaling.type"), kLongFactors, kShortFactors));
}

// A pair of factors for each frequency, one for contexts that the model was first trained for and one for longer ones,
// and a magnitude for both.
Result<void> read_long_rope(const KeyReader& keys, HyperParameters& hyper) {
  TM_TRY(const int64_t original,
         keys.count_or("rope.scaling.original_context_length", kMostOriginalContext, hyper.context));
  TM_TRY(hyper.rope.magnitude, keys.positive_or("rope.scaling.attn_factor", 1));
  tensor::Rope for_short = hyper.rope;
  TM_CHECK(divide_by(keys.file(), kShortFactors, for_short.frequencies));
  TM_CHECK(divide_by(keys.file(), kLongFactors, hyper.rope.frequencies));
  if (original < hyper.context) {
    hyper.short_context = original;
    hyper.short_rope = std::move(for_short);
  } else {
    hyper.rope = std::move(for_short);
  }
  return {};
}

double pair_frequency(double base, int64_t pair, int64_t rotated) {
  return std::pow(base, -2.0 * static_cast<double>(pair) / static_cast<double>(rotated));
}

}  // namespace

Result<void> read_rotation(const KeyReader& keys, tensor::Rope::Pairing pairing, HyperParameters& hyper) {
  const Checkpoint& file = keys.file();
  TM_TRY(const int64_t rotated, keys.count_or("rope.dimension_count", hyper.head_dim, hyper.head_dim));
  if (rotated % 2 != 0) {
    return file.error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {}; expected an even number",
                                                      keys.key("rope.dimension_count"), rotated));
  }
  TM_TRY(const double base, keys.positive_or("rope.freq_base", 10000.0));
  const bool scales_long = file.find_tensor(kLongFactors) != nullptr || file.find_tensor(kShortFactors) != nullptr;
  double scaling = 1;
  if (scales_long) {
    TM_CHECK(refuse_other_scaling(keys));
  } else {
    TM_TRY(scaling, linear_scaling(keys));
  }
  hyper.rope.pairing = pairing;
  for (int64_t i = 0; i < rotated / 2; ++i)
    hyper.rope.frequencies.push_back(pair_frequency(base, i, rotated) / scaling);
  if (scales_long) return read_long_rope(keys, hyper);
  if (file.find_tensor(kLlama3Factors) == nullptr) return {};
  return divide_by(file, kLlama3Factors, hyper.rope.frequencies);
}

tensor::Rope plain_rotation(const tensor::Rope& like, double base) {
  tensor::Rope rope;
  rope.pairing = like.pairing;
  const auto pairs = static_cast<int64_t>(like.frequencies.size());
  for (int64_t i = 0; i < pairs; ++i)
    rope.frequencies.push_back(pair_frequency(base, i, 2 * pairs));
  return rope;
}

}  // namespace tidemill::model
