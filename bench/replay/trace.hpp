// Traces of real requests (shared/data/traces), made ready for a replay.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "route/block_hasher.hpp"

namespace tidemill::replay {

struct Request {
  double at = 0;  // seconds
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
  uint64_t session = 0;  // 0: the trace does not tell
  const std::vector<route::BlockHash>* blocks = nullptr;
  size_t common_blocks = 0;  // the first ones, which other sessions have as well
  uint64_t salt = 0;         // of the others

  void write_blocks(std::vector<route::BlockHash>& out) const;
};

struct Trace {
  std::string name;
  int64_t block_tokens = 0;
  std::vector<Request> requests;  // by time
  std::deque<std::vector<route::BlockHash>> blocks;
};

// The first `seconds` of one of Mooncake's traces (.jsonl), as recorded.
base::Result<Trace> load_mooncake(const std::filesystem::path& file, double seconds);

// `users` at work for `seconds`, each of whom plays one recorded session of a coding agent after the other, out of the
// folder's, beginning at a time of its own in the first `ramp` seconds. Users who play the same recording share the
// blocks of its tools and system prompt and nothing else. Pauses are cut to `longest_pause` seconds.
struct AgenticOptions {
  int users = 160;
  double seconds = 3600;
  double ramp = 900;
  double longest_pause = 600;
};
base::Result<Trace> load_agentic(const std::filesystem::path& folder, const AgenticOptions& options);

}  // namespace tidemill::replay
