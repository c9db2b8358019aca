// Counters and buckets of the shared store as one gateway knows them: what the store last told, and what happened here
// since. Reading and changing them never waits; an exchange now and then tells the store what happened here and learns
// what happened elsewhere. What is told is told exactly once, also over a store that fails in between.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "session/bucket.hpp"
#include "session/shared_state.hpp"

namespace tidemill::access {

// A bucket's size in the same units as what is taken from it.
struct BucketShape {
  double capacity = 0;
  double per_second = 0;
};

// Not thread-safe. Times are wall-clock times, because gateways share them.
class StateMirror {
 public:
  // `name` is unique to this gateway's process. Not shared: nothing is ever exchanged, and this is all there is.
  StateMirror(std::string name, bool shared) : name_(std::move(name)), shared_(shared) {}

  int64_t counter(const std::string& key) const;
  // Adding 0 asks for what others added: counters are exchanged for two minutes after they were last added to.
  void add(const std::string& key, int64_t amount, base::Duration lives, base::WallTime now);
  // Asks for it, and says whether the store has told of it and is still asked.
  bool knows(const std::string& key, base::Duration lives, base::WallTime now);

  // A bucket that is not known here is full until the next exchange.
  double level(const std::string& key, const BucketShape& shape, base::WallTime now);
  void take(const std::string& key, double amount, const BucketShape& shape, base::WallTime now);
  // As of a counter.
  bool knows(const std::string& key, const BucketShape& shape, base::WallTime now);

  // What to tell the store and to ask it: the same again until it is applied. nullopt: there is nothing.
  std::optional<session::Exchange> collect(base::WallTime now);
  // What the store answered to the exchange that `collect` gave.
  void apply(const session::Exchanged& told, base::WallTime now);

  // Drops what has ended. `collect` does so too.
  void forget(base::WallTime now);

 private:
  struct Counter {
    int64_t told = 0;     // the store's value
    int64_t sending = 0;  // in the exchange under way
    int64_t untold = 0;
    base::Duration lives{};
    base::WallTime used;
    bool known = false;  // `told` is the store's word, and not too old
  };
  struct Bucket {
    session::Bucket known;  // as it would be if everything were told
    double untold = 0;
    BucketShape shape;
    base::WallTime used;
    bool told = false;  // the store has
  };

  Counter& counter(const std::string& key, base::Duration lives, base::WallTime now);
  Bucket& bucket(const std::string& key, const BucketShape& shape, base::WallTime now);

  const std::string name_;
  const bool shared_;
  std::unordered_map<std::string, Counter> counters_;
  std::unordered_map<std::string, Bucket> buckets_;
  std::optional<session::Exchange> under_way_;
  int64_t exchanges_ = 0;
};

}  // namespace tidemill::access
