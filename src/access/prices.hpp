// What tokens cost, by model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "access/money.hpp"

namespace tidemill::access {

// For a million tokens.
struct Price {
  Money input;
  Money cached_input;  // of prompt tokens that were found in a cache
  Money output;
};

// The tokens of one request. `cached` of the prompt's tokens came from a cache.
struct Usage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t output_tokens = 0;

  // Counts below 0 are taken for 0; not more than 64 bits hold.
  int64_t tokens() const;
};

// Rounded up to a whole billionth. Counts below 0 are taken for 0, more cached tokens than there are for all, and more
// than a million million tokens for so many; what is too large to be held costs as much as can be.
Money cost_of(const Price& price, const Usage& usage);

// Prices by model. A name that ends in "*" is for all models that begin so; the longest that fits a model counts, a
// whole name before any. Immutable once filled; lookups are thread-safe.
class PriceTable {
 public:
  void set(std::string model, Price price);
  // nullopt: the model has no price, and costs nothing.
  std::optional<Price> find(std::string_view model) const;
  bool empty() const { return prices_.empty(); }

 private:
  std::vector<std::pair<std::string, Price>> prices_;
};

// Whether `pattern` ("qwen3-*", "*", or a whole name) is for `name`.
bool covers(std::string_view pattern, std::string_view name);

}  // namespace tidemill::access
