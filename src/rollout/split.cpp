#include "rollout/split.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <fmt/core.h>

#include "rollout/chance.hpp"

namespace tidemill::rollout {
namespace {

constexpr size_t kMostVersions = 64;

base::Error invalid(std::string message) {
  return {base::ErrorCode::invalid_argument, std::move(message)};
}

base::Result<void> check_versions(const std::vector<WeightedVersion>& versions) {
  if (versions.empty() || versions.size() > kMostVersions)
    return invalid(fmt::format("a split wants 1 to {} versions, not {}", kMostVersions, versions.size()));
  double sum = 0;
  for (const WeightedVersion& version : versions) {
    if (version.name.empty()) return invalid("a version of a split has no name");
    if (!std::isfinite(version.weight) || version.weight < 0)
      return invalid(
          fmt::format("version '{}' has weight {}: a weight is a number from 0 on", version.name, version.weight));
    if (std::ranges::count(versions, version.name, &WeightedVersion::name) > 1)
      return invalid(fmt::format("a split names the version '{}' twice", version.name));
    sum += version.weight;
  }
  if (!(sum > 0)) return invalid("every version of a split has weight 0: one must be above");
  return {};
}

}  // namespace

base::Result<Split> Split::create(SplitOptions options) {
  TM_CHECK(check_versions(options.versions));
  for (const HeaderRule& rule : options.headers) {
    if (rule.header.empty()) return invalid(fmt::format("a rule for version '{}' names no header", rule.version));
    if (std::ranges::find(options.versions, rule.version, &WeightedVersion::name) == options.versions.end())
      return invalid(fmt::format("the rule for header '{}' names the version '{}', which the split has not",
                                 rule.header, rule.version));
  }
  return Split(std::move(options));
}

Split::Split(SplitOptions options) : options_(std::move(options)) {
  for (const WeightedVersion& version : options_.versions)
    salts_.push_back(unit_of(options_.salt, version.name));
  for (const HeaderRule& rule : options_.headers) {
    const auto version = std::ranges::find(options_.versions, rule.version, &WeightedVersion::name);
    rules_.push_back({rule.header, rule.value, static_cast<size_t>(version - options_.versions.begin())});
  }
}

std::optional<size_t> Split::by_header(const HeaderLookup& headers) const {
  for (const Rule& rule : rules_) {
    const auto value = headers(rule.header);
    if (value && (!rule.value || *rule.value == *value)) return rule.version;
  }
  return std::nullopt;
}

size_t Split::choose(std::string_view key, const HeaderLookup& headers) const {
  if (headers) {
    if (const auto version = by_header(headers)) return *version;
  }
  const uint64_t unit = unit_of(options_.salt, key);
  size_t best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < salts_.size(); ++i) {
    const double weight = options_.versions[i].weight;
    if (!(weight > 0)) continue;
    const double score = -std::log(fraction(mix(unit ^ salts_[i])) + 0x1p-54) / weight;
    if (score < least) {
      least = score;
      best = i;
    }
  }
  return best;
}

}  // namespace tidemill::rollout
