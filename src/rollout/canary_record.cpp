#include "rollout/canary_record.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

namespace tidemill::rollout {
namespace {

using Logs = std::array<TiltLogs, kChecks.size()>;

constexpr size_t kMostStrata = 16;

base::Error bad_record(const char* what) {
  return {base::ErrorCode::invalid_argument, std::string("a canary's record ") + what};
}

base::json::array write_logs(const Logs& logs) {
  base::json::array list;
  for (const TiltLogs& of_check : logs)
    list.push_back(base::json::array(of_check.begin(), of_check.end()));
  return list;
}

bool read_logs(const base::json::object& object, const char* key, Logs& logs) {
  const auto* list = object.if_contains(key);
  if (list == nullptr || !list->is_array() || list->get_array().size() != logs.size()) return false;
  for (size_t i = 0; i < logs.size(); ++i) {
    const auto* row = list->get_array()[i].if_array();
    if (row == nullptr || row->size() != kTilts) return false;
    for (size_t t = 0; t < kTilts; ++t) {
      if (!(*row)[t].is_number()) return false;
      logs[i][t] = (*row)[t].to_number<double>();
      if (!std::isfinite(logs[i][t])) return false;
    }
  }
  return true;
}

std::optional<Phase> phase_of(std::string_view name) {
  for (const Phase phase : {Phase::running, Phase::promoted, Phase::rolled_back})
    if (to_string(phase) == name) return phase;
  return std::nullopt;
}

// From 0 on; -1 if it is not that.
int64_t count_in(const base::json::object& object, const char* key) {
  const auto* member = object.if_contains(key);
  return member != nullptr && member->is_int64() && member->get_int64() >= 0 ? member->get_int64() : -1;
}

}  // namespace

std::string_view to_string(Phase phase) {
  switch (phase) {
    case Phase::running:
      return "running";
    case Phase::promoted:
      return "promoted";
    case Phase::rolled_back:
      return "rolled_back";
  }
  return "";
}

void CanaryRecord::Sums::add(const Sums& other, bool with_clearance) {
  for (size_t i = 0; i < harm.size(); ++i) {
    for (size_t t = 0; t < kTilts; ++t) {
      harm[i][t] += other.harm[i][t];
      if (with_clearance) clearance[i][t] += other.clearance[i][t];
    }
  }
}

void CanaryRecord::merge(const CanaryRecord& other) {
  if (rollout.empty()) {
    *this = other;
    return;
  }
  phase = std::max(phase, other.phase);
  if (other.step > step) {  // what was cleared in an earlier step proves nothing in a later one
    step = other.step;
    step_requests = 0;
    for (Sums& sums : strata)
      sums.clearance = {};
  }
  const bool same_step = other.step == step;
  if (same_step) step_requests += other.step_requests;
  for (size_t i = 0; i < std::min(strata.size(), other.strata.size()); ++i)
    strata[i].add(other.strata[i], same_step);
}

base::json::value CanaryRecord::to_json() const {
  base::json::array list;
  for (const Sums& sums : strata)
    list.push_back({{"harm", write_logs(sums.harm)}, {"clearance", write_logs(sums.clearance)}});
  return {{"rollout", rollout},
          {"phase", to_string(phase)},
          {"step", static_cast<int64_t>(step)},
          {"step_requests", step_requests},
          {"strata", std::move(list)}};
}

base::Result<CanaryRecord> CanaryRecord::from_json(const base::json::value& value) {
  const auto* object = value.if_object();
  if (object == nullptr) return bad_record("is an object");
  const auto* name = object->if_contains("rollout");
  const auto* phase = object->if_contains("phase");
  const auto* strata = object->if_contains("strata");
  const int64_t step = count_in(*object, "step");
  CanaryRecord record;
  record.step_requests = count_in(*object, "step_requests");
  if (name == nullptr || !name->is_string()) return bad_record("wants the name of its 'rollout'");
  if (step < 0 || record.step_requests < 0) return bad_record("wants 'step' and 'step_requests' from 0 on");
  const auto known = phase != nullptr && phase->is_string() ? phase_of(phase->get_string()) : std::nullopt;
  if (!known) return bad_record("wants a 'phase': running, promoted or rolled_back");
  if (strata == nullptr || !strata->is_array() || strata->get_array().size() > kMostStrata)
    return bad_record("wants a list 'strata'");
  record.rollout = std::string(name->get_string());
  record.phase = *known;
  record.step = static_cast<size_t>(step);
  for (const base::json::value& entry : strata->get_array()) {
    Sums sums;
    if (!entry.is_object() || !read_logs(entry.get_object(), "harm", sums.harm) ||
        !read_logs(entry.get_object(), "clearance", sums.clearance))
      return bad_record("has a stratum without 5 times 6 numbers 'harm' and 'clearance'");
    record.strata.push_back(sums);
  }
  return record;
}

}  // namespace tidemill::rollout
