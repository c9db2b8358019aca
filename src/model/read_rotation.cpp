#include "model/read_rotation.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "model/limits.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using base::Result;

constexpr std::string_view kLlama3Factors = "rope_freqs.weight";
constexpr std::string_view kLongFactors = "rope_factors_long.weight";
constexpr std::string_view kShortFactors = "rope_factors_short.weight";

// Writers say "no scaling" with 0 as well as with 1.
Result<double> written_factor(const KeyReader& keys) {
  double factor = 1;
  for (const std::string_view name : {"rope.scale_linear", "rope.scaling.factor"}) {
    TM_TRY(const double written, keys.file().get_float_or(keys.key(name), 0));
    if (written != 0) factor = written;
  }
  return factor;
}

// How all frequencies of the whole head are scaled.
struct Scaling {
  double factor = 1;
  bool by_yarn = false;  // else each is divided by it
};

Result<Scaling> read_scaling(const KeyReader& keys) {
  const Checkpoint& file = keys.file();
  TM_TRY(const std::string_view type, file.get_string_or(keys.key("rope.scaling.type"), "linear"));
  TM_TRY(const double factor, written_factor(keys));
  if (type == "none") return Scaling();
  if (!std::isfinite(factor) || factor <= 0) {
    return file.error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {}; expected a positive number",
                                                      keys.key("rope.scaling.factor"), factor));
  }
  const bool by_yarn = type == "yarn";
  if (by_yarn && file.find_tensor(kLlama3Factors) != nullptr) {
    return file.error(ErrorCode::unsupported, fmt::format("the rotation is scaled by the tensor {} and by YaRN ({}); "
                                                          "supported is one of the two",
                                                          kLlama3Factors, keys.key("rope.scaling.type")));
  }
  if (by_yarn || type == "linear" || factor == 1) return Scaling{factor, by_yarn};
  return file.error(
      ErrorCode::unsupported,
      fmt::format("RoPE scaling '{}' with factor {} ({}); supported are none, linear, yarn, Llama 3's "
                  "(the tensor {}) and LongRoPE (the tensors {} and {})",
                  printable(type), factor, keys.key("rope.scaling.type"), kLlama3Factors, kLongFactors, kShortFactors));
}

// The pairs between which YaRN passes from none of the stretch to all of it.
struct YarnRamp {
  double first;
  double last;
};

Result<YarnRamp> read_yarn_ramp(const KeyReader& keys, double base, const YarnRule& rule,
                                const HyperParameters& hyper) {
  const Checkpoint& file = keys.file();
  TM_TRY(const int64_t original, keys.count_or("rope.scaling.original_context_length", kMaxContext, hyper.context));
  TM_TRY(const double fast, keys.positive_or("rope.scaling.yarn_beta_fast", 32));
  TM_TRY(const double slow, keys.positive_or("rope.scaling.yarn_beta_slow", 1));
  if (slow >= fast) {
    return file.error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {} and '{}' {}; the fast one is the larger",
                                                      keys.key("rope.scaling.yarn_beta_slow"), slow,
                                                      keys.key("rope.scaling.yarn_beta_fast"), fast));
  }
  if (base <= 1) {
    return file.error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {}; YaRN's scaling wants it above 1",
                                                      keys.key("rope.freq_base"), base));
  }
  const auto pairs = static_cast<double>(hyper.rope.frequencies.size());
  // The pair that turns so many times within the original context.
  const auto pair_of = [&](double turns) {
    return pairs * std::log(static_cast<double>(original) / (turns * 2 * std::numbers::pi)) / std::log(base);
  };
  TM_TRY(const bool whole, file.get_bool_or(keys.key("rope.scaling.yarn_truncate"), rule.whole_pairs));
  const double first = whole ? std::floor(pair_of(fast)) : pair_of(fast);
  const double last = whole ? std::ceil(pair_of(slow)) : pair_of(slow);
  return YarnRamp{std::max(first, 0.0), std::min(last, 2 * pairs - 1)};
}

