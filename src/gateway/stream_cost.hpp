// What a stream costs, told where its clients look.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "access/money.hpp"
#include "gateway/token_usage.hpp"

namespace tidemill::gateway {

// A stream's cost is known when its head is long gone, and trailers are read by hardly any client (neither fetch nor
// the SDKs show them). But all dialects end with a "usage" object, whose unknown members the SDKs hand on: there it is
// put, as a number under "cost". Of several such objects each has the cost of what was told so far, and the last one
// counts.
class StreamCost {
 public:
  // `cost_of` gives the cost of what is told; nullopt: it has no price, and nothing is changed.
  using CostOf = std::function<std::optional<access::Money>(const TokenUsage&)>;
  explicit StreamCost(CostOf cost_of) : cost_of_(std::move(cost_of)) {}

  // Whole events, in order. The same, with costs; a view of `events` itself where there is nothing to add.
  std::string_view add(std::string_view events);

 private:
  CostOf cost_of_;
  TokenUsage usage_;
  std::string out_;
};

}  // namespace tidemill::gateway
