#include "gateway/bill.hpp"

#include <utility>

namespace tidemill::gateway {

void Bill::first_token() {
  if (passage_ != nullptr) passage_->first_token();
}

void Bill::settle(const TokenUsage& known, int64_t events) {
  if (std::exchange(settled_, true)) return;
  if (passage_ != nullptr) cost_ = passage_->settle(used(known, events));
  call_.note_usage(known, cost_ ? access::to_string(*cost_) : std::string());
}

access::Usage Bill::used(const TokenUsage& known, int64_t events) const {
  return {.prompt_tokens = known.prompt_tokens.value_or(prompt_tokens_),
          .cached_tokens = known.cached_tokens.value_or(0),
          .output_tokens = known.output_tokens.value_or(events)};
}

std::optional<access::Money> Bill::price(const TokenUsage& known) const {
  return passage_ == nullptr ? std::nullopt : passage_->cost_of(used(known, 0));
}

void Bill::add_to(wire::Headers& headers) const {
  if (cost_) headers.set("X-Tidemill-Cost", access::to_string(*cost_));
  if (passage_ == nullptr) return;
  for (auto& [name, value] : passage_->headers())
    headers.set(name, std::move(value));
}

}  // namespace tidemill::gateway
