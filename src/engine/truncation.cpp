#include "engine/truncation.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace tidemill::engine {
namespace {

// Buckets of weights, heaviest first. A weight in (0, 1] falls into a bucket by its exponent and the top bits of its
// mantissa: cheap, and monotone, which is all that is asked. 16 buckets for each halving, down to 2^-126.
constexpr int kMantissaBits = 4;
constexpr int kBuckets = (127 << kMantissaBits) + 1;

int bucket_of(float weight) {
  uint32_t bits = 0;
  std::memcpy(&bits, &weight, sizeof bits);
  const int rank = static_cast<int>(bits >> (23 - kMantissaBits));  // 127 << kMantissaBits for 1
  return std::min((127 << kMantissaBits) - rank, kBuckets - 1);
}

struct Histogram {
  std::array<int32_t, kBuckets> count{};
  std::array<double, kBuckets> mass{};
};

// Everything that is at least as good as the border token; "better" is the higher logit, then the lower id.
struct Border {
  float logit;
  int32_t id;
  bool keeps(float other_logit, int32_t other_id) const {
    return other_logit > logit || (other_logit == logit && other_id <= id);
  }
};

class Truncation {
 public:
  Truncation(std::span<const float> logits, std::span<const float> weights, float min_weight)
      : logits_(logits), weights_(weights), min_weight_(min_weight) {
    for (size_t i = 0; i < weights.size(); ++i) {
      if (!eligible(i)) continue;
      const auto bucket = static_cast<size_t>(bucket_of(weights[i]));
      ++histogram_.count[bucket];
      histogram_.mass[bucket] += static_cast<double>(weights[i]);
      ++count_;
    }
    for (const double mass : histogram_.mass)
      mass_ += mass;
  }

  // Keeps the best k of what is kept so far (all that is eligible, at first).
  void keep_top_k(int64_t k) {
    if (k >= count_) return;
    int64_t before = 0;
    double mass = 0;
    int bucket = 0;
    while (before + histogram_.count[static_cast<size_t>(bucket)] < k) {
      before += histogram_.count[static_cast<size_t>(bucket)];
      mass += histogram_.mass[static_cast<size_t>(bucket)];
      ++bucket;
    }
    const std::vector<int32_t> order = sorted_bucket(bucket, static_cast<size_t>(k - before));
    for (const int32_t id : order)
      mass += static_cast<double>(weights_[static_cast<size_t>(id)]);
    set_border(order.back());
    count_ = k;
    mass_ = mass;
  }

  // Keeps the smallest set of best ones that holds the share p of the mass kept so far.
  void keep_top_p(double p) {
    const double wanted = p * mass_;
    double mass = 0;
    int bucket = 0;
    while (bucket < kBuckets - 1 && mass + histogram_.mass[static_cast<size_t>(bucket)] < wanted) {
      mass += histogram_.mass[static_cast<size_t>(bucket)];
      ++bucket;
    }
    // The sums of mass_ and of these loops round differently: with p next to 1 the border may seem to lie behind the
    // last.
    while (bucket > 0 && histogram_.count[static_cast<size_t>(bucket)] == 0)
      --bucket;
    const std::vector<int32_t> order = sorted_bucket(bucket, SIZE_MAX);
    int32_t last = order.front();
    for (const int32_t id : order) {
      if (has_border_ && !border_.keeps(logits_[static_cast<size_t>(id)], id)) break;
      last = id;
      mass += static_cast<double>(weights_[static_cast<size_t>(id)]);
      if (mass >= wanted) break;
    }
    if (!has_border_ || border_.keeps(logits_[static_cast<size_t>(last)], last)) set_border(last);
  }

  void collect(std::vector<int32_t>& kept) const {
    kept.clear();
    for (size_t i = 0; i < weights_.size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      if (eligible(i) && (!has_border_ || border_.keeps(logits_[i], id))) kept.push_back(id);
    }
  }

 private:
  bool eligible(size_t i) const { return weights_[i] > 0 && weights_[i] >= min_weight_; }

  // The best `wanted` (or all) of a bucket, best first.
  std::vector<int32_t> sorted_bucket(int bucket, size_t wanted) const {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < weights_.size(); ++i) {
      if (eligible(i) && bucket_of(weights_[i]) == bucket) ids.push_back(static_cast<int32_t>(i));
    }
    const auto better = [this](int32_t a, int32_t b) {
      const float x = logits_[static_cast<size_t>(a)];
      const float y = logits_[static_cast<size_t>(b)];
      return x > y || (x == y && a < b);
    };
    wanted = std::min(wanted, ids.size());
    if (wanted < ids.size()) {
      std::ranges::nth_element(ids, ids.begin() + static_cast<std::ptrdiff_t>(wanted), better);
      ids.resize(wanted);
    }
    std::ranges::sort(ids, better);
    return ids;
  }

  void set_border(int32_t id) {
    border_ = Border{logits_[static_cast<size_t>(id)], id};
    has_border_ = true;
  }

  std::span<const float> logits_;
  std::span<const float> weights_;
  float min_weight_;
  Histogram histogram_;
  int64_t count_ = 0;
  double mass_ = 0;
  Border border_{};
  bool has_border_ = false;
};

}  // namespace

void truncate(std::span<const float> logits, std::span<const float> weights, const Sampling& sampling,
              std::vector<int32_t>& kept) {
  Truncation truncation(logits, weights, sampling.min_p);
  if (sampling.top_k > 0) truncation.keep_top_k(sampling.top_k);
  if (sampling.top_p < 1.0f) truncation.keep_top_p(static_cast<double>(sampling.top_p));
  truncation.collect(kept);
}

}  // namespace tidemill::engine
