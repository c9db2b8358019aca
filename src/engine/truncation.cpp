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

// The first bucket that weights below kLikelyWeight fall into.
constexpr int kLikelyBuckets = 16 << kMantissaBits;
constexpr int kSafeBuckets = 15 << kMantissaBits;  // of weights at least twice that

struct Histogram {
  std::array<int32_t, kBuckets> count{};
  std::array<double, kBuckets> mass{};
};

// Everything that is at least as good as the border token; "better" is the higher logit, then the lower id.
struct Border {
  float logit;
  int32_t id;
  float weight;
  bool keeps(float other_logit, int32_t other_id) const {
    return other_logit > logit || (other_logit == logit && other_id <= id);
  }
};

// Most tokens of a vocabulary are far too unlikely to be kept. The likely ones are listed in `kept` from the start, so
// that what looks only at those need not pass over the vocabulary again.
class Truncation {
 public:
  Truncation(std::span<const float> logits, std::span<const float> weights, float min_weight,
             std::vector<int32_t>& kept)
      : logits_(logits), weights_(weights), min_weight_(min_weight), kept_(kept) {
    kept_.clear();
    for (size_t i = 0; i < weights.size(); ++i) {
      if (!eligible(i)) continue;
      const auto bucket = static_cast<size_t>(bucket_of(weights[i]));
      ++histogram_.count[bucket];
      histogram_.mass[bucket] += static_cast<double>(weights[i]);
      ++count_;
      if (weights[i] >= kLikelyWeight) kept_.push_back(static_cast<int32_t>(i));
    }
    for (const double mass : histogram_.mass)
      mass_ += mass;
  }

  // True if there are k whose weights are twice kLikelyWeight and more: by that much, at least, a higher logit has the
  // higher weight, however exponentials are rounded.
  bool has_likely(int64_t k) const {
    int64_t count = 0;
    for (int bucket = 0; bucket < kSafeBuckets; ++bucket)
      count += histogram_.count[static_cast<size_t>(bucket)];
    return count >= k;
  }
  // True if those together weigh more than `mass`.
  bool likely_reach(double mass) const {
    double sum = 0;
    for (int bucket = 0; bucket < kSafeBuckets; ++bucket)
      sum += histogram_.mass[static_cast<size_t>(bucket)];
    return sum > mass * (1 + 1e-9);
  }

  // Tells it the mass of all tokens, of which it has seen the likely ones only. The sum was rounded in another order:
  // where so little decides, sure() is false afterwards.
  void set_mass(double mass) {
    mass_ = mass;
    slack_ = 1e-10;
  }
  bool sure() const { return sure_; }

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
    while (bucket < kBuckets - 1 && !reaches(mass + histogram_.mass[static_cast<size_t>(bucket)], wanted)) {
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
      if (reaches(mass, wanted)) break;
    }
    if (!has_border_ || border_.keeps(logits_[static_cast<size_t>(last)], last)) set_border(last);
  }

  // Leaves what is kept in `kept`.
  void collect() {
    if (min_weight_ >= kLikelyWeight && !has_border_) return;
    if (min_weight_ >= kLikelyWeight || (has_border_ && border_.weight >= 2 * kLikelyWeight)) {
      std::erase_if(kept_, [this](int32_t id) { return !border_.keeps(logits_[static_cast<size_t>(id)], id); });
      return;
    }
    kept_.clear();
    for (size_t i = 0; i < weights_.size(); ++i) {
      const auto id = static_cast<int32_t>(i);
      if (eligible(i) && (!has_border_ || border_.keeps(logits_[i], id))) kept_.push_back(id);
    }
  }

 private:
  bool reaches(double mass, double wanted) {
    sure_ = sure_ && std::abs(mass - wanted) >= slack_ * wanted;
    return mass >= wanted;
  }

  bool eligible(size_t i) const { return weights_[i] > 0 && weights_[i] >= min_weight_; }

  // The best `wanted` (or all) of a bucket, best first.
  std::vector<int32_t> sorted_bucket(int bucket, size_t wanted) const {
    std::vector<int32_t> ids;
    if (bucket < kLikelyBuckets) {
      for (const int32_t id : kept_) {
        if (bucket_of(weights_[static_cast<size_t>(id)]) == bucket) ids.push_back(id);
      }
    } else {
      for (size_t i = 0; i < weights_.size(); ++i) {
        if (eligible(i) && bucket_of(weights_[i]) == bucket) ids.push_back(static_cast<int32_t>(i));
      }
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
    border_ = Border{logits_[static_cast<size_t>(id)], id, weights_[static_cast<size_t>(id)]};
    has_border_ = true;
  }

  std::span<const float> logits_;
  std::span<const float> weights_;
  float min_weight_;
  std::vector<int32_t>& kept_;
  Histogram histogram_;
  int64_t count_ = 0;
  double mass_ = 0;
  double slack_ = 0;
  bool sure_ = true;
  Border border_{};
  bool has_border_ = false;
};

void keep_best(Truncation& truncation, const Sampling& sampling) {
  if (sampling.top_k > 0) truncation.keep_top_k(sampling.top_k);
  if (sampling.top_p < 1.0f) truncation.keep_top_p(static_cast<double>(sampling.top_p));
  truncation.collect();
}

}  // namespace

void truncate(std::span<const float> logits, std::span<const float> weights, const Sampling& sampling,
              std::vector<int32_t>& kept) {
  Truncation truncation(logits, weights, sampling.min_p, kept);
  keep_best(truncation, sampling);
}

bool truncate_likely(std::span<const float> logits, std::span<const float> weights, double total,
                     const Sampling& sampling, std::vector<int32_t>& kept) {
  Truncation truncation(logits, weights, std::max(sampling.min_p, kLikelyWeight), kept);
  if (sampling.min_p < kLikelyWeight) {
    if (sampling.top_k > 0) {
      // More than k, so that the border of the best k is one of them.
      if (!truncation.has_likely(int64_t{sampling.top_k} + 1)) return false;
    } else {
      if (sampling.min_p > 0 || total <= 0 || !truncation.likely_reach(sampling.top_p * total)) return false;
      truncation.set_mass(total);
    }
  }
  keep_best(truncation, sampling);
  return truncation.sure();
}

}  // namespace tidemill::engine
