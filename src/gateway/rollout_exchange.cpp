#include "gateway/rollout_exchange.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string_view>

#include <fmt/core.h>

#include "base/log.hpp"
#include "rollout/canary_record.hpp"

namespace tidemill::gateway {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

// Others may write at the same time.
constexpr int most_tries = 16;
// What has not changed is said again after so long, so that it is known who is alive.
constexpr int64_t sign_of_life = 3600;  // seconds
constexpr int64_t silent_for = int64_t{24} * 3600;
constexpr std::string_view past = "past";
// Of those that are in the past, as many may still wake up.
constexpr size_t most_names = 1024;

Result<json::object> read_members(const session::Blob& blob, const std::string& key) {
  if (blob.version == 0) return json::object();
  TM_TRY(json::value parsed, base::parse_json(blob.value));
  const auto is_member = [](const auto& member) {
    const json::object* object = member.value().if_object();
    return object != nullptr && object->contains("is") && object->contains("at") && object->at("at").is_int64();
  };
  if (!parsed.is_object() || !std::ranges::all_of(parsed.get_object(), is_member)) {
    return Error(ErrorCode::corrupt, fmt::format("'{}' in the store is not what gateways write there", key));
  }
  return std::move(parsed.get_object());
}

bool is_in_the_past(const json::object& members, const std::string& gateway) {
  const json::value* of_past = members.if_contains(past);
  const json::value* names = of_past == nullptr ? nullptr : of_past->get_object().if_contains("names");
  if (names == nullptr || !names->is_array()) return false;
  return std::ranges::any_of(names->get_array(), [&](const json::value& name) {
    return name.is_string() && std::string_view(name.get_string()) == gateway;
  });
}

// Adds up what those have seen that have been silent for long. Whether there were any. State: rollout::BanditState or
// rollout::CanaryRecord.
template <typename State>
Result<bool> bury_the_silent(json::object& members, const std::string& gateway, int64_t now) {
  std::vector<std::string> silent;
  for (const auto& [name, member] : members) {
    if (name != gateway && name != past && member.at("at").as_int64() + silent_for < now) silent.emplace_back(name);
  }
  if (silent.empty()) return false;
  State sum;
  json::array names;
  if (const json::value* before = members.if_contains(past)) {
    TM_TRY(sum, State::from_json(before->at("is")));
    if (before->get_object().contains("names")) names = before->at("names").as_array();
  }
  for (const std::string& name : silent) {
    TM_TRY(const State state, State::from_json(members.at(name).at("is")));
    sum.merge(state);
    names.emplace_back(json::string(name));
    members.erase(name);
  }
  if (names.size() > most_names) names.erase(names.begin(), names.end() - most_names);
  members[past] = json::object{{"at", now}, {"is", sum.to_json()}, {"names", std::move(names)}};
  return true;
}

}  // namespace

template <typename Own, typename Change>
Result<json::object> RolloutExchange::tell(const std::string& key, const Own& own, const Change& change) {
  const int64_t now = base::unix_nanos(clock_.wall_now()) / 1'000'000'000;
  for (int i = 0; i < most_tries; ++i) {
    TM_TRY(const session::Blob blob, store_.read_blob(key));
    TM_TRY(json::object members, read_members(blob, key));
    TM_TRY(const bool changed, change(members, now));
    const json::value is = own();
    const json::value* said = members.if_contains(gateway_);
    const bool fresh = said != nullptr && said->at("is") == is && said->at("at").as_int64() + sign_of_life > now;
    if (!fresh || changed) {
      members[gateway_] = json::object{{"at", now}, {"is", is}};
      TM_TRY(const std::optional<int64_t> written, store_.replace_blob(key, blob.version, json::serialize(members)));
      if (!written) continue;
    }
    members.erase(gateway_);
    return members;
  }
  return Error(ErrorCode::unavailable, fmt::format("'{}' in the store changes all the time", key));
}

Result<void> RolloutExchange::exchange_learned(ModelRoute& route) {
  rollout::Bandit& bandit = route.adaptive()->bandit();
  const auto change = [&](json::object& members, int64_t now) -> Result<bool> {
    // It was thought to be gone: what it had learned until then stands under "past".
    if (!members.contains(gateway_) && is_in_the_past(members, gateway_)) bandit.restore({});
    return bury_the_silent<rollout::BanditState>(members, gateway_, now);
  };
  TM_TRY(const json::object others,
         tell(
             route.adaptive()->state_key(), [&bandit] { return bandit.state().to_json(); }, change));
  rollout::BanditState peers;
  for (const auto& [name, other] : others) {
    TM_TRY(const rollout::BanditState state, rollout::BanditState::from_json(other.at("is")));
    peers.merge(state);
  }
  bandit.set_peers(peers);
  return {};
}

Result<void> RolloutExchange::exchange_canary(ModelRoute& route) {
  rollout::Canary& canary = *route.canary();
  const auto change = [&](json::object& members, int64_t now) -> Result<bool> {
    // As with what is learned: what it had seen until then stands under "past".
    if (!members.contains(gateway_) && is_in_the_past(members, gateway_)) canary.forget_evidence();
    return bury_the_silent<rollout::CanaryRecord>(members, gateway_, now);
  };
  TM_TRY(const json::object others,
         tell(
             "rollout/" + route.plan().canary->name, [&canary] { return canary.record().to_json(); }, change));
  std::vector<rollout::CanaryRecord> peers;
  for (const auto& [name, other] : others) {
    TM_TRY(rollout::CanaryRecord record, rollout::CanaryRecord::from_json(other.at("is")));
    peers.push_back(std::move(record));
  }
  route.set_peers(peers);
  return {};
}

void RolloutExchange::exchange(const RouteTable& routes) {
  bool failed = false;
  for (const auto& route : routes.routes()) {
    Result<void> exchanged;
    if (route->canary() != nullptr) exchanged = exchange_canary(*route);
    if (route->adaptive() != nullptr) exchanged = exchange_learned(*route);
    if (exchanged) continue;
    failed = true;
    if (!failing_) {
      base::log::warn("route {}: gateways do not hear of each other's rollouts: {}", route->name(),
                      exchanged.error().to_string());
    }
  }
  failing_ = failed;
}

}  // namespace tidemill::gateway
