// What an answer took, as its client saw it.
#pragma once

#include <cstdint>
#include <optional>

#include "base/clock.hpp"
#include "rollout/checks.hpp"

namespace tidemill::gateway {

// One request's.
class AnswerTimes {
 public:
  explicit AnswerTimes(base::SteadyTime begin) : begin_(begin) {}

  // Text has come, the first or some more; of an answer that is no stream, all of it at once.
  void note_text(base::SteadyTime now) {
    if (!first_) first_ = now;
    last_ = now;
  }
  std::optional<base::Duration> ttft() const { return first_ ? std::optional(*first_ - begin_) : std::nullopt; }

  // As a rollout sees a request that ends now. Without text there is no time to the first token; without two tokens, or
  // where all came at once, none between them.
  rollout::Observation observe(bool failed, int64_t prompt_tokens, int64_t output_tokens, base::SteadyTime now) const {
    rollout::Observation seen{.failed = failed,
                              .output_tokens = static_cast<double>(output_tokens),
                              .seconds = base::seconds(now - begin_),
                              .prompt_tokens = static_cast<double>(prompt_tokens)};
    if (!first_) return seen;
    seen.ttft = base::seconds(*first_ - begin_);
    if (output_tokens > 1) seen.itl = base::seconds(last_ - *first_) / static_cast<double>(output_tokens - 1);
    return seen;
  }

 private:
  base::SteadyTime begin_;
  std::optional<base::SteadyTime> first_;
  base::SteadyTime last_;
};

}  // namespace tidemill::gateway
