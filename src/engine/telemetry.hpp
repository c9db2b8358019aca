// What the engine tells about itself: metrics, and the spans of each request.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.hpp"
#include "engine/job.hpp"
#include "observe/metrics.hpp"
#include "observe/trace.hpp"

namespace tidemill::engine {

// Called by the engine's thread, but for submitted().
class Telemetry {
 public:
  Telemetry(observe::Tracer& tracer, observe::Metrics& metrics, const base::Clock& clock, std::string model_name,
            int64_t block_tokens, int64_t blocks);

  // The stations of a job, in their order. A job may go from any of them to ended().
  void submitted(Job& job);  // stamps the arrival; by the submitting thread
  void started(Job& job);    // first scheduled
  void prefilled(Job& job);  // prompt computed, and what is resumed
  void token(Job& job, int choice);
  void rests(Job& job);                                           // its reader lags; at any time
  void woken(Job& job);                                           // and has caught up
  void speculated(Job& job, int64_t proposed, int64_t accepted);  // for one choice, in one step
  void ended(Job& job, const Usage& usage, const base::Error* error);

  void resumed(int64_t tokens);
  void looked_up(int64_t tokens, int64_t found);
  void stepped(uint64_t preemptions_so_far);
  struct Load {
    int64_t waiting = 0;  // requests, here and below
    int64_t running = 0;
    int64_t resting = 0;
    double kv_usage = 0;  // share of the blocks
  };
  void load(const Load& present);

 private:
  observe::Tracer& tracer_;
  const base::Clock& clock_;
  std::string model_name_;
  observe::Metrics& metrics_;
  observe::Labels labels_;
  observe::Gauge& waiting_;
  observe::Gauge& running_;
  observe::Gauge& resting_;
  observe::Gauge& kv_usage_;
  observe::Gauge& lora_requests_;
  observe::Counter& prompt_tokens_;
  observe::Counter& generated_tokens_;
  observe::Counter& resumed_tokens_;
  observe::Counter& prefix_queries_;
  observe::Counter& prefix_hits_;
  observe::Counter& preemptions_;
  observe::Counter& rests_;
  observe::Counter& steps_;
  observe::Counter& proposals_;
  observe::Counter& proposed_tokens_;
  observe::Counter& accepted_tokens_;
  observe::Histogram& queue_time_;
  observe::Histogram& time_to_first_token_;
  observe::Histogram& inter_token_latency_;
  observe::Histogram& time_per_output_token_;
  observe::Histogram& request_duration_;
  uint64_t preemptions_seen_ = 0;
};

}  // namespace tidemill::engine
