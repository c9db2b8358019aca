#include "route/backend_load.hpp"

#include <algorithm>
#include <cmath>

namespace tidemill::route {

namespace {

constexpr double kMostDecodeShare = 0.75;
constexpr double kOutputLearning = 0.02;  // of an answer's length into the average

}  // namespace

BackendLoad::BackendLoad(const LoadOptions& options, base::SteadyTime now)
    : options_(options),
      speed_(options.tokens_per_second, options.overhead_seconds),
      serving_since_(now),
      kv_capacity_(options.kv_capacity_tokens),
      reported_(now),
      faded_(now) {}

BackendLoad::Open BackendLoad::begin(int64_t uncached_tokens, int64_t prompt_tokens, int64_t output_tokens,
                                     base::SteadyTime now) {
  Open open;
  open.id = next_id_++;
  open.tokens = static_cast<double>(std::max<int64_t>(uncached_tokens, 0));
  open.seconds = speed_.seconds(open.tokens);
  open.decode_seconds = static_cast<double>(output_tokens) * options_.decode_weight / speed_.tokens_per_second();
  open.context_tokens = prompt_tokens + output_tokens;
  if (queue_.empty()) serving_since_ = now;
  queue_.push_back({open.id, open.seconds});
  queued_seconds_ += open.seconds;
  context_tokens_ += open.context_tokens;
  fade(now);
  recent_seconds_ += open.seconds + open.decode_seconds;
  recent_arrivals_ += 1;
  return open;
}

void BackendLoad::first_token(Open& open, std::optional<int64_t> uncached_tokens, base::SteadyTime now) {
  if (open.id == 0) return;
  const double tokens = uncached_tokens ? static_cast<double>(*uncached_tokens) : open.tokens;
  // Time that nobody else's first token took is this prompt's.
  const bool queued = std::ranges::any_of(queue_, [&](const Prefill& prefill) { return prefill.id == open.id; });
  if (queued) speed_.observe(tokens, base::seconds(now - serving_since_));
  leave_queue(open.id, now);
  open.id = 0;
  ++decoding_;
}

void BackendLoad::finish(Open& open, std::optional<int64_t> output_tokens, base::SteadyTime now) {
  if (open.id != 0) {
    leave_queue(open.id, now);
  } else if (decoding_ > 0) {
    --decoding_;
  }
  context_tokens_ = std::max<int64_t>(context_tokens_ - open.context_tokens, 0);
  if (output_tokens) {
    const double tokens = static_cast<double>(*output_tokens);
    output_tokens_ += kOutputLearning * (tokens - output_tokens_);
    fade(now);
    const double took = tokens * options_.decode_weight / speed_.tokens_per_second();
    recent_seconds_ = std::max(recent_seconds_ + took - open.decode_seconds, 0.0);
  }
  open = Open{};
}

void BackendLoad::leave_queue(uint64_t id, base::SteadyTime now) {
  const auto found = std::ranges::find(queue_, id, &Prefill::id);
  if (found == queue_.end()) return;  // from before a restart
  queued_seconds_ = std::max(queued_seconds_ - found->seconds, 0.0);
  queue_.erase(found);
  if (queue_.empty()) queued_seconds_ = 0;
  serving_since_ = now;
}

void BackendLoad::observe(const BackendReport& report, base::SteadyTime now) {
  if (report.kv_capacity_tokens && *report.kv_capacity_tokens > 0) kv_capacity_ = *report.kv_capacity_tokens;
  reported_ = now;
  foreign_seconds_ = 0;
  if (report.waiting) {
    // One of ours at a time is running its prefill rather than waiting.
    const int64_t foreign = *report.waiting - std::max<int64_t>(prefilling() - 1, 0);
    const double each = queue_.empty() ? speed_.seconds(2048) : queued_seconds_ / static_cast<double>(queue_.size());
    foreign_seconds_ = static_cast<double>(std::max<int64_t>(foreign, 0)) * each;
  }
  foreign_tokens_ = 0;
  if (report.kv_usage) {
    const auto used = static_cast<int64_t>(std::clamp(*report.kv_usage, 0.0, 1.0) * static_cast<double>(kv_capacity_));
    foreign_tokens_ = std::max<int64_t>(used - context_tokens_, 0);
  }
}

void BackendLoad::restart(base::SteadyTime now) {
  queue_.clear();
  queued_seconds_ = 0;
  serving_since_ = now;
  decoding_ = 0;
  context_tokens_ = 0;
  foreign_seconds_ = 0;
  foreign_tokens_ = 0;
}

void BackendLoad::set_recent(double seconds, base::SteadyTime now) {
  fade(now);
  recent_seconds_ = seconds;
}

double BackendLoad::backlog_seconds(base::SteadyTime now) const {
  const double served = queue_.empty() ? 0 : std::min(base::seconds(now - serving_since_), queue_.front().seconds);
  const double foreign = std::max(foreign_seconds_ - base::seconds(now - reported_), 0.0);
  return std::max(queued_seconds_ - served, 0.0) + foreign;
}

double BackendLoad::decode_share() const {
  const double demanded = decoding_ * options_.stream_tokens_per_second * options_.decode_weight;
  return std::min(demanded / speed_.tokens_per_second(), kMostDecodeShare);
}

double BackendLoad::recent_seconds(base::SteadyTime now) const {
  return recent_seconds_ * std::exp(-base::seconds(now - faded_) / options_.memory_seconds);
}

double BackendLoad::arrivals_per_second(base::SteadyTime now) const {
  return recent_arrivals_ * std::exp(-base::seconds(now - faded_) / options_.memory_seconds) / options_.memory_seconds;
}

int64_t BackendLoad::kv_free_tokens() const {
  return kv_capacity_ - context_tokens_ - foreign_tokens_;
}

void BackendLoad::fade(base::SteadyTime now) {
  if (now <= faded_) return;
  const double kept = std::exp(-base::seconds(now - faded_) / options_.memory_seconds);
  recent_seconds_ *= kept;
  recent_arrivals_ *= kept;
  faded_ = now;
}

}  // namespace tidemill::route
