#include "replay/policies.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <unordered_map>

namespace tidemill::replay {

namespace {

constexpr int64_t kUnlimitedTokens = int64_t{1} << 40;

// What the baselines know of the backends. It is exact about loads and generous about caches: the index has the true
// capacities, and forgets what a backend that went down held.
class Baseline : public Policy {
 public:
  explicit Baseline(const Fleet& fleet) : fleet_(fleet), loads_(fleet.hardware.size()) {
    for (size_t i = 0; i < fleet.hardware.size(); ++i) {
      const int64_t tokens = fleet.one_cache ? kUnlimitedTokens : fleet.hardware[i].cache_tokens;
      index_.set_capacity(static_cast<route::Backend>(i), static_cast<size_t>(tokens / fleet.block_tokens));
    }
  }

  size_t choose(const Arrival& arrival, const std::vector<bool>& up) final {
    matched_.resize(loads_.size());
    index_.match(arrival.blocks, matched_);
    const size_t chosen = pick(arrival, up);
    const int64_t held = fleet_.one_cache ? longest_match() : matched(chosen);
    const int64_t cached = std::min(held, arrival.prompt_tokens - 1);
    loads_[chosen].open += 1;
    loads_[chosen].prefilling += 1;
    loads_[chosen].prefill_tokens += arrival.prompt_tokens - cached;
    loads_[chosen].context_tokens += arrival.prompt_tokens;
    open_[arrival.id] = {arrival.prompt_tokens, arrival.prompt_tokens - cached, true};
    index_.record(static_cast<route::Backend>(chosen), arrival.blocks);
    return chosen;
  }
  void first_token(uint64_t id, size_t backend, int64_t /*cached_tokens*/, double /*now*/) final {
    prefilled(open_.at(id), backend);
  }
  void finished(uint64_t id, size_t backend, const Ending& /*ending*/, double /*now*/) final {
    Open& open = open_.at(id);
    prefilled(open, backend);
    loads_[backend].open -= 1;
    loads_[backend].context_tokens -= open.context_tokens;
    open_.erase(id);
  }
  void went_down(size_t backend, double /*now*/) final { index_.forget(static_cast<route::Backend>(backend)); }

 protected:
  struct Load {
    int64_t open = 0;
    int64_t prefilling = 0;
    int64_t prefill_tokens = 0;
    int64_t context_tokens = 0;
  };

  virtual size_t pick(const Arrival& arrival, const std::vector<bool>& up) = 0;

  // The backend with the least cost(backend).
  template <typename Cost>
  size_t least(const std::vector<bool>& up, const Cost& cost) const {
    size_t best = 0;
    double least = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < loads_.size(); ++i) {
      if (!up[i]) continue;
      const auto of = static_cast<double>(cost(i));
      if (of < least) {
        least = of;
        best = i;
      }
    }
    return best;
  }
  int64_t longest_match() const { return static_cast<int64_t>(std::ranges::max(matched_)) * fleet_.block_tokens; }
  int64_t matched(size_t backend) const { return static_cast<int64_t>(matched_[backend]) * fleet_.block_tokens; }

  Fleet fleet_;
  route::PrefixIndex index_;
  std::vector<Load> loads_;

 private:
  struct Open {
    int64_t context_tokens;
    int64_t uncached_tokens;
    bool prefilling;
  };
  void prefilled(Open& open, size_t backend) {
    if (!open.prefilling) return;
    open.prefilling = false;
    loads_[backend].prefilling -= 1;
    loads_[backend].prefill_tokens -= open.uncached_tokens;
  }

  std::unordered_map<uint64_t, Open> open_;
  std::vector<uint32_t> matched_;
};

class RoundRobin final : public Baseline {
 public:
  using Baseline::Baseline;
  std::string_view name() const override { return "round robin"; }

 private:
  size_t pick(const Arrival& /*arrival*/, const std::vector<bool>& up) override {
    do {
      next_ = (next_ + 1) % up.size();
    } while (!up[next_]);
    return next_;
  }
  size_t next_ = 0;
};

class LeastLoaded final : public Baseline {
 public:
  using Baseline::Baseline;
  std::string_view name() const override { return "least loaded"; }

 private:
  size_t pick(const Arrival& /*arrival*/, const std::vector<bool>& up) override {
    return least(up, [&](size_t i) { return loads_[i].open; });
  }
};

class ConsistentHashing final : public Baseline {
 public:
  using Baseline::Baseline;
  std::string_view name() const override { return "consistent hashing"; }

