#include "access/policy.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include "base/file.hpp"
#include "base/nearest.hpp"

namespace tidemill::access {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr int64_t most_per_minute = 1'000'000'000'000;
constexpr double least_weight = 0.001;
constexpr double most_weight = 1000;
constexpr size_t most_file_bytes = size_t{16} << 20;

// Where an error is, and what is said of it.
struct Place {
  std::string_view file;
  std::string table;

  Error fault(const toml::node& node, std::string_view key, std::string_view wanted) const {
    return {ErrorCode::invalid_argument,
            fmt::format("{}:{}: '{}' in [{}] must be {}", file, node.source().begin.line, key, table, wanted)};
  }
};

Result<void> check_words(const toml::table& table, const std::vector<std::string>& known, const Place& place) {
  for (const auto& [key, node] : table) {
    const std::string word(key.str());
    if (std::find(known.begin(), known.end(), word) != known.end()) continue;
    return Error(
        ErrorCode::invalid_argument,
        fmt::format("{}:{}: unknown '{}'{}; did you mean '{}'? Known are {}", place.file, node.source().begin.line,
                    word, place.table.empty() ? "" : fmt::format(" in [{}]", place.table), base::nearest(word, known),
                    fmt::join(known, ", ")));
  }
  return {};
}

Result<void> read_count(const toml::table& table, std::string_view key, const Place& place, int64_t& field) {
  const toml::node* node = table.get(key);
  if (node == nullptr) return {};
  const auto value = node->value_exact<int64_t>();
  if (!value || *value < 0 || *value > most_per_minute) {
    return place.fault(*node, key, fmt::format("an integer from 0 (no limit) to {}", most_per_minute));
  }
  field = *value;
  return {};
}

Result<void> read_money(const toml::table& table, std::string_view key, const Place& place, Money& field) {
  const toml::node* node = table.get(key);
  if (node == nullptr) return {};
  std::string text;
  if (const auto words = node->value_exact<std::string>()) text = *words;
  if (const auto whole = node->value_exact<int64_t>()) text = std::to_string(*whole);
  if (const auto real = node->value_exact<double>()) text = fmt::format("{:.9f}", *real);
  auto money = parse_money(text);
  if (!money) return place.fault(*node, key, "an amount of money from 0 to 1000000000, such as 12.50");
  // Rounded to nothing it would mean another thing: no limit, or no price.
  const bool vanished = money->nanos == 0 && node->value<double>().value_or(0) > 0;
  if (vanished) return place.fault(*node, key, "0, or an amount of money from 0.000000001 to 1000000000");
  field = *money;
  return {};
}

Result<TenantPolicy> read_tenant(const toml::table& table, const TenantPolicy& fallback, const Place& place) {
  TM_CHECK(check_words(
      table, {"requests_per_minute", "tokens_per_minute", "budget_per_day", "budget_per_month", "weight", "priority"},
      place));
  TenantPolicy policy = fallback;
  TM_CHECK(read_count(table, "requests_per_minute", place, policy.requests_per_minute));
  TM_CHECK(read_count(table, "tokens_per_minute", place, policy.tokens_per_minute));
  TM_CHECK(read_money(table, "budget_per_day", place, policy.budget_per_day));
  TM_CHECK(read_money(table, "budget_per_month", place, policy.budget_per_month));
  if (const toml::node* node = table.get("weight")) {
    const auto value = node->is_number() ? node->value<double>() : std::nullopt;
    if (!value || !(*value >= least_weight) || !(*value <= most_weight)) {
      return place.fault(*node, "weight", fmt::format("a number from {} to {}", least_weight, most_weight));
    }
    policy.weight = *value;
  }
  if (const toml::node* node = table.get("priority")) {
    auto priority = parse_priority(node->value_exact<std::string>().value_or(""));
    if (!priority) return place.fault(*node, "priority", "low, normal or high");
    policy.priority = *priority;
  }
  return policy;
}

Result<Price> read_price(const toml::table& table, const Place& place) {
  TM_CHECK(check_words(table, {"input", "cached_input", "output"}, place));
  Price price;
  TM_CHECK(read_money(table, "input", place, price.input));
  price.cached_input = price.input;
  TM_CHECK(read_money(table, "cached_input", place, price.cached_input));
  TM_CHECK(read_money(table, "output", place, price.output));
  return price;
}

// The tables within table `name` of the root, each with its place.
template <typename Visit>
Result<void> each_table(const toml::table& root, const std::string& name, std::string_view where, const Visit& visit) {
  const toml::node* node = root.get(name);
  if (node == nullptr) return {};
  const Place outer{where, name};
  if (!node->is_table()) return outer.fault(*node, name, "a table");
  for (const auto& [key, inner] : *node->as_table()) {
    if (!inner.is_table()) return outer.fault(inner, key.str(), fmt::format("a table: [{}.\"NAME\"]", name));
    TM_CHECK(visit(std::string(key.str()), *inner.as_table(), Place{where, fmt::format("{}.{}", name, key.str())}));
  }
  return {};
}

Result<Policy> read_root(const toml::table& root, std::string_view where) {
  TM_CHECK(check_words(root, {"currency", "tenants", "prices"}, {where, ""}));
  Policy policy;
  if (const toml::node* node = root.get("currency")) {
    const auto word = node->value_exact<std::string>();
    if (!word || word->empty()) return Place{where, "root"}.fault(*node, "currency", "a word such as \"USD\"");
    policy.currency = *word;
  }
  // The fallback first, since the others build on it.
  TM_CHECK(each_table(root, "tenants", where,
                      [&](const std::string& name, const toml::table& table, const Place& place) -> Result<void> {
                        if (name != "default") return {};
                        TM_TRY(policy.fallback, read_tenant(table, TenantPolicy(), place));
                        return {};
                      }));
  TM_CHECK(each_table(root, "tenants", where,
                      [&](const std::string& name, const toml::table& table, const Place& place) -> Result<void> {
                        if (name == "default") return {};
                        TM_TRY(policy.tenants[name], read_tenant(table, policy.fallback, place));
                        return {};
                      }));
  TM_CHECK(each_table(root, "prices", where,
                      [&](std::string name, const toml::table& table, const Place& place) -> Result<void> {
                        const size_t star = name.find('*');
                        if (star != std::string::npos && star + 1 != name.size()) {
                          return Place{where, "prices"}.fault(
                              table, name, "a model's name, or the beginning of names with a * at its end alone");
                        }
                        TM_TRY(const Price price, read_price(table, place));
                        policy.prices.set(std::move(name), price);
                        return {};
                      }));
  return policy;
}

}  // namespace

const TenantPolicy& Policy::of(std::string_view tenant) const {
  const auto found = tenants.find(tenant);
  return found == tenants.end() ? fallback : found->second;
}

Result<Policy> parse_policy(std::string_view text, std::string_view where) {
  try {
    return read_root(toml::parse(text), where);
  } catch (const toml::parse_error& fault) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("{}:{}: {}", where, fault.source().begin.line, fault.description()));
  }
}

Result<Policy> read_policy(const std::string& path) {
  TM_TRY(const std::string text, base::read_file(path, most_file_bytes));
  return parse_policy(text, path);
}

}  // namespace tidemill::access
