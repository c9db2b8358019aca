#include "access/state_mirror.hpp"

#include <algorithm>
#include <utility>

namespace tidemill::access {

namespace {

// What nobody asked for in this time is no longer exchanged. A bucket is forgotten then: it is full, or the store knows
// better.
constexpr base::Duration idle_after = std::chrono::minutes(2);

}  // namespace

int64_t StateMirror::counter(const std::string& key) const {
  const auto found = counters_.find(key);
  if (found == counters_.end()) return 0;
  return found->second.told + found->second.sending + found->second.untold;
}

StateMirror::Counter& StateMirror::counter(const std::string& key, base::Duration lives, base::WallTime now) {
  Counter& counter = counters_[key];
  if (counter.used + idle_after <= now) counter.known = false;
  counter.lives = lives;
  counter.used = now;
  return counter;
}

void StateMirror::add(const std::string& key, int64_t amount, base::Duration lives, base::WallTime now) {
  counter(key, lives, now).untold += amount;
}

bool StateMirror::knows(const std::string& key, base::Duration lives, base::WallTime now) {
  return counter(key, lives, now).known;
}

StateMirror::Bucket& StateMirror::bucket(const std::string& key, const BucketShape& shape, base::WallTime now) {
  const int64_t nanos = base::unix_nanos(now);
  const auto [place, fresh] = buckets_.try_emplace(key);
  Bucket& bucket = place->second;
  if (fresh) bucket.known = {shape.capacity, nanos};
  bucket.known = session::filled(bucket.known, shape.capacity, shape.per_second, nanos);
  bucket.shape = shape;
  bucket.used = now;
  return bucket;
}

double StateMirror::level(const std::string& key, const BucketShape& shape, base::WallTime now) {
  return bucket(key, shape, now).known.level;
}

void StateMirror::take(const std::string& key, double amount, const BucketShape& shape, base::WallTime now) {
  Bucket& taken = bucket(key, shape, now);
  taken.known = session::taken(taken.known, shape.capacity, amount);
  taken.untold += amount;
}

bool StateMirror::knows(const std::string& key, const BucketShape& shape, base::WallTime now) {
  return bucket(key, shape, now).told;
}

void StateMirror::forget(base::WallTime now) {
  std::erase_if(counters_, [&](const auto& entry) {
    const Counter& counter = entry.second;
    return counter.used + counter.lives <= now && (!shared_ || (counter.untold == 0 && counter.sending == 0));
  });
  std::erase_if(buckets_, [&](const auto& entry) {
    const Bucket& bucket = entry.second;
    return bucket.used + idle_after <= now && (!shared_ || bucket.untold == 0);
  });
}

std::optional<session::Exchange> StateMirror::collect(base::WallTime now) {
  if (under_way_) return under_way_;
  forget(now);
  session::Exchange exchange;
  for (auto& [key, counter] : counters_) {
    if (counter.used + idle_after <= now && counter.untold == 0) continue;
    counter.sending = std::exchange(counter.untold, 0);
    exchange.additions.push_back({key, counter.sending, counter.lives});
  }
  for (auto& [key, bucket] : buckets_) {
    exchange.takes.push_back({key, bucket.shape.capacity, bucket.shape.per_second, std::exchange(bucket.untold, 0)});
  }
  if (exchange.additions.empty() && exchange.takes.empty()) return std::nullopt;
  exchange.gateway = name_;
  exchange.number = ++exchanges_;
  under_way_ = std::move(exchange);
  return under_way_;
}

void StateMirror::apply(const session::Exchanged& told, base::WallTime now) {
  const session::Exchange done = std::exchange(under_way_, std::nullopt).value_or(session::Exchange());
  for (size_t i = 0; i < std::min(told.counters.size(), done.additions.size()); ++i) {
    const auto place = counters_.find(done.additions[i].key);
    if (place == counters_.end()) continue;
    place->second.told = told.counters[i];
    place->second.sending = 0;
    place->second.known = true;
  }
  for (size_t i = 0; i < std::min(told.levels.size(), done.takes.size()); ++i) {
    const auto place = buckets_.find(done.takes[i].key);
    if (place == buckets_.end()) continue;
    Bucket& bucket = place->second;
    bucket.told = true;
    const session::Bucket known{told.levels[i], base::unix_nanos(now)};
    bucket.known = session::taken(known, bucket.shape.capacity, bucket.untold);
  }
}

}  // namespace tidemill::access