 private:
  static constexpr size_t kKeyTokens = 2048;
  size_t pick(const Arrival& arrival, const std::vector<bool>& up) override {
    const size_t depth = std::min(arrival.blocks.size(), kKeyTokens / static_cast<size_t>(fleet_.block_tokens));
    const uint64_t key = arrival.session != 0 ? arrival.session : depth == 0 ? 0 : arrival.blocks[depth - 1];
    return least(up, [&](size_t i) { return -static_cast<double>(route::spread_score(key, i + 1)); });
  }
};

class CacheAware final : public Baseline {
 public:
  using Baseline::Baseline;
  std::string_view name() const override { return "cache-aware (SGLang)"; }

 private:
  size_t pick(const Arrival& arrival, const std::vector<bool>& up) override {
    int64_t most = 0;
    int64_t fewest = std::numeric_limits<int64_t>::max();
    for (size_t i = 0; i < loads_.size(); ++i) {
      if (!up[i]) continue;
      most = std::max(most, loads_[i].open);
      fewest = std::min(fewest, loads_[i].open);
    }
    const bool unbalanced = most - fewest > 64 && static_cast<double>(most) > 1.5 * static_cast<double>(fewest);
    if (unbalanced) return least(up, [&](size_t i) { return loads_[i].open; });
    const size_t longest = least(up, [&](size_t i) { return -matched(i); });
    if (static_cast<double>(matched(longest)) >= 0.3 * static_cast<double>(arrival.prompt_tokens)) return longest;
    return least(up, [&](size_t i) { return index_.held(static_cast<route::Backend>(i)); });
  }
};

class WeightedScores final : public Baseline {
 public:
  using Baseline::Baseline;
  std::string_view name() const override { return "weighted scores (llm-d)"; }

 private:
  size_t pick(const Arrival& arrival, const std::vector<bool>& up) override {
    int64_t longest = 0;
    int64_t shortest = std::numeric_limits<int64_t>::max();
    for (size_t i = 0; i < loads_.size(); ++i) {
      if (!up[i]) continue;
      longest = std::max(longest, loads_[i].prefilling);
      shortest = std::min(shortest, loads_[i].prefilling);
    }
    return least(up, [&](size_t i) {
      const double prefix = static_cast<double>(matched(i)) / static_cast<double>(arrival.prompt_tokens);
      const double queue = longest == shortest ? 1
                                               : static_cast<double>(longest - loads_[i].prefilling) /
                                                     static_cast<double>(longest - shortest);
      const double kv = 1 - std::min(static_cast<double>(loads_[i].context_tokens) /
                                         static_cast<double>(fleet_.hardware[i].cache_tokens),
                                     1.0);
      return -(3 * prefix + 2 * queue + 2 * kv);
    });
  }
};

class BlockCosts final : public Baseline {
 public:
  using Baseline::Baseline;
  std::string_view name() const override { return "block costs (Dynamo)"; }

 private:
  size_t pick(const Arrival& arrival, const std::vector<bool>& up) override {
    return least(up, [&](size_t i) {
      return loads_[i].prefill_tokens + arrival.prompt_tokens - matched(i) + loads_[i].context_tokens;
    });
  }
};

class LeastWork final : public Baseline {
 public:
  explicit LeastWork(const Fleet& fleet) : Baseline(fleet), given_(fleet.hardware.size()) {}
  std::string_view name() const override { return "(one cache for all)"; }

 private:
  size_t pick(const Arrival& arrival, const std::vector<bool>& up) override {
    const int64_t own = arrival.prompt_tokens - longest_match();
    const size_t chosen = least(up, [&](size_t i) {
      // Where nothing is ahead, whoever was given the least so far.
      return (static_cast<double>(loads_[i].prefill_tokens) + 1e-9 * static_cast<double>(given_[i])) /
             fleet_.hardware[i].prefill_tokens_per_second;
    });
    given_[chosen] += own;
    return chosen;
  }

  std::vector<int64_t> given_;
};

class LeastTtft final : public Baseline {
 public:
  using Baseline::Baseline;
  std::string_view name() const override { return "least TTFT (Mooncake)"; }

 private:
  size_t pick(const Arrival& arrival, const std::vector<bool>& up) override {
    return least(up, [&](size_t i) {
      return static_cast<double>(loads_[i].prefill_tokens + arrival.prompt_tokens - matched(i)) /
             fleet_.hardware[i].prefill_tokens_per_second;
    });
  }
};

base::SteadyTime time_of(double seconds) {
  return base::SteadyTime(std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(seconds + 1)));
}

