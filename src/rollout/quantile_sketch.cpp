#include "rollout/quantile_sketch.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace tidemill::rollout {
namespace {

constexpr double kLeast = 1e-6;
constexpr double kMost = 1e6;
constexpr int64_t kMostCount = int64_t{1} << 52;  // so that no sum of them overflows
constexpr double kAccuracy = 0.01;
const double kLogGamma = std::log((1 + kAccuracy) / (1 - kAccuracy));

// Bucket b holds the values in (gamma^(b-1), gamma^b].
int bucket_of(double value) {
  return static_cast<int>(std::ceil(std::log(std::clamp(value, kLeast, kMost)) / kLogGamma));
}

double value_of(int bucket) {
  return 2 * std::exp(bucket * kLogGamma) / (1 + std::exp(kLogGamma));
}

base::Error bad_sketch(const char* what) {
  return {base::ErrorCode::invalid_argument, std::string("a quantile sketch ") + what};
}

}  // namespace

void QuantileSketch::widen(int bucket) {
  if (counts_.empty()) {
    first_ = bucket;
    counts_.assign(1, 0);
  } else if (bucket < first_) {
    counts_.insert(counts_.begin(), static_cast<size_t>(first_ - bucket), 0);
    first_ = bucket;
  } else if (bucket >= first_ + static_cast<int>(counts_.size())) {
    counts_.resize(static_cast<size_t>(bucket - first_) + 1, 0);
  }
}

void QuantileSketch::add(double value) {
  if (std::isnan(value)) return;
  value = std::clamp(value, kLeast, kMost);
  const int bucket = bucket_of(value);
  least_ = count_ == 0 ? value : std::min(least_, value);
  most_ = count_ == 0 ? value : std::max(most_, value);
  widen(bucket);
  ++counts_[static_cast<size_t>(bucket - first_)];
  ++count_;
  sum_ += value;
}

void QuantileSketch::merge(const QuantileSketch& other) {
  if (other.counts_.empty()) return;
  widen(other.first_);
  widen(other.first_ + static_cast<int>(other.counts_.size()) - 1);
  for (size_t i = 0; i < other.counts_.size(); ++i)
    counts_[static_cast<size_t>(other.first_ - first_) + i] += other.counts_[i];
  least_ = count_ == 0 ? other.least_ : std::min(least_, other.least_);
  most_ = count_ == 0 ? other.most_ : std::max(most_, other.most_);
  count_ += other.count_;
  sum_ += other.sum_;
}

double QuantileSketch::quantile(double q) const {
  if (count_ == 0) return 0;
  auto left = static_cast<int64_t>(std::clamp(q, 0.0, 1.0) * static_cast<double>(count_ - 1));
  if (left == 0) return least_;
  if (left == count_ - 1) return most_;
  for (size_t i = 0; i < counts_.size(); ++i) {
    left -= counts_[i];
    if (left < 0) return std::clamp(value_of(first_ + static_cast<int>(i)), least_, most_);
  }
  return most_;
}

base::json::value QuantileSketch::to_json() const {
  base::json::array counts;
  counts.reserve(counts_.size());
  for (const int64_t count : counts_)
    counts.emplace_back(count);
  return {{"first", first_}, {"sum", sum_}, {"least", least_}, {"most", most_}, {"counts", std::move(counts)}};
}

base::Result<QuantileSketch> QuantileSketch::from_json(const base::json::value& value) {
  const auto* object = value.if_object();
  if (object == nullptr) return bad_sketch("is an object with 'first', 'sum', 'least', 'most' and 'counts'");
  const auto* first = object->if_contains("first");
  const auto number = [&](const char* key) {
    const auto* member = object->if_contains(key);
    return member != nullptr && member->is_number() ? member->to_number<double>() : std::nan("");
  };
  const auto* counts = object->if_contains("counts");
  if (first == nullptr || !first->is_int64() || counts == nullptr || !counts->is_array())
    return bad_sketch("wants an integer 'first' and an array 'counts'");
  const base::json::array& list = counts->get_array();
  QuantileSketch sketch;
  sketch.sum_ = number("sum");
  sketch.least_ = number("least");
  sketch.most_ = number("most");
  if (!std::isfinite(sketch.sum_) || !(sketch.least_ <= sketch.most_))
    return bad_sketch("wants numbers 'sum', 'least' and 'most', the latter no smaller than the one before");
  if (list.empty()) return sketch;
  const int64_t from = first->get_int64();
  if (from < bucket_of(0) || from > bucket_of(kMost) || from + static_cast<int64_t>(list.size()) - 1 > bucket_of(kMost))
    return bad_sketch("has buckets out of range");
  sketch.first_ = static_cast<int>(from);
  for (const base::json::value& count : list) {
    if (!count.is_int64() || count.get_int64() < 0 || count.get_int64() > kMostCount)
      return bad_sketch("has a count that is no integer from 0 to 2^52");
    sketch.counts_.push_back(count.get_int64());
    sketch.count_ += count.get_int64();
  }
  return sketch;
}

}  // namespace tidemill::rollout
