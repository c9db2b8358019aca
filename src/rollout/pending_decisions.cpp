#include "rollout/pending_decisions.hpp"

#include <cmath>
#include <utility>

#include <fmt/core.h>

namespace tidemill::rollout {

bool PendingDecisions::is_known_by(std::string_view id, const Entry& entry) const {
  const auto known = by_id_.find(id);
  return known != by_id_.end() && &*known->second == &entry;
}

void PendingDecisions::drop_oldest() {
  const Entry& oldest = entries_.front();
  for (const std::string* id : {&oldest.id, &oldest.other_id})
    if (is_known_by(*id, oldest)) by_id_.erase(*id);
  entries_.pop_front();
}

// The id is another's now.
void PendingDecisions::give_up(std::string_view id) {
  const auto known = by_id_.find(id);
  if (known == by_id_.end()) return;
  const auto entry = known->second;
  by_id_.erase(known);
  if (!is_known_by(entry->id, *entry) && !is_known_by(entry->other_id, *entry)) entries_.erase(entry);
}

void PendingDecisions::put(std::string_view id, const Decision& decision, std::string_view other_id) {
  if (other_id == id) other_id = {};
  const std::scoped_lock lock(mutex_);
  give_up(id);
  if (!other_id.empty()) give_up(other_id);
  if (most_ == 0) return;
  if (entries_.size() == most_) drop_oldest();
  entries_.push_back({.id = std::string(id), .other_id = std::string(other_id), .decision = decision});
  by_id_.emplace(entries_.back().id, std::prev(entries_.end()));
  if (!other_id.empty()) by_id_.emplace(entries_.back().other_id, std::prev(entries_.end()));
}

base::Result<std::list<PendingDecisions::Entry>::iterator> PendingDecisions::at(std::string_view id) const {
  const auto known = by_id_.find(id);
  if (known != by_id_.end()) return known->second;
  return base::Error(
      base::ErrorCode::not_found,
      fmt::format("no decision '{}' is known here: its id is wrong, or it is older than the last {}", id, most_));
}

base::Result<Decision> PendingDecisions::find(std::string_view id) const {
  const std::scoped_lock lock(mutex_);
  TM_TRY(const auto entry, at(id));
  return entry->decision;
}

base::Result<PendingDecisions::Taken> PendingDecisions::take_for_feedback(std::string_view id) {
  const std::scoped_lock lock(mutex_);
  TM_TRY(const auto entry, at(id));
  if (std::exchange(entry->taken, true))
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("decision '{}' has had its feedback: each has one", id));
  return Taken{.id = entry->id, .decision = entry->decision};
}

base::json::value to_json(const Decision& decision) {
  return {{"version", kFeatureVersion},
          {"features", base::json::array(decision.features.begin(), decision.features.end())},
          {"model", static_cast<int64_t>(decision.model)},
          {"propensities", base::json::array(decision.propensities.begin(), decision.propensities.end())},
          {"allowed", static_cast<int64_t>(decision.allowed)},
          {"explored", decision.explored},
          {"substitute", decision.substitute}};
}

namespace {

template <typename Numbers>
bool read_numbers(const base::json::object& object, const char* key, Numbers& numbers) {
  const auto* member = object.if_contains(key);
  if (member == nullptr || !member->is_array() || member->get_array().size() != numbers.size()) return false;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const base::json::value& number = member->get_array()[i];
    if (!number.is_number()) return false;
    numbers[i] = number.to_number<double>();
  }
  return true;
}

int64_t integer_in(const base::json::object& object, const char* key) {
  const auto* member = object.if_contains(key);
  return member != nullptr && member->is_int64() ? member->get_int64() : -1;
}

}  // namespace

base::Result<Decision> decision_from_json(const base::json::value& value) {
  const auto invalid = [](const char* what) {
    return base::Error(base::ErrorCode::invalid_argument, std::string("a decision ") + what);
  };
  const auto* object = value.if_object();
  if (object == nullptr) return invalid("is an object");
  if (integer_in(*object, "version") != kFeatureVersion)
    return base::Error(
        base::ErrorCode::unsupported,
        fmt::format("a decision has a version other than {}: its features mean something else", kFeatureVersion));
  Decision decision;
  if (!read_numbers(*object, "features", decision.features)) return invalid("wants 12 numbers 'features'");
  if (!read_numbers(*object, "propensities", decision.propensities)) return invalid("wants 8 numbers 'propensities'");
  const int64_t model = integer_in(*object, "model");
  if (model < 0 || model >= static_cast<int64_t>(kMostModels)) return invalid("wants a 'model' from 0 to 7");
  decision.model = static_cast<size_t>(model);
  const auto* substitute = object->if_contains("substitute");
  decision.substitute = substitute != nullptr && substitute->is_bool() && substitute->get_bool();
  if (!decision.substitute && !(decision.propensity() > 0 && decision.propensity() <= 1))
    return invalid("wants a propensity above 0 and at most 1 of its model");
  const int64_t allowed = integer_in(*object, "allowed");
  if (allowed < 0 || allowed >= int64_t{1} << kMostModels) return invalid("wants a set 'allowed' of 8 models");
  decision.allowed = static_cast<uint32_t>(allowed);
  const auto* explored = object->if_contains("explored");
  decision.explored = explored != nullptr && explored->is_bool() && explored->get_bool();
  return decision;
}

}  // namespace tidemill::rollout
