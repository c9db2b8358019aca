// One request inside the engine.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.hpp"
#include "engine/channel.hpp"
#include "engine/choice.hpp"
#include "engine/pooling.hpp"
#include "engine/request.hpp"
#include "engine/sequence.hpp"
#include "observe/trace.hpp"

namespace tidemill::engine {

// Made by submit() and handed to the engine's thread, which owns it from then on.
struct Job {
  explicit Job(Request r) : request(std::move(r)) {}
  Job(const Job&) = delete;  // choices refer to the request
  Job& operator=(const Job&) = delete;

  Request request;
  uint64_t number = 0;  // counts submissions
  uint64_t seed = 0;
  std::shared_ptr<Channel> channel;

  // One sequence for each choice that has something to compute; but only the first where nothing is sampled, for then
  // all choices are the same.
  std::vector<std::unique_ptr<Sequence>> sequences;
  std::vector<std::unique_ptr<Choice>> choices;
  std::vector<TokenInfo> prompt_infos;                // for echo with logprobs: of prompt tokens so far
  std::vector<std::vector<TokenInfo>> resumed_infos;  // [choices], with logprobs: of resumed tokens so far
  std::unique_ptr<Pooling> pooling;                   // for Kind::embed

  int64_t proposed = 0;  // tokens, by speculation
  int64_t accepted = 0;  // of those, the ones that were right

  bool started = false;
  bool prefilled = false;
  bool ended = false;
  bool rests = false;  // until its reader, who lags, has caught up

  base::SteadyTime arrived;
  base::SteadyTime first_scheduled;
  base::SteadyTime first_token;
  std::vector<base::SteadyTime> last_token;  // [choices]
  base::SteadyTime rests_since;
  base::Duration rested{};  // after it was prefilled
  observe::Span span;       // llm_request
  observe::Span stage;      // queue, prefill or decode, below it

  // Whether what comes of the prompt is all: an embedding or a score.
  bool embeds() const { return request.kind != Request::Kind::generate; }
  int completion_tokens() const {
    int sum = 0;
    for (const auto& choice : choices)
      sum += choice->generated();
    return sum;
  }
  // Whether events have told of the end of every choice.
  bool all_told() const {
    for (const auto& choice : choices) {
      if (!choice->told_end()) return false;
    }
    return true;
  }
  int cached_tokens() const {
    if (sequences.empty()) return 0;
    const Sequence& first = *sequences.front();
    return static_cast<int>(std::min(first.cached_at_start(), first.prompt_size()));
  }
};

// Who goes first: see Rank. `priority_seconds` as in EngineOptions.
inline Rank rank_of(const Job& job, double priority_seconds, int choice) {
  constexpr int most = 1'000'000;
  const auto delay = static_cast<int64_t>(std::clamp(job.request.priority, -most, most) * priority_seconds * 1e9);
  return {job.arrived.time_since_epoch().count() + delay, job.number, choice};
}

// What ends an embedding or a score that is not finite.
inline base::Error no_embedding() {
  return base::Error(base::ErrorCode::internal, "the model's hidden states hold NaN or infinity");
}

}  // namespace tidemill::engine
