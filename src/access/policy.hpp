// What tenants may use and what models cost, from a TOML file:
//
//   currency = "USD"
//   [tenants.default]                # what a tenant without a table of its own gets
//   requests_per_minute = 600        # 0, or nothing: no limit
//   tokens_per_minute = 200000       # of prompts and outputs together
//   budget_per_day = 25.00           # in the currency of the prices
//   budget_per_month = "500"
//   weight = 1.0                     # its share of the queue, relative to other tenants'
//   priority = "normal"              # low, normal or high
//   [tenants."team a"]               # what it does not say is as in default
//   weight = 2.0
//   [prices."qwen3-*"]               # for a million tokens
//   input = 0.10
//   cached_input = 0.01              # as input if left out
//   output = 0.40
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "access/api_key.hpp"
#include "access/money.hpp"
#include "access/prices.hpp"
#include "base/result.hpp"

namespace tidemill::access {

// 0 is no limit.
struct TenantPolicy {
  int64_t requests_per_minute = 0;
  int64_t tokens_per_minute = 0;
  Money budget_per_day{};
  Money budget_per_month{};
  double weight = 1;
  Priority priority = Priority::normal;

  bool limits() const {
    return requests_per_minute > 0 || tokens_per_minute > 0 || budget_per_day.nanos > 0 || budget_per_month.nanos > 0;
  }
};

// Immutable once read, so it may be shared by threads; a reload builds another.
struct Policy {
  std::string currency = "USD";
  TenantPolicy fallback;
  std::map<std::string, TenantPolicy, std::less<>> tenants;
  PriceTable prices;

  const TenantPolicy& of(std::string_view tenant) const;
};

// `where` names the text in errors. Errors: `invalid_argument` with line, what was found and what would be right; an
// unknown word is one too, and the nearest known one is named.
base::Result<Policy> parse_policy(std::string_view text, std::string_view where);
// Errors: those, `not_found` and `io`.
base::Result<Policy> read_policy(const std::string& path);

}  // namespace tidemill::access
