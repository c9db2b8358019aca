// Weighted fair queueing between tenants: start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996).
//
// Each flow, of one tenant and one priority, has a virtual time up to which it was served: every request moves it by
// cost / weight. Among the flows that wait, the one that was served least goes first; a flow that was idle gains no
// credit by it, nor does it fall behind those that wait: it begins level with the least served of them, and its turn is
// the next. So over any time two flows that wait get work in proportion to their weights, to within one request
// each, and whoever asks for little is not behind whoever asks for much.
//
// A priority multiplies the weight by 8 or divides it by 8. Low ones are slow then, and never starve.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "access/api_key.hpp"

namespace tidemill::access {

// What a tenant's weight is worth at that priority.
double effective_weight(double weight, Priority priority);

struct QueueEntry {
  uint64_t id = 0;  // unique
  std::string tenant{};
  Priority priority = Priority::normal;
  double weight = 1;
  double cost = 1;           // tokens, estimated
  double prompt_tokens = 0;  // of which the prompt's
};

// Not thread-safe; knows no time.
class FairQueue {
 public:
  void push(QueueEntry entry);

  // What may be done with an entry whose turn it is: it starts, or it waits while others go past it, or all wait for
  // it.
  enum class Turn { start, pass_over, hold };
  // Takes out the first entry, in order, that may start; nullopt: none may now.
  std::optional<QueueEntry> pop(const std::function<Turn(const QueueEntry&)>& turn);
  // Takes out an entry that has not started; nullopt: there is none such.
  std::optional<QueueEntry> remove(uint64_t id);

  // What an entry that has started really cost, once that is known, for the account of its flow.
  void correct(const QueueEntry& entry, double cost);

  size_t size() const { return places_.size(); }
  double cost() const { return cost_; }  // of all that waits
  // Of all that goes before a new entry of that flow, about: its own flow's, and what the others are served meanwhile.
  double cost_ahead(const std::string& tenant, Priority priority, double weight) const;

 private:
  using Name = std::pair<std::string, Priority>;
  struct Flow {
    std::list<QueueEntry> waiting;
    double served = 0;   // virtual time
    bool fresh = false;  // nothing of it has started since it began to wait
    double weight = 1;
    double cost = 0;  // of what waits
  };
  using Flows = std::map<Name, Flow>;
  struct Place {
    Flows::iterator flow;
    std::list<QueueEntry>::iterator entry;
  };

  // Its place in `order_` while something waits. Of those that were served alike, who has just come is first.
  struct Key {
    double served;
    bool started;
    Name name;
    auto operator<=>(const Key&) const = default;
  };
  static Key key_of(const Flows::value_type& flow) { return {flow.second.served, !flow.second.fresh, flow.first}; }

  void serve(Flows::value_type& flow, double served, bool started);
  QueueEntry take(Place place);  // by value: it is taken from places_
  void forget_idle();

  Flows flows_;
  std::set<Key> order_;  // of the flows in which something waits
  std::unordered_map<uint64_t, Place> places_;
  double now_ = 0;  // virtual time: of the latest start
  double cost_ = 0;
  double weights_ = 0;  // of the flows in which something waits
};

}  // namespace tidemill::access