// What queries and keys are multiplied by. llama.cpp multiplies the customary number by attn_factor;
// transformers' attention_factor, which takes its place, is yarn_attn_factor in files that llama.cpp's converter wrote.
Result<double> read_yarn_magnitude(const KeyReader& keys, double factor, const YarnRule& rule) {
  TM_TRY(const float log_multiplier, keys.factor_or("rope.scaling.yarn_log_multiplier", 0));
  if (log_multiplier != 0 && !rule.scales_scores) {
    return keys.file().error(ErrorCode::unsupported,
                             fmt::format("metadata key '{}' is {}; this architecture has none",
                                         keys.key("rope.scaling.yarn_log_multiplier"), log_multiplier));
  }
  const double customary = log_multiplier != 0 ? 1 : yarn_magnitude(factor);
  TM_TRY(const double magnitude, keys.positive_or("rope.scaling.yarn_attn_factor", customary));
  TM_TRY(const double times, keys.positive_or("rope.scaling.attn_factor", 1));
  return magnitude * times;
}

// High frequencies stay, low ones are divided by the factor, and in between the two are mixed.
Result<void> scale_by_yarn(const KeyReader& keys, double base, double factor, const YarnRule& rule,
                           HyperParameters& hyper) {
  const std::string extrapolates = keys.key("rope.scaling.yarn_ext_factor");
  TM_TRY(const double share, keys.file().get_float_or(extrapolates, -1));
  if (!(share < 0 || share == 1)) {
    return keys.file().error(ErrorCode::unsupported,
                             fmt::format("metadata key '{}' is {}; supported is 1", extrapolates, share));
  }
  TM_TRY(hyper.rope.magnitude, read_yarn_magnitude(keys, factor, rule));
  TM_TRY(const YarnRamp ramp, read_yarn_ramp(keys, base, rule, hyper));
  if (factor == 1) return {};
  constexpr double least_width = 0.001;
  const double width = std::max(ramp.last - ramp.first, least_width);
  for (size_t i = 0; i < hyper.rope.frequencies.size(); ++i) {
    const double stretched = std::clamp((static_cast<double>(i) - ramp.first) / width, 0.0, 1.0);
    hyper.rope.frequencies[i] *= 1 - stretched + stretched / factor;
  }
  return {};
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
  TM_TRY(const int64_t original, keys.count_or("rope.scaling.original_context_length", kMaxContext, hyper.context));
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

double yarn_magnitude(double factor, double strength) {
  return factor <= 1 ? 1 : 1 + 0.1 * strength * std::log(factor);
}

Result<void> read_rotation(const KeyReader& keys, tensor::Rope::Pairing pairing, HyperParameters& hyper,
                           const YarnRule& yarn) {
  const Checkpoint& file = keys.file();
  TM_TRY(const int64_t rotated, keys.count_or("rope.dimension_count", hyper.head_dim, hyper.head_dim));
  if (rotated % 2 != 0) {
    return file.error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {}; expected an even number",
                                                      keys.key("rope.dimension_count"), rotated));
  }
  TM_TRY(const double base, keys.positive_or("rope.freq_base", 10000.0));
  const bool scales_long = file.find_tensor(kLongFactors) != nullptr || file.find_tensor(kShortFactors) != nullptr;
  Scaling scaling;
  if (scales_long) {
    TM_CHECK(refuse_other_scaling(keys));
  } else {
    TM_TRY(scaling, read_scaling(keys));
  }
  const double divisor = scaling.by_yarn ? 1 : scaling.factor;
  hyper.rope.pairing = pairing;
  for (int64_t i = 0; i < rotated / 2; ++i)
    hyper.rope.frequencies.push_back(pair_frequency(base, i, rotated) / divisor);
  if (scaling.by_yarn) return scale_by_yarn(keys, base, scaling.factor, yarn, hyper);
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
