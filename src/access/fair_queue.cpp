#include "access/fair_queue.hpp"

#include <algorithm>

namespace tidemill::access {

namespace {

constexpr double priority_factor = 8;
constexpr size_t most_idle_flows = 1024;

}  // namespace

double effective_weight(double weight, Priority priority) {
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

void FairQueue::push(QueueEntry entry) {
  if (flows_.size() > order_.size() + most_idle_flows) forget_idle();
  const auto flow = flows_.try_emplace(Name(entry.tenant, entry.priority)).first;
  if (flow->second.waiting.empty()) {
    // What has started may have cost less than was estimated: then those that wait are behind the latest start.
    const double now = order_.empty() ? now_ : std::min(now_, order_.begin()->served);
    flow->second.served = std::max(flow->second.served, now);
    flow->second.fresh = true;
    flow->second.weight = effective_weight(entry.weight, entry.priority);
    flow->second.cost = 0;  // no rest of rounding is carried on
    weights_ = order_.empty() ? flow->second.weight : weights_ + flow->second.weight;
    if (order_.empty()) cost_ = 0;
    order_.insert(key_of(*flow));
  }
  flow->second.cost += entry.cost;
  cost_ += entry.cost;
  const uint64_t id = entry.id;
  places_[id] = {flow, flow->second.waiting.insert(flow->second.waiting.end(), std::move(entry))};
}

// Moves a flow's virtual time, whether it waits or not.
void FairQueue::serve(Flows::value_type& flow, double served, bool started) {
  auto node = order_.extract(key_of(flow));
  flow.second.served = served;
  if (started) flow.second.fresh = false;
  if (node.empty()) return;
  node.value() = key_of(flow);
  order_.insert(std::move(node));
}

QueueEntry FairQueue::take(Place place) {
  Flow& flow = place.flow->second;
  QueueEntry entry = std::move(*place.entry);
  places_.erase(entry.id);
  flow.waiting.erase(place.entry);
  flow.cost -= entry.cost;
  cost_ -= entry.cost;
  if (flow.waiting.empty()) {
    order_.erase(key_of(*place.flow));
    weights_ -= flow.weight;
  }
  return entry;
}

std::optional<QueueEntry> FairQueue::pop(const std::function<Turn(const QueueEntry&)>& turn) {
  for (const Key& key : order_) {
    const auto flow = flows_.find(key.name);
    const auto first = flow->second.waiting.begin();
    const Turn verdict = turn(*first);
    if (verdict == Turn::hold) return std::nullopt;
    if (verdict == Turn::pass_over) continue;
    now_ = std::max(now_, key.served);
    const double later = key.served + first->cost / flow->second.weight;
    QueueEntry entry = take({flow, first});  // `key` may be gone
    serve(*flow, later, true);
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
  serve(*flow, flow->second.served + (cost - entry.cost) / flow->second.weight, false);
}

double FairQueue::cost_ahead(const std::string& tenant, Priority priority, double weight) const {
  const double own_weight = effective_weight(weight, priority);
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
