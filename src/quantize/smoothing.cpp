#include "quantize/smoothing.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "model/architectures/architecture.hpp"
#include "model/load.hpp"
#include "model/tensor_rows.hpp"
#include "quantize/expected_error.hpp"

namespace tidemill::quantize {

using base::Error;
using base::ErrorCode;
using base::Result;
using model::Checkpoint;
using model::GgufTensor;
using tensor::DType;

namespace {

// By so much at least must the expected error fall: its estimate is a coarse one.
constexpr double kLeastGain = 0.05;

class Planner {
 public:
  Planner(const Checkpoint& source, const Calibration& calibration, std::span<const DType> types)
      : source_(source), calibration_(calibration), types_(types), reader_(source) {}

  // Factors if the group gains by some.
  Result<std::optional<std::vector<float>>> plan(const NormGroup& group) {
    const InputStatistics* input = calibration_.input_of(group.matrices.front());
    if (input == nullptr || !quantises(group)) return std::optional<std::vector<float>>();
    std::vector<float> weight_peaks(input->peak.size(), 0);
    std::vector<std::pair<SampledRows, DType>> samples;
    for (const std::string& name : group.matrices) {
      const GgufTensor* tensor = source_.find_tensor(name);
      TM_TRY(SampledRows found, sample_rows(reader_, *tensor, weight_peaks));
      samples.emplace_back(std::move(found), type_of(*tensor));
      source_.release(*tensor);
    }
    const auto error = [&](std::span<const float> factors) {
      double sum = 0;
      for (const auto& [rows, type] : samples)
        sum += expected_error(rows, type, *input, factors) * static_cast<double>(rows.rows);
      return sum;
    };
    double least = error({}) * (1 - kLeastGain);
    std::optional<std::vector<float>> best;
    for (const double strength : {0.25, 0.5, 0.75}) {
      std::vector<float> factors = smoothing_factors(input->peak, weight_peaks, strength);
      const double expected = error(factors);
      if (!(expected < least)) continue;
      least = expected;
      best = std::move(factors);
    }
    return best;
  }

 private:
  DType type_of(const GgufTensor& tensor) const {
    return types_[static_cast<size_t>(&tensor - source_.tensors().data())];
  }

  // Whether all of them are rounded to blocks: what stays as it is must not be rounded for this alone.
  bool quantises(const NormGroup& group) const {
    return std::all_of(group.matrices.begin(), group.matrices.end(), [this](const std::string& name) {
      const GgufTensor& tensor = *source_.find_tensor(name);
      return type_of(tensor) != tensor.type && tensor::info(type_of(tensor)).block_elements > 1;
    });
  }

  const Checkpoint& source_;
  const Calibration& calibration_;
  std::span<const DType> types_;
  model::TensorRows reader_;
};

}  // namespace

std::vector<NormGroup> norm_groups(const Checkpoint& source) {
  std::vector<NormGroup> groups;
  const auto architecture = model::find_architecture(source);
  if (!architecture) return groups;
  const auto hyper = (*architecture)->read_hyper_parameters(source);
  if (!hyper) return groups;
  const model::TensorNames& names = (*architecture)->names;
  const auto add = [&](const std::string& prefix, std::string_view norm,
                       std::initializer_list<std::string_view> parts) {
    NormGroup group{fmt::format("{}{}.weight", prefix, norm), {}};
    const GgufTensor* found = source.find_tensor(group.norm);
    bool whole = found != nullptr && found->type == DType::f32 && found->rank == 1;
    for (const std::string_view part : parts) {
      group.matrices.push_back(fmt::format("{}{}.weight", prefix, part));
      const GgufTensor* matrix = source.find_tensor(group.matrices.back());
      whole = whole && matrix != nullptr && matrix->rank == 2 && matrix->cols() == found->cols();
    }
    if (whole) groups.push_back(std::move(group));
  };
  for (int64_t i = 0; i < hyper->layers; ++i) {
    const std::string prefix = fmt::format("blk.{}.", i);
    add(prefix, names.attention_norm, {names.query, names.key, names.value});
    for (const std::string_view query : {names.query, names.query_down})
      add(prefix, names.attention_norm, {query, names.latent});
    add(prefix, names.feed_forward_norm, {names.gate, names.up});
  }
  return groups;
}

Result<std::vector<SmoothedNorm>> plan_smoothing(const Checkpoint& source, const Calibration& calibration,
                                                 std::span<const DType> types, const std::function<bool()>& cancelled,
                                                 const std::function<void(size_t done, size_t total)>& on_progress) {
  Planner planner(source, calibration, types);
  std::vector<SmoothedNorm> smoothed;
  std::vector<NormGroup> groups = norm_groups(source);
  size_t done = 0;
  for (NormGroup& group : groups) {
    if (cancelled && cancelled()) return Error(ErrorCode::cancelled, "interrupted");
    TM_TRY(std::optional<std::vector<float>> factors, planner.plan(group));
    if (factors) smoothed.push_back({std::move(group), std::move(*factors)});
    if (on_progress) on_progress(++done, groups.size());
  }
  return smoothed;
}

std::vector<float> smoothing_factors(std::span<const float> peaks, std::span<const float> weight_peaks,
                                     double strength) {
  std::vector<double> exponents(peaks.size(), 0);
  double sum = 0;
  double count = 0;
  for (size_t c = 0; c < peaks.size(); ++c) {
    if (!(peaks[c] > 0) || !(weight_peaks[c] > 0)) continue;
    exponents[c] = strength * std::log2(peaks[c]) - (1 - strength) * std::log2(weight_peaks[c]);
    sum += exponents[c];
    count += 1;
  }
  std::vector<float> factors(peaks.size(), 1);
  for (size_t c = 0; c < peaks.size(); ++c) {
    if (!(peaks[c] > 0) || !(weight_peaks[c] > 0)) continue;
    const double exponent = std::clamp(std::round(exponents[c] - sum / count), -6.0, 6.0);
    factors[c] = std::ldexp(1.0F, static_cast<int>(exponent));
  }
  return factors;
}

}  // namespace tidemill::quantize
