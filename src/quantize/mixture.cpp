#include "quantize/mixture.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "model/architectures/always_f32.hpp"
#include "model/tensor_rows.hpp"
#include "quantize/expected_error.hpp"
#include "tensor/packed_weight.hpp"

namespace tidemill::quantize {

using base::Error;
using base::ErrorCode;
using base::Result;
using model::Checkpoint;
using model::GgufTensor;
using tensor::DType;

namespace {

// Q5_0 is for rows that Q5_K does not fit: 2 % fewer bytes, which AVX2 reads more slowly by more (docs/performance.md).
constexpr std::array kTypes = {DType::q8_0, DType::q6_k, DType::q5_1,   DType::q5_k, DType::q5_0,
                               DType::q4_k, DType::q4_1, DType::iq4_nl, DType::q3_k};

struct Choice {
  DType type = DType::f16;
  size_t bytes = 0;  // in memory
  double error = 0;  // of the logits, as far as it is this matrix's, relative to their power
};

// One matrix and the types that it may have, each with fewer bytes and a larger error than the one before.
struct Candidate {
  const GgufTensor* tensor = nullptr;
  std::vector<Choice> choices;
  size_t chosen = 0;

  const Choice& now() const { return choices[chosen]; }
};

bool suits_rows(DType type, const GgufTensor& tensor) {
  return tensor.cols() % tensor::info(type).block_elements == 0;
}

// Bytes. The experts of a layer are counted as the rows of one matrix.
Result<size_t> memory_of(const GgufTensor& tensor, DType type) {
  return tensor::PackedWeight::packed_bytes(type, tensor.rows(), tensor.cols());
}

class MixturePlanner {
 public:
  MixturePlanner(const Checkpoint& source, const Calibration& calibration, int64_t zeros)
      : calibration_(calibration), reader_(source), weights_(-zeros) {}

  // Of what is decided already.
  Result<void> add_fixed(const GgufTensor& tensor, DType type) {
    TM_TRY(const size_t bytes, memory_of(tensor, type));
    bytes_ += bytes;
    weights_ += tensor.elements();
    by_type_[type] += tensor.elements();
    return {};
  }

  Result<void> add(const GgufTensor& tensor) {
    TM_TRY(Candidate candidate, judge(tensor));
    bytes_ += candidate.now().bytes;
    weights_ += tensor.elements();
    candidates_.push_back(std::move(candidate));
    return {};
  }

  double bits() const { return bits_of(bytes_); }

  // One matrix takes a smaller type. False where none has one.
  bool step_down() {
    Candidate* best = nullptr;
    size_t to = 0;
    double least = 0;
    for (Candidate& candidate : candidates_) {
      for (size_t next = candidate.chosen + 1; next < candidate.choices.size(); ++next) {
        const Choice& choice = candidate.choices[next];
        const double cost =
            (choice.error - candidate.now().error) / static_cast<double>(candidate.now().bytes - choice.bytes);
        if (best != nullptr && !(cost < least)) continue;
        best = &candidate;
        to = next;
        least = cost;
      }
    }
    if (best == nullptr) return false;
    bytes_ -= best->now().bytes;
    best->chosen = to;
    bytes_ += best->now().bytes;
    return true;
  }

  // One matrix takes a larger type, of those that stay within so many bits. False where there is none: steps down end
  // below what was asked for, by up to what the last of them has saved.
  bool step_up(double bits) {
    Candidate* best = nullptr;
    size_t to = 0;
    double most = 0;
    for (Candidate& candidate : candidates_) {
      for (size_t before = 0; before < candidate.chosen; ++before) {
        const Choice& choice = candidate.choices[before];
        const size_t more = choice.bytes - candidate.now().bytes;
        if (bits_of(bytes_ + more) > bits) continue;
        const double gain = (candidate.now().error - choice.error) / static_cast<double>(more);
        if (best != nullptr && !(gain > most)) continue;
        best = &candidate;
        to = before;
        most = gain;
      }
    }
    if (best == nullptr) return false;
    bytes_ += best->choices[to].bytes - best->now().bytes;
    best->chosen = to;
    return true;
  }

