// The engine: one thread owns all its state and loops over arrivals, planning, forward, sampling and publishing.
// Everything else talks to it through queues.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "engine/request.hpp"
#include "engine/speculation.hpp"
#include "engine/stream.hpp"
#include "model/encoder.hpp"
#include "model/model.hpp"
#include "observe/metrics.hpp"
#include "observe/trace.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::engine {

struct EngineOptions {
  int64_t kv_bytes = int64_t{1} << 30;  // memory for KV blocks; rounded down to whole blocks
  int64_t max_context = 0;              // tokens of one sequence; 0: the model's
  int step_tokens = 512;  // token budget of one step: decode first, then chunks of prefill; at most what the
                          // model was loaded for (LoadOptions::max_batch_rows)
  int max_running = 64;   // sequences that run at the same time, at most step_tokens
  int max_waiting = 256;  // requests in the queue; past that submit() fails with `exhausted`
  bool prefix_cache = true;
  // One step of priority counts like so many seconds of earlier arrival: priorities rule among requests that came
  // within that time of each other, and no stream of urgent ones can starve the others for longer.
  double priority_seconds = 30;
  // Of one stream, that its reader has not taken: past so much the request rests until half of it is read. It holds its
  // KV blocks as long as nobody else needs them, and no place among the running. At most one step's events come on top.
  int64_t max_unread_bytes = int64_t{512} << 10;
  SpeculationOptions speculation = {};
  std::string model_name = {};  // for metrics and spans; may be empty
  tensor::KvType kv_type = tensor::KvType::f16;
};

// A snapshot for /metrics, /health and tests.
struct EngineStats {
  int waiting = 0;
  int running = 0;
  int resting = 0;  // until their readers have caught up: neither waiting nor running
  int64_t kv_blocks = 0;
  int64_t kv_blocks_free = 0;
  int64_t kv_blocks_cached = 0;  // not in use, found by the prefix tree, evictable
  uint64_t preemptions = 0;
  uint64_t prompt_tokens = 0;
  uint64_t generated_tokens = 0;
  uint64_t prefix_queries = 0;   // prompt tokens looked up
  uint64_t prefix_hits = 0;      // prompt tokens found
  uint64_t proposed_tokens = 0;  // by speculation, and verified
  uint64_t accepted_tokens = 0;  // of those, the ones that were generated
  uint64_t steps = 0;
  double tokens_per_second = 0;  // recent generation rate, for Retry-After
};

// Of one call of an encoder, at most.
struct CallSize {
  int64_t texts = 0;
  int64_t tokens = 0;  // of all texts together; a longer text is in a call alone
};

// Thread-safe. Its destructor ends all streams with an error and waits for the engine's thread.
class Engine {
 public:
  // Everything given by reference must outlive the engine, and no other thread may use the model or the device
  // meanwhile. Makes the KV cache and starts the engine's thread. Errors: `invalid_argument` (with the option named),
  // `exhausted` (no memory for the KV cache).
  static base::Result<std::unique_ptr<Engine>> start(model::Model& model, tensor::Device& device,
                                                     const text::Tokenizer& tokenizer, const EngineOptions& options,
                                                     observe::Tracer& tracer, observe::Metrics& metrics,
                                                     const base::Clock& clock);
  // The same for an encoder, which takes requests of Kind::embed alone, or, if it is a reranker, of Kind::score alone:
  // others are `unsupported`. Each is computed in one piece, as many together as step_tokens and max_running allow. The
  // options of KV blocks, prefixes and speculation mean nothing to it.
  static base::Result<std::unique_ptr<Engine>> start(model::Encoder& encoder, const text::Tokenizer& tokenizer,
                                                     const EngineOptions& options, observe::Tracer& tracer,
                                                     observe::Metrics& metrics, const base::Clock& clock);
  virtual ~Engine() = default;

  // Queues the request. Errors: `invalid_argument` (with the parameter named), `too_large` (prompt does not fit the
  // context; says both counts), `unsupported` (the model does not do this kind of thing), `exhausted` (queue full),
  // `unavailable` (draining).
  virtual base::Result<std::shared_ptr<Stream>> submit(Request request) = 0;
  // Queues requests that arrive together, so that an idle encoder does not begin with the first of them alone: the
  // first ones, as many as the queue has room for, of which there is a stream each. Errors as submit(), and then none
  // is queued; of the requests themselves, those behind that room are not looked at.
  virtual base::Result<std::vector<std::shared_ptr<Stream>>> submit_all(std::span<const Request> requests) = 0;
  // What one step computes at most, for an encoder; nullopt for a decoder, which takes prompts in pieces.
  virtual std::optional<CallSize> call_size() const = 0;
  // What submit() would refuse of the request itself, however full the queue: `invalid_argument`, `too_large`,
  // `unsupported`.
  virtual base::Result<void> check(const Request& request) const = 0;

  virtual EngineStats stats() const = 0;
  // Tokens of one sequence, prompt and output: the model's, the option's, or what all KV blocks hold if that is less.
  virtual int64_t max_context() const = 0;

  // Stops admitting; requests that were admitted go on. Returns at once.
  virtual void drain() = 0;
  // Ends every request that was admitted with this error, between two steps. Returns at once.
  virtual void abort(base::Error error) = 0;
  // Whether nothing is waiting or running.
  virtual bool idle() const = 0;

  // Has the engine's thread check its books between two steps: every block is free, cached, or owned by just the
  // sequences that say so. An error says what is wrong. The engine does this by itself whenever it falls idle.
  virtual base::Result<void> check_books() = 0;

  // Keeps what the prefix cache holds in a file, and takes it back: prefixes that were computed before a restart need
  // not be computed after it. `identity` says what the content depends on (the model, the arithmetic): a file of
  // another identity, or of another KV type or shape, is `unsupported`; one that is damaged is `corrupt`. In both cases
  // nothing changes. Restoring takes free blocks only, the most recently used prefixes first. Both give the number of
  // blocks, run on the engine's thread between two steps, and hold it up meanwhile.
  virtual base::Result<int64_t> save_prefixes(const std::filesystem::path& path, std::string_view identity) = 0;
  virtual base::Result<int64_t> restore_prefixes(const std::filesystem::path& path, std::string_view identity) = 0;
};

}  // namespace tidemill::engine
