// Which requests go to the backends now, which wait, and which are told at once to come later.
//
// Waiting requests stand in a fair queue (fair_queue.hpp). Backends get as many at one time as they serve at full
// speed, so that what is admitted keeps its latency and what waits can still be put in order. A part of the places is
// spared for tenants that have less than their fair share, by their weights and the priorities of what they ask for:
// one that floods finds the rest, and one that asks for little need not wait until a long request of another ends.
//
// A request that would wait too long (longer than a third of `longest_wait`, as far as can be told) is refused at once,
// with the time after which the queue will have room by the rate at which it drains.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "access/api_key.hpp"
#include "access/refusal.hpp"
#include "base/clock.hpp"

namespace tidemill::access {

struct AdmissionOptions {
  int slots = 64;                   // requests at the backends at one time; at least 1
  int64_t max_prompt_tokens = 0;    // of requests there that wait for their first token, together; 0: no bound
  double spare = 0.125;             // of both, for tenants below their fair share; 0 to 0.5
  size_t max_queued = 4096;         // requests
  size_t max_queued_of_one = 1024;  // requests of one tenant
  base::Duration longest_wait = std::chrono::seconds(1);
};

struct AdmissionRequest {
  std::string tenant;
  double weight = 1;
  Priority priority = Priority::normal;
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;  // the most it may make, or what is expected
};

// Thread-safe. Each request's `decided` is called once, on the thread whose call decides it, outside of any lock, maybe
// before submit returns.
class Admission {
 public:
  using Decided = std::function<void(std::optional<Refusal>)>;  // nullopt: go

  explicit Admission(const AdmissionOptions& options);
  ~Admission();
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  // Returns the request's number for the calls below.
  uint64_t submit(const AdmissionRequest& request, base::SteadyTime now, Decided decided);
  // The first token came: its prompt no longer counts as waiting.
  void first_token(uint64_t id, base::SteadyTime now);
  // It ended, or its client went away, running or still waiting (`decided` is not called then). `tokens` are those it
  // really took, prompt and output. Of an unknown number nothing happens.
  void finish(uint64_t id, int64_t tokens, base::SteadyTime now);
  // Refuses those that waited for the longest time. To be called some times a second.
  void expire(base::SteadyTime now);
  // The number of slots changes with the backends that are there; no running request is stopped.
  void set_slots(int slots, base::SteadyTime now);

  // For those that come from now on: who waits already keeps the time that it was given.
  void set_queue(size_t max_queued, base::Duration longest_wait);

  struct State {
    size_t running = 0;
    size_t queued = 0;
    double queued_tokens = 0;
    std::optional<double> tokens_per_second;  // at which the queue drains
  };
  State state() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidemill::access
