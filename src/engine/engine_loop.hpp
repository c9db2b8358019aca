// What the engine's thread does: one step after another, and between them the mail.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "engine/batch_builder.hpp"
#include "engine/engine.hpp"
#include "engine/job.hpp"
#include "engine/kv_blocks.hpp"
#include "engine/mailbox.hpp"
#include "engine/sampler.hpp"
#include "engine/scheduler.hpp"
#include "engine/speculator.hpp"
#include "engine/telemetry.hpp"
#include "model/model.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::engine {

// The generation rate of late, as an exponential average over some seconds.
class RateMeter {
 public:
  void add(int64_t tokens, base::SteadyTime now);
  double per_second() const { return rate_; }

 private:
  double rate_ = 0;
  int64_t pending_ = 0;
  std::optional<base::SteadyTime> last_;
};

// All state of the engine. Only stats() and call_size() may be called from other threads.
class EngineLoop {
 public:
  struct Parts {
    model::Model& model;
    const text::Tokenizer& tokenizer;
    const base::Clock& clock;
    std::unique_ptr<tensor::KvCache> cache;
    int64_t max_context;
  };
  EngineLoop(Parts parts, const EngineOptions& options, Mailbox& mailbox, Telemetry& telemetry);

  // Until the mailbox is closed; then ends what is left with an error.
  void run();

  // See Engine. For the engine's thread.
  base::Result<void> audit() const { return scheduler_.audit(pinned_); }
  base::Result<int64_t> save_prefixes(const std::filesystem::path& path, std::string_view identity) const;
  base::Result<int64_t> restore_prefixes(const std::filesystem::path& path, std::string_view identity);

  // Ends all requests that have arrived. On the engine's thread.
  void fail_all(const base::Error& error);

  EngineStats stats() const;
  // See Engine.
  std::optional<CallSize> call_size() const { return std::nullopt; }

 private:
  void receive(Mailbox::Letters letters);
  void accept(std::unique_ptr<Job> job);
  void add_sequence(Job& job, int index);
  void step();
  void speculate(std::vector<Slice>& plan);
  int64_t useful_proposal(const Sequence& sequence) const;
  void mark_started(const Sequence& sequence);

  // After the forward pass. How many of the slice's proposed tokens were right.
  int64_t finish_slice(const Slice& slice, const BatchBuilder::Outputs& outputs, const model::Output& output);
  void tell_resumption(Job& job, Sequence& sequence, Choice& choice);
  bool harvest(Job& job, const Slice& slice, const BatchBuilder::Outputs& outputs, const model::Output& output);
  int64_t decode(Job& job, Sequence& sequence, Sequence::FullyComputed proof, std::span<const Token> proposed,
                 tensor::ConstMatrix logits);
  base::Result<Token> sample(Job& job, Sequence& sequence, Sequence::FullyComputed proof,
                             std::span<const float> logits);
  base::Result<Token> choose(Job& job, Choice& choice, const Sequence& sequence, std::span<const float> logits);
  void finish_scored(Job& job);
  void finish_embedding(Job& job);

  // What has come together of a choice.
  static Event take_event(const Job& job, Choice& choice);
  // Sends it; ends the job with its last choice.
  void publish(Job& job, Choice& choice);
  // Lets those rest whose readers were found to lag.
  void rest_lagging();
  void wake(Job& job);
  void cancel(Job& job);
  void fail(Job& job, base::Error error);
  // Everything about the job's end but the last event, which is sent last: whoever sees it sees the books settled.
  void end(Job& job, Event last);

  Usage usage(const Job& job) const;
  void leave_queue(Job& job);
  void update_stats();
  void check_idle_books();
  base::Result<void> pin(const Request& request);

  model::Model& model_;
  const text::Tokenizer& tokenizer_;
  const base::Clock& clock_;
  std::unique_ptr<tensor::KvCache> cache_;
  const int64_t max_context_;
  const EngineOptions options_;
  Mailbox& mailbox_;
  Telemetry& telemetry_;

  KvBlocks blocks_;
  std::vector<Block> pinned_;  // held for Request::pin_prompt, once for each request
  Scheduler scheduler_;
  BatchBuilder builder_;
  Sampler sampler_;
  std::optional<Speculator> speculator_;  // none: speculation is off
  std::vector<int64_t> useful_;           // by slice of the plan: tokens that may be proposed
  std::vector<int64_t> accepted_;         // by slice of the plan: tokens that were right
  RateMeter rate_;
  std::map<uint64_t, std::unique_ptr<Job>> jobs_;  // by number
  std::unordered_map<const Sequence*, Job*> owners_;
  std::vector<Token> appended_;              // to one sequence, in one go
  std::vector<Job*> lagging_;                // whose readers lag, found since the last rest_lagging()
  std::vector<std::unique_ptr<Job>> ended_;  // until no slice refers to them
  EngineStats current_;

  mutable std::mutex stats_mutex_;
  EngineStats published_;
};

}  // namespace tidemill::engine
