// Ways to choose a backend: Tidemill's, and what others do.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "replay/backend.hpp"
#include "route/router.hpp"

namespace tidemill::replay {

struct Arrival {
  uint64_t id = 0;
  std::span<const route::BlockHash> blocks;
  int64_t prompt_tokens = 0;
  uint64_t session = 0;
  double now = 0;
};

struct Ending {
  bool success = true;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t output_tokens = 0;
};

class Policy {
 public:
  virtual ~Policy() = default;
  virtual std::string_view name() const = 0;
  // Which backend, by number. Those that are not `up` are known not to be.
  virtual size_t choose(const Arrival& arrival, const std::vector<bool>& up) = 0;
  virtual void first_token(uint64_t /*id*/, size_t /*backend*/, int64_t /*cached_tokens*/, double /*now*/) {}
  virtual void finished(uint64_t /*id*/, size_t /*backend*/, const Ending& /*ending*/, double /*now*/) {}
  virtual void went_down(size_t /*backend*/, double /*now*/) {}
  virtual void came_up(size_t /*backend*/, double /*now*/) {}
};

struct Fleet {
  std::vector<Hardware> hardware;
  int64_t block_tokens = 0;
  bool one_cache = false;  // without limit, which all backends share: no backend is like that, but it is a bound
};

std::unique_ptr<Policy> tidemill_policy(const Fleet& fleet, const route::RouterOptions& options = {});

// In turn.
std::unique_ptr<Policy> round_robin(const Fleet& fleet);
// The fewest open requests.
std::unique_ptr<Policy> least_loaded(const Fleet& fleet);
// Highest random weight by session, or by the prompt's first blocks where there is none.
std::unique_ptr<Policy> consistent_hashing(const Fleet& fleet);
// In the manner of SGLang's router: the longest match if it is at least 30 % of the prompt, else the smallest tree; the
// fewest open requests while these differ by more than 64 and by more than half.
std::unique_ptr<Policy> cache_aware(const Fleet& fleet);
// In the manner of llm-d: 3 times the share of the prompt that is held, 2 times the share of the queue's range and
// 2 times the share of the KV cache that are free.
std::unique_ptr<Policy> weighted_scores(const Fleet& fleet);
// In the manner of Dynamo: prefill blocks to be computed plus blocks in decoding, after the request is added.
std::unique_ptr<Policy> block_costs(const Fleet& fleet);
// The least work ahead, wherever prompts were served before: for backends that share one cache.
std::unique_ptr<Policy> least_work(const Fleet& fleet);
// In the manner of Mooncake: the least time to first token, speeds and queues known exactly.
std::unique_ptr<Policy> least_ttft(const Fleet& fleet);

}  // namespace tidemill::replay
