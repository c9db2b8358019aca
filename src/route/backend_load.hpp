// What one backend has been given to do, as the gateway knows it: open requests, work ahead, work done lately.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/clock.hpp"
#include "route/prefill_speed.hpp"

namespace tidemill::route {

// What a backend says of itself (its /metrics, under vLLM's names or Tidemill's), as far as it does.
struct BackendReport {
  std::optional<int64_t> waiting = {};  // vllm:num_requests_waiting
  std::optional<int64_t> running = {};  // vllm:num_requests_running
  std::optional<double> kv_usage = {};  // vllm:kv_cache_usage_perc, 0 to 1: blocks that running requests hold
  std::optional<int64_t> kv_capacity_tokens = {};  // block_size times num_gpu_blocks of vllm:cache_config_info
  std::optional<double> started_at = {};           // process_start_time_seconds: another one is another instance
};

struct LoadOptions {
  double tokens_per_second = 5000;  // of prefill, until measured
  double overhead_seconds = 0.02;   // a prompt, until measured
  double decode_weight = 4;         // a decoded token takes as much of a backend's time as so many prefilled ones
  double stream_tokens_per_second = 30;
  double memory_seconds = 60;            // how far back "lately" reaches
  int64_t kv_capacity_tokens = 500'000;  // until reported
};

// Predictions are in seconds of the backend's own time, so that fast and slow backends compare.
//
// Not thread-safe.
class BackendLoad {
 public:
  BackendLoad(const LoadOptions& options, base::SteadyTime now);

  // A request as it stands here while it is open.
  struct Open {
    uint64_t id = 0;            // of the prefill in the queue; 0 once its first token came
    double tokens = 0;          // that the cache was believed to lack
    double seconds = 0;         // predicted for them
    double decode_seconds = 0;  // predicted for the answer
    int64_t context_tokens = 0;
  };
  Open begin(int64_t uncached_tokens, int64_t prompt_tokens, int64_t output_tokens, base::SteadyTime now);
  // The first token: the prefill is done. Learns the speed; `uncached_tokens` are as the backend reports them, or as
  // they were believed.
  void first_token(Open& open, std::optional<int64_t> uncached_tokens, base::SteadyTime now);
  // The end, whatever it was. `output_tokens` as far as known.
  void finish(Open& open, std::optional<int64_t> output_tokens, base::SteadyTime now);

  void observe(const BackendReport& report, base::SteadyTime now);
  // The instance is another: nothing that was open is there, but the speed is believed to be the same.
  void restart(base::SteadyTime now);
  // As if it had done so much lately: what joins must not look idle beside its peers.
  void set_recent(double seconds, base::SteadyTime now);

  const PrefillSpeed& speed() const { return speed_; }
  int32_t open() const { return prefilling() + decoding_; }
  int32_t prefilling() const { return static_cast<int32_t>(queue_.size()); }
  int32_t decoding() const { return decoding_; }
  // Until the prompts given so far have their first tokens.
  double backlog_seconds(base::SteadyTime now) const;
  // The share of its time that decoding takes, 0 to 0.75.
  double decode_share() const;
  // Work given lately: every second of it counts for exp(-age / memory_seconds).
  double recent_seconds(base::SteadyTime now) const;
  // Recent work over the time it had for it, and requests a second, both over the same memory.
  double utilisation(base::SteadyTime now) const { return recent_seconds(now) / options_.memory_seconds; }
  double arrivals_per_second(base::SteadyTime now) const;
  int64_t kv_capacity_tokens() const { return kv_capacity_; }
  int64_t kv_free_tokens() const;
  double expected_output_tokens() const { return output_tokens_; }

 private:
  struct Prefill {
    uint64_t id;
    double seconds;
  };
  void fade(base::SteadyTime now);
  void leave_queue(uint64_t id, base::SteadyTime now);

  LoadOptions options_;
  PrefillSpeed speed_;
  std::deque<Prefill> queue_;         // prompts without a first token yet, oldest first
  double queued_seconds_ = 0;         // predicted for them
  base::SteadyTime serving_since_{};  // when the queue's head is believed to have come on
  uint64_t next_id_ = 1;
  int32_t decoding_ = 0;
  int64_t context_tokens_ = 0;  // of all open requests
  int64_t kv_capacity_;
  double output_tokens_ = 256;  // of an answer, on average
  // What others have given it, going by its report.
  double foreign_seconds_ = 0;
  int64_t foreign_tokens_ = 0;
  base::SteadyTime reported_{};
  // Fading sums.
  base::SteadyTime faded_;
  double recent_seconds_ = 0;
  double recent_arrivals_ = 0;
};

}  // namespace tidemill::route
