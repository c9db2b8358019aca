// What a request has to pay for, and what its client is told of its limits.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "access/money.hpp"
#include "gateway/call.hpp"
#include "gateway/gate.hpp"
#include "gateway/token_usage.hpp"
#include "wire/http_message.hpp"

namespace tidemill::gateway {

// One request's; lives in its coroutine. The call and the passage outlive it.
class Bill {
 public:
  // `passage` may be none: then nothing is paid. `prompt_tokens` is an estimate.
  Bill(Call& call, Passage* passage, int64_t prompt_tokens)
      : call_(call), passage_(passage), prompt_tokens_(prompt_tokens) {}

  void first_token();
  // What the answer took, as far as it says so, else as it was estimated; `events` stand for output tokens of which
  // nothing is known. Goes into the log too. Counts once.
  void settle(const TokenUsage& known, int64_t events);
  // The fields of the answer that tell of limits, and of the cost once that is known.
  void add_to(wire::Headers& headers) const;
  // What the answer would cost if that were all; nullopt: it has no price.
  std::optional<access::Money> price(const TokenUsage& known) const;
  // nullopt: it has no price, or is not settled.
  const std::optional<access::Money>& cost() const { return cost_; }

 private:
  access::Usage used(const TokenUsage& known, int64_t events) const;

  Call& call_;
  Passage* passage_;
  int64_t prompt_tokens_;
  bool settled_ = false;
  std::optional<access::Money> cost_;
};

}  // namespace tidemill::gateway
