#include "access/fair_queue.hpp"

#include <algorithm>

namespace tidemill::access {

namespace {

constexpr double priority_factor = 8;
constexpr size_t most_idle_flows = 1024;

double effective(double weight, Priority priority) {
  switch (priority) {
    case Priority::low:
      return weight / priority_factor;
    case Priority::normal:
      return weight;
    case Priority::high:
      return weight * priority_factor;
  }
  return weight;
}

}  // namespace

void FairQueue::push(QueueEntry entry) {
  if (flows_.size() > order_.size() + most_idle_flows) forget_idle();
  const auto flow = flows_.try_emplace(Name(entry.tenant, entry.priority)).first;
  if (flow->second.waiting.empty()) {
    flow->second.served = std::max(flow->second.served, now_);
    flow->second.weight = effective(entry.weight, entry.priority);
    flow->second.cost = 0;  // no rest of rounding is carried on
    weights_ = order_.empty() ? flow->second.weight : weights_ + flow->second.weight;
    if (order_.empty()) cost_ = 0;
    order_.emplace(flow->second.served, flow->first);
  }
  flow->second.cost += entry.cost;
  cost_ += entry.cost;
  const uint64_t id = entry.id;
  places_[id] = {flow, flow->second.waiting.insert(flow->second.waiting.end(), std::move(entry))};
}

QueueEntry FairQueue::take(Place place) {
  Flow& flow = place.flow->second;
  QueueEntry entry = std::move(*place.entry);
  places_.erase(entry.id);
  flow.waiting.erase(place.entry);
  flow.cost -= entry.cost;
  cost_ -= entry.cost;
  if (flow.waiting.empty()) {
    order_.erase({flow.served, place.flow->first});
    weights_ -= flow.weight;
  }
  return entry;
}

std::optional<QueueEntry> FairQueue::pop(const std::function<Turn(const QueueEntry&)>& turn) {
  for (const auto& [served, name] : order_) {
    const auto flow = flows_.find(name);
    const auto first = flow->second.waiting.begin();
    const Turn verdict = turn(*first);
    if (verdict == Turn::hold) return std::nullopt;
    if (verdict == Turn::pass_over) continue;
    now_ = std::max(now_, served);
    const double later = served + first->cost / flow->second.weight;
    const bool more = flow->second.waiting.size() > 1;
    QueueEntry entry = take({flow, first});
    if (more) {
      auto node = order_.extract({flow->second.served, flow->first});
      node.value().first = later;
      order_.insert(std::move(node));
    }
    flow->second.served = later;
    return entry;
  }
  return std::nullopt;
}

std::optional<QueueEntry> FairQueue::remove(uint64_t id) {
  const auto place = places_.find(id);
  if (place == places_.end()) return std::nullopt;
  return take(place->second);
}

void FairQueue::correct(const QueueEntry& entry, double cost) {
  const auto flow = flows_.find(Name(entry.tenant, entry.priority));
  if (flow == flows_.end()) return;
  const double corrected = flow->second.served + (cost - entry.cost) / flow->second.weight;
  if (!flow->second.waiting.empty()) {
    auto node = order_.extract({flow->second.served, flow->first});
    node.value().first = corrected;
    order_.insert(std::move(node));
  }
  flow->second.served = corrected;
}

double FairQueue::cost_ahead(const std::string& tenant, Priority priority, double weight) const {
  const double own_weight = effective(weight, priority);
  const auto flow = flows_.find(Name(tenant, priority));
  const double own = flow == flows_.end() || flow->second.waiting.empty() ? 0 : flow->second.cost;
  const double others = own > 0 ? weights_ - flow->second.weight : weights_;
  // While its own are served, the others get their shares, as far as they have anything waiting.
  return own + std::min(cost_ - own, own * others / own_weight);
}

void FairQueue::forget_idle() {
  std::erase_if(flows_, [&](const auto& entry) { return entry.second.waiting.empty() && entry.second.served <= now_; });
}

}  // namespace tidemill::access
