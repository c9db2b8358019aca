#include "access/prices.hpp"

#include <algorithm>
#include <limits>

namespace tidemill::access {

namespace {

constexpr int64_t million = 1'000'000;

constexpr int64_t most_tokens = million * million;
constexpr int64_t most = std::numeric_limits<int64_t>::max() / 2;  // of nanos, so that a rest can be added

// A product of tokens and a price for a million of them, in two parts, so that 64 bits are enough.
struct Sum {
  int64_t nanos = 0;
  int64_t millionths = 0;  // of a nano

  void add(int64_t tokens, Money price) {
    const int64_t each = price.nanos / million;
    const bool fits = each == 0 || tokens <= (most - nanos) / each;
    nanos = fits ? nanos + tokens * each : most;
    millionths += tokens * (price.nanos % million);
  }
};

}  // namespace

int64_t Usage::tokens() const {
  const int64_t prompt = std::max<int64_t>(prompt_tokens, 0);
  const int64_t output = std::max<int64_t>(output_tokens, 0);
  return prompt > std::numeric_limits<int64_t>::max() - output ? std::numeric_limits<int64_t>::max() : prompt + output;
}

Money cost_of(const Price& price, const Usage& usage) {
  const int64_t prompt = std::clamp<int64_t>(usage.prompt_tokens, 0, most_tokens);
  const int64_t cached = std::clamp<int64_t>(usage.cached_tokens, 0, prompt);
  Sum sum;
  sum.add(prompt - cached, price.input);
  sum.add(cached, price.cached_input);
  sum.add(std::clamp<int64_t>(usage.output_tokens, 0, most_tokens), price.output);
  return {sum.nanos + (sum.millionths + million - 1) / million};
}

bool covers(std::string_view pattern, std::string_view name) {
  if (pattern.ends_with('*')) return name.starts_with(pattern.substr(0, pattern.size() - 1));
  return pattern == name;
}

void PriceTable::set(std::string model, Price price) {
  const auto same =
      std::find_if(prices_.begin(), prices_.end(), [&](const auto& entry) { return entry.first == model; });
  if (same != prices_.end()) {
    same->second = price;
  } else {
    prices_.emplace_back(std::move(model), price);
  }
}

std::optional<Price> PriceTable::find(std::string_view model) const {
  const std::pair<std::string, Price>* best = nullptr;
  for (const auto& entry : prices_) {
    if (!covers(entry.first, model)) continue;
    if (entry.first == model) return entry.second;
    if (best == nullptr || entry.first.size() > best->first.size()) best = &entry;
  }
  if (best == nullptr) return std::nullopt;
  return best->second;
}

}  // namespace tidemill::access