// The router as the gateway uses it. It is told the capacities, as servers report them, and has to learn the speeds.
class Tidemill final : public Policy {
 public:
  Tidemill(const Fleet& fleet, route::RouterOptions options) {
    // A block of the trace is a block of the index, with a byte a token.
    options.block_bytes = static_cast<size_t>(fleet.block_tokens);
    options.bytes_per_token = 1;
    router_.emplace(options);
    std::vector<route::Endpoint> endpoints;
    for (size_t i = 0; i < fleet.hardware.size(); ++i) {
      endpoints.push_back({.address = "backend-" + std::to_string(i) + ":80"});
      numbers_[endpoints.back().address] = i;
      addresses_.push_back(endpoints.back().address);
    }
    router_->set_backends(endpoints, time_of(0));
    for (size_t i = 0; i < addresses_.size(); ++i) {
      router_->report(addresses_[i], {.kv_capacity_tokens = fleet.hardware[i].cache_tokens, .started_at = 1.0},
                      time_of(0));
    }
  }

  std::string_view name() const override { return "Tidemill"; }

  size_t choose(const Arrival& arrival, const std::vector<bool>& /*up*/) override {
    const std::string session = arrival.session == 0 ? "" : std::to_string(arrival.session);
    const auto routed = router_->route({.blocks = arrival.blocks,
                                        .prompt_bytes = static_cast<uint64_t>(arrival.prompt_tokens),
                                        .prompt_tokens = arrival.prompt_tokens,
                                        .session = session},
                                       time_of(arrival.now));
    if (!routed) std::abort();  // some backend is always up
    tickets_[arrival.id] = routed->ticket;
    return numbers_.at(routed->address);
  }
  void first_token(uint64_t id, size_t /*backend*/, int64_t cached_tokens, double now) override {
    router_->first_token(tickets_.at(id), time_of(now), cached_tokens);
  }
  void finished(uint64_t id, size_t /*backend*/, const Ending& ending, double now) override {
    route::Finish finish{.outcome = ending.success ? route::Outcome::success : route::Outcome::failure};
    if (ending.success) {
      finish.prompt_tokens = ending.prompt_tokens;
      finish.cached_tokens = ending.cached_tokens;
      finish.output_tokens = ending.output_tokens;
    }
    router_->finish(tickets_.at(id), finish, time_of(now));
    tickets_.erase(id);
  }
  void went_down(size_t backend, double now) override {
    for (int i = 0; i < 2; ++i)
      router_->check(addresses_[backend], false, time_of(now));
  }
  void came_up(size_t backend, double now) override {
    router_->report(addresses_[backend], {.started_at = 1000 + now}, time_of(now));
    for (int i = 0; i < 2; ++i)
      router_->check(addresses_[backend], true, time_of(now));
  }

 private:
  std::optional<route::Router> router_;
  std::vector<std::string> addresses_;
  std::unordered_map<std::string, size_t> numbers_;
  std::unordered_map<uint64_t, route::Ticket> tickets_;
};

}  // namespace

std::unique_ptr<Policy> tidemill_policy(const Fleet& fleet, const route::RouterOptions& options) {
  return std::make_unique<Tidemill>(fleet, options);
}
std::unique_ptr<Policy> round_robin(const Fleet& fleet) {
  return std::make_unique<RoundRobin>(fleet);
}
std::unique_ptr<Policy> least_loaded(const Fleet& fleet) {
  return std::make_unique<LeastLoaded>(fleet);
}
std::unique_ptr<Policy> consistent_hashing(const Fleet& fleet) {
  return std::make_unique<ConsistentHashing>(fleet);
}
std::unique_ptr<Policy> cache_aware(const Fleet& fleet) {
  return std::make_unique<CacheAware>(fleet);
}
std::unique_ptr<Policy> weighted_scores(const Fleet& fleet) {
  return std::make_unique<WeightedScores>(fleet);
}
std::unique_ptr<Policy> block_costs(const Fleet& fleet) {
  return std::make_unique<BlockCosts>(fleet);
}
std::unique_ptr<Policy> least_work(const Fleet& fleet) {
  return std::make_unique<LeastWork>(fleet);
}
std::unique_ptr<Policy> least_ttft(const Fleet& fleet) {
  return std::make_unique<LeastTtft>(fleet);
}

}  // namespace tidemill::replay
