#include "rollout/decision_log.hpp"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>

#include <fmt/core.h>

#include "base/json.hpp"

namespace tidemill::rollout {
namespace {

namespace json = base::json;

std::optional<double> number_in(const json::object& object, std::string_view key) {
  const auto* member = object.if_contains(key);
  if (member == nullptr || !member->is_number()) return std::nullopt;
  const double number = member->to_number<double>();
  return std::isfinite(number) ? std::optional(number) : std::nullopt;
}

std::optional<std::string> text_in(const json::object& object, std::string_view key) {
  const auto* member = object.if_contains(key);
  if (member == nullptr || !member->is_string()) return std::nullopt;
  return std::string(member->get_string());
}

base::Error invalid(std::string message) {
  return {base::ErrorCode::invalid_argument, std::move(message)};
}

// What is known of one decision.
struct Entry {
  LoggedChoice choice;
  OutcomeNews news;
};

struct Reader {
  const std::vector<std::string>& models;
  std::vector<Entry> entries;
  std::unordered_map<std::string, size_t> by_id;
  std::vector<std::pair<std::string, OutcomeNews>> outcomes;

  base::Result<void> line(std::string_view text);
  base::Result<void> decision(const json::object& object, std::string id);
  base::Result<void> outcome(const json::object& object, std::string id);
};

base::Result<void> Reader::line(std::string_view text) {
  TM_TRY(const json::value value, base::parse_json(text, 4));
  const auto* object = value.if_object();
  if (object == nullptr) return invalid("is no object");
  const auto version = number_in(*object, "v");
  if (!version) return invalid("has no version 'v'");
  if (*version != kFeatureVersion)
    return base::Error(base::ErrorCode::unsupported,
                       fmt::format("has version {}, and this program reads version {}", *version, kFeatureVersion));
  if (auto id = text_in(*object, "decision")) return decision(*object, std::move(*id));
  if (auto id = text_in(*object, "outcome")) return outcome(*object, std::move(*id));
  return invalid("has neither a 'decision' nor an 'outcome'");
}

base::Result<void> Reader::decision(const json::object& object, std::string id) {
  Entry entry;
  const auto* features = object.if_contains("features");
  if (features == nullptr || !features->is_array() || features->get_array().size() != kFeatures)
    return invalid(fmt::format("wants {} numbers 'features'", kFeatures));
  for (size_t i = 0; i < kFeatures; ++i) {
    const json::value& feature = features->get_array()[i];
    if (!feature.is_number()) return invalid(fmt::format("wants {} numbers 'features'", kFeatures));
    entry.choice.features[i] = feature.to_number<double>();
  }
  const auto model = text_in(object, "model");
  if (!model) return invalid("names no 'model'");
  const auto known = std::ranges::find(models, *model);
  if (known == models.end())
    return invalid(fmt::format("chose the model '{}', which is not among those given", *model));
  entry.choice.model = static_cast<size_t>(known - models.begin());
  const auto* propensities = object.if_contains("propensities");
  const auto propensity = propensities != nullptr && propensities->is_object()
                              ? number_in(propensities->get_object(), *model)
                              : std::nullopt;
  if (!propensity || !(*propensity > 0 && *propensity <= 1))
    return invalid(fmt::format("wants the propensity of '{}' in 'propensities', above 0 and at most 1", *model));
  entry.choice.propensity = *propensity;
  if (!by_id.try_emplace(std::move(id), entries.size()).second) return invalid("repeats a decision's id");
  entries.push_back(entry);
  return {};
}

base::Result<void> Reader::outcome(const json::object& object, std::string id) {
  outcomes.emplace_back(std::move(id), OutcomeNews{.quality = number_in(object, "quality"),
                                                   .cost = number_in(object, "cost"),
                                                   .seconds = number_in(object, "seconds")});
  return {};
}

void take_news(OutcomeNews& known, const OutcomeNews& news) {
  if (news.quality) known.quality = news.quality;
  if (news.cost) known.cost = news.cost;
  if (news.seconds) known.seconds = news.seconds;
}

}  // namespace

std::string decision_line(std::string_view id, const Decision& decision, const BanditOptions& options,
                          base::WallTime time) {
  json::object propensities;
  json::array allowed;
  for (size_t i = 0; i < options.models.size(); ++i) {
    if (decision.propensities[i] > 0) propensities[options.models[i]] = decision.propensities[i];
    if ((decision.allowed >> i & 1) != 0) allowed.emplace_back(options.models[i]);
  }
  const json::object line = {{"v", kFeatureVersion},
                             {"decision", id},
                             {"time", static_cast<double>(base::unix_nanos(time)) * 1e-9},
                             {"features", json::array(decision.features.begin(), decision.features.end())},
                             {"model", options.models[decision.model]},
                             {"propensities", std::move(propensities)},
                             {"allowed", std::move(allowed)}};
  return json::serialize(line);
}

std::string outcome_line(std::string_view id, const OutcomeNews& news) {
  json::object line = {{"v", kFeatureVersion}, {"outcome", id}};
  if (news.quality) line["quality"] = *news.quality;
  if (news.cost) line["cost"] = *news.cost;
  if (news.seconds) line["seconds"] = *news.seconds;
  return json::serialize(line);
}

base::Result<ReadLog> read_log(std::string_view lines, const std::vector<std::string>& models, const Trade& trade) {
  Reader reader{.models = models, .entries = {}, .by_id = {}, .outcomes = {}};
  for (int64_t number = 1; !lines.empty(); ++number) {
    const size_t end = std::min(lines.find('\n'), lines.size());
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(std::min(end + 1, lines.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    if (auto read = reader.line(line); !read)
      return std::move(read).error().wrap(fmt::format("line {} of the log of decisions", number));
  }
  ReadLog log;
  for (const auto& [id, news] : reader.outcomes) {
    const auto entry = reader.by_id.find(id);
    if (entry == reader.by_id.end()) {
      ++log.unknown;
    } else {
      take_news(reader.entries[entry->second].news, news);
    }
  }
  for (Entry& entry : reader.entries) {
    const auto& [quality, cost, seconds] = entry.news;
    if (!quality || !cost || !seconds) {
      ++log.incomplete;
      continue;
    }
    entry.choice.reward = trade.reward(std::clamp(*quality, 0.0, 1.0), *cost, *seconds);
    log.choices.push_back(entry.choice);
  }
  return log;
}

}  // namespace tidemill::rollout
