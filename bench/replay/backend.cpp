#include "replay/backend.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace tidemill::replay {

namespace {

constexpr double kMostDecodeShare = 0.75;
constexpr double kNever = std::numeric_limits<double>::infinity();

}  // namespace

Backend::Backend(const Hardware& hardware, int64_t block_tokens, double window_seconds,
                 std::shared_ptr<BlockCache> cache)
    : hardware_(hardware), block_tokens_(block_tokens), window_seconds_(window_seconds), cache_(std::move(cache)) {}

void Backend::submit(uint64_t id, int64_t prompt_tokens, int64_t output_tokens, std::vector<route::BlockHash> blocks) {
  queue_.push_back({.id = id, .tokens = prompt_tokens, .output_tokens = output_tokens, .blocks = std::move(blocks)});
  if (queue_.size() == 1) begin_head();
}

void Backend::begin_head() {
  Prompt& head = queue_.front();
  const auto found = static_cast<int64_t>(cache_->match(head.blocks)) * block_tokens_;
  head.cached = std::min(found, head.tokens - 1);
  head.left =
      hardware_.overhead_seconds + static_cast<double>(head.tokens - head.cached) / hardware_.prefill_tokens_per_second;
}

double Backend::decode_share() const {
  const double demanded = static_cast<double>(answers_.size()) * hardware_.stream_tokens_per_second *
                          hardware_.decode_weight / hardware_.prefill_tokens_per_second;
  return std::min(demanded, kMostDecodeShare);
}

double Backend::stream_speed() const {
  return decode_share() * hardware_.prefill_tokens_per_second / hardware_.decode_weight /
         static_cast<double>(answers_.size());
}

double Backend::next_event() const {
  double next = kNever;
  if (!queue_.empty()) next = now_ + queue_.front().left / (1 - decode_share());
  if (!answers_.empty()) next = std::min(next, now_ + (answers_.top().until - decoded_) / stream_speed());
  return next;
}

void Backend::advance(double to, const FirstToken& first_token, const Finished& finished) {
  while (true) {
    const double next = next_event();
    const double until = std::max(std::min(next, to), now_);
    const double passed = until - now_;
    account(now_, until, queue_.empty() ? decode_share() : 1);
    if (!queue_.empty()) queue_.front().left -= passed * (1 - decode_share());
    if (!answers_.empty()) decoded_ += passed * stream_speed();
    now_ = until;
    if (next > to) return;
    if (!answers_.empty() && answers_.top().until <= decoded_ + 1e-9) {
      const uint64_t id = answers_.top().id;
      answers_.pop();
      finished(id, now_);
    } else {
      const Prompt done = std::move(queue_.front());
      queue_.pop_front();
      cache_->insert(done.blocks);
      answers_.push({decoded_ + static_cast<double>(std::max<int64_t>(done.output_tokens - 1, 0)), done.id});
      if (!queue_.empty()) begin_head();
      first_token(done.id, done.cached, now_);
    }
  }
}

std::vector<uint64_t> Backend::crash() {
  std::vector<uint64_t> lost;
  for (const Prompt& prompt : queue_)
    lost.push_back(prompt.id);
  for (; !answers_.empty(); answers_.pop())
    lost.push_back(answers_.top().id);
  queue_.clear();
  cache_->clear();
  std::ranges::sort(lost);
  return lost;
}

void Backend::account(double from, double to, double busy) {
  while (from < to) {
    const auto window = static_cast<size_t>(from / window_seconds_);
    const double end = std::min(to, static_cast<double>(window + 1) * window_seconds_);
    if (work_.size() <= window) work_.resize(window + 1);
    work_[window] += (end - from) * busy;
    if (end <= from) return;
    from = end;
  }
}

}  // namespace tidemill::replay