  Mixture take() {
    Mixture mixture;
    mixture.bits = bits();
    for (const Candidate& candidate : candidates_) {
      mixture.rules.push_back({std::string(candidate.tensor->name), candidate.now().type});
      by_type_[candidate.now().type] += candidate.tensor->elements();
    }
    const auto most = std::max_element(by_type_.begin(), by_type_.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    if (most != by_type_.end()) mixture.type = most->first;
    return mixture;
  }

 private:
  double bits_of(size_t bytes) const {
    return 8 * static_cast<double>(bytes) / static_cast<double>(std::max<int64_t>(1, weights_));
  }

  Result<Candidate> judge(const GgufTensor& tensor) {
    const auto cols = static_cast<size_t>(tensor.cols());
    const InputStatistics* input = calibration_.input_of(tensor.name);
    InputStatistics unknown;
    if (input == nullptr || input->mean_square.size() != cols) {
      unknown.mean_square.assign(cols, 1);
      unknown.peak.assign(cols, 0);
      input = &unknown;
    }
    std::vector<float> peaks(cols, 0);
    TM_TRY(const SampledRows sample, sample_rows(reader_, tensor, peaks));
    const double power = output_power(sample, *input);
    const double influence = calibration_.influence_of(tensor.name);
    Candidate candidate;
    candidate.tensor = &tensor;
    for (const DType type : kTypes) {
      if (!suits_rows(type, tensor) || (type == DType::q5_0 && suits_rows(DType::q5_k, tensor))) continue;
      TM_TRY(const size_t bytes, memory_of(tensor, type));
      const double error = expected_error(sample, type, *input, {});
      candidate.choices.push_back({type, bytes, power > 0 ? influence * error / power : 0});
    }
    if (candidate.choices.empty()) {
      const bool plain = tensor::info(tensor.type).block_elements == 1 && tensor.type != DType::f32;
      const DType type = plain ? tensor.type : DType::f16;
      TM_TRY(const size_t bytes, memory_of(tensor, type));
      candidate.choices.push_back({type, bytes, 0});
    }
    keep_useful(candidate.choices);
    return candidate;
  }

  // Those that nothing smaller beats, the largest first.
  static void keep_useful(std::vector<Choice>& choices) {
    std::stable_sort(choices.begin(), choices.end(), [](const Choice& a, const Choice& b) {
      return a.bytes != b.bytes ? a.bytes < b.bytes : a.error < b.error;
    });
    std::vector<Choice> useful;
    for (const Choice& choice : choices) {
      if (useful.empty() || choice.error < useful.back().error) useful.push_back(choice);
    }
    std::reverse(useful.begin(), useful.end());
    choices = std::move(useful);
  }

  const Calibration& calibration_;
  model::TensorRows reader_;
  std::vector<Candidate> candidates_;
  std::map<DType, int64_t> by_type_;  // elements
  size_t bytes_ = 0;
  int64_t weights_ = 0;  // of the matrices so far, less those that are none
};

}  // namespace

Result<Mixture> plan_mixture(const Checkpoint& source, const Calibration& calibration,
                             std::span<const TensorRule> rules, Budget budget, const std::function<bool()>& cancelled,
                             const std::function<void(size_t done, size_t total)>& on_progress) {
  // With the rules alone: what they say, and whether they can.
  TM_TRY(const std::vector<DType> ruled, plan_types(source, DType::f32, rules));
  MixturePlanner planner(source, calibration, budget.zeros);
  for (size_t i = 0; i < ruled.size(); ++i) {
    const GgufTensor& tensor = source.tensors()[i];
    if (on_progress) on_progress(i, ruled.size());
    if (!is_matrix(tensor)) continue;
    if (cancelled && cancelled()) return Error(ErrorCode::cancelled, "interrupted");
    const bool fixed = model::is_always_f32(tensor.name) ||
                       std::any_of(rules.begin(), rules.end(),
                                   [&tensor](const TensorRule& rule) { return matches(rule.pattern, tensor.name); });
    if (fixed) {
      TM_CHECK(planner.add_fixed(tensor, ruled[i]));
    } else {
      TM_CHECK(planner.add(tensor));
    }
    source.release(tensor);
  }
  if (on_progress) on_progress(ruled.size(), ruled.size());
  while (planner.bits() > budget.bits) {
    if (planner.step_down()) continue;
    return Error(ErrorCode::invalid_argument,
                 fmt::format("{:g} bits a weight are too few: the smallest types that fit take {:.2f}", budget.bits,
                             std::ceil(100 * planner.bits()) / 100));
  }
  while (planner.step_up(budget.bits)) {
  }
  return planner.take();
}

}  // namespace tidemill::quantize
