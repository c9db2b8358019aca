#include "replay/replay.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <numeric>
#include <unordered_map>

namespace tidemill::replay {

namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

class Run {
 public:
  Run(const Trace& trace, const Fleet& fleet, Policy& policy, const Options& options)
      : trace_(trace),
        policy_(policy),
        options_(options),
        up_(fleet.hardware.size(), true),
        open_at_(fleet.hardware.size()) {
    const auto common = std::make_shared<BlockCache>(std::numeric_limits<size_t>::max());
    for (const Hardware& hardware : fleet.hardware) {
      const auto own = std::make_shared<BlockCache>(static_cast<size_t>(hardware.cache_tokens / fleet.block_tokens));
      backends_.emplace_back(hardware, fleet.block_tokens, options.window_seconds, fleet.one_cache ? common : own);
    }
    for (const Restart& restart : options.restarts) {
      changes_.push_back({restart.down_at, restart.backend, false});
      changes_.push_back({restart.up_at, restart.backend, true});
    }
    std::ranges::sort(changes_, {}, &Change::at);
  }

  Report run() {
    size_t next = 0;
    size_t change = 0;
    while (true) {
      const double arrival = next < trace_.requests.size() ? trace_.requests[next].at : kNever;
      const double changing = change < changes_.size() ? changes_[change].at : kNever;
      const size_t busy = earliest();
      const double event = backends_[busy].next_event();
      const double now = std::min({arrival, changing, event});
      if (now == kNever || (arrival == kNever && event == kNever)) break;
      if (arrival != kNever) pass(now);  // as long as the trace lasts
      if (event <= arrival && event <= changing) {
        advance(busy, event);
      } else if (changing <= arrival) {
        advance_all(changing);
        apply(changes_[change++]);
      } else {
        advance_all(arrival);
        send(next, arrival);
        open_[next].arrived = arrival;
        ++next;
      }
    }
    return summarise();
  }

 private:
  struct Change {
    double at;
    size_t backend;
    bool up;
  };
  struct Open {
    size_t backend = 0;
    double arrived = 0;
    bool counted = false;
    int64_t cached = 0;
  };

  // Time goes by with what is open.
  void pass(double now) {
    int64_t most = 0;
    int64_t sum = 0;
    for (const int64_t count : open_at_) {
      most = std::max(most, count);
      sum += count;
    }
    most_open_ += (now - passed_) * static_cast<double>(most);
    mean_open_ += (now - passed_) * static_cast<double>(sum) / static_cast<double>(open_at_.size());
    passed_ = now;
  }

  size_t earliest() const {
    size_t best = 0;
    double least = kNever;
    for (size_t i = 0; i < backends_.size(); ++i) {
      const double event = backends_[i].next_event();
      if (event < least) {
        least = event;
        best = i;
      }
    }
    return best;
  }

  void advance(size_t backend, double to) {
    backends_[backend].advance(
        to, [&](uint64_t id, int64_t cached, double at) { first_token(id, backend, cached, at); },
        [&](uint64_t id, double at) { finished(id, backend, at); });
  }
  void advance_all(double to) {
    for (size_t i = 0; i < backends_.size(); ++i)
      advance(i, to);
  }

  void send(uint64_t id, double now) {
    const Request& request = trace_.requests[id];
    std::vector<route::BlockHash> blocks;
    request.write_blocks(blocks);
    const size_t backend = policy_.choose(
        {.id = id, .blocks = blocks, .prompt_tokens = request.prompt_tokens, .session = request.session, .now = now},
        up_);
    open_[id].backend = backend;
    ++open_at_[backend];
    backends_[backend].submit(id, request.prompt_tokens, request.output_tokens, std::move(blocks));
  }

  void first_token(uint64_t id, size_t backend, int64_t cached, double at) {
    Open& open = open_.at(id);
    open.cached = cached;
    if (!open.counted) {  // what a restart lost counts the first time only
      open.counted = true;
      ++report_.requests;
      report_.prompt_tokens += trace_.requests[id].prompt_tokens;
      report_.hit_tokens += cached;
      ttft_.push_back(at - open.arrived);
    }
    policy_.first_token(id, backend, cached, at);
  }

  void finished(uint64_t id, size_t backend, double at) {
    const Request& request = trace_.requests[id];
    policy_.finished(id, backend,
                     {.prompt_tokens = request.prompt_tokens,
                      .cached_tokens = open_.at(id).cached,
                      .output_tokens = request.output_tokens},
                     at);
    open_.erase(id);
    --open_at_[backend];
  }

  void apply(const Change& change) {
    up_[change.backend] = change.up;
    if (change.up) {
      policy_.came_up(change.backend, change.at);
      return;
    }
    const std::vector<uint64_t> lost = backends_[change.backend].crash();
    policy_.went_down(change.backend, change.at);
    for (const uint64_t id : lost) {
      policy_.finished(id, change.backend, {.success = false}, change.at);
      --open_at_[change.backend];
      send(id, change.at);
      ++report_.resent;
    }
  }

  bool was_up(size_t backend, size_t window) const {
    const double begin = static_cast<double>(window) * options_.window_seconds;
    return std::ranges::none_of(options_.restarts, [&](const Restart& restart) {
      return restart.backend == backend && restart.down_at < begin + options_.window_seconds && restart.up_at > begin;
    });
  }

  struct Balance {
    double most = 0;  // summed over windows
    double mean = 0;
    double work = 0;
    std::vector<double> ratios;
  };
  // Of the windows that the trace fills, `together` at a time. Backends that were away for a part do not count in it.
  Balance balance(size_t together) const {
    const size_t windows = trace_windows() / together;
    Balance balance;
    for (size_t window = 0; window < windows; ++window) {
      double most = 0;
      double sum = 0;
      int count = 0;
      for (size_t i = 0; i < backends_.size(); ++i) {
        double work = 0;
        bool up = true;
        for (size_t part = window * together; part < (window + 1) * together; ++part) {
          work += part < backends_[i].work().size() ? backends_[i].work()[part] : 0;
          up = up && was_up(i, part);
        }
        if (!up) continue;
        most = std::max(most, work);
        sum += work;
        ++count;
      }
      balance.work += sum;
      if (sum == 0) continue;
      balance.most += most;
      balance.mean += sum / count;
      balance.ratios.push_back(most / (sum / count));
    }
    std::ranges::sort(balance.ratios);
    return balance;
  }
  size_t trace_windows() const { return static_cast<size_t>(trace_.requests.back().at / options_.window_seconds); }

  Report summarise() {
    const Balance each = balance(1);
    if (!each.ratios.empty()) {
      report_.imbalance = each.most / each.mean;
      report_.imbalance_p95 = each.ratios[each.ratios.size() * 95 / 100];
      report_.imbalance_worst = each.ratios.back();
      report_.utilisation =
          each.work / (static_cast<double>(trace_windows() * backends_.size()) * options_.window_seconds);
    }
    const Balance five = balance(5);
    if (!five.ratios.empty()) report_.imbalance_of_five = five.most / five.mean;
    const Balance all = balance(std::max<size_t>(trace_windows(), 1));
    if (!all.ratios.empty()) report_.imbalance_of_all = all.most / all.mean;
    if (mean_open_ > 0) report_.imbalance_of_open = most_open_ / mean_open_;
    std::ranges::sort(ttft_);
    if (!ttft_.empty()) {
      report_.ttft_mean = std::accumulate(ttft_.begin(), ttft_.end(), 0.0) / static_cast<double>(ttft_.size());
      report_.ttft_p50 = ttft_[ttft_.size() / 2];
      report_.ttft_p99 = ttft_[ttft_.size() * 99 / 100];
    }
    return report_;
  }

  const Trace& trace_;
  Policy& policy_;
  const Options& options_;
  std::vector<Backend> backends_;
  std::vector<bool> up_;
  std::vector<Change> changes_;
  std::unordered_map<uint64_t, Open> open_;
  std::vector<int64_t> open_at_;  // requests, by backend
  double passed_ = 0;             // until when the next two are summed
  double most_open_ = 0;          // request seconds
  double mean_open_ = 0;
  std::vector<double> ttft_;
  Report report_;
};

}  // namespace

Report replay(const Trace& trace, const Fleet& fleet, Policy& policy, const Options& options) {
  return Run(trace, fleet, policy, options).run();
}

int64_t single_cache_hits(const Trace& trace, int64_t capacity_tokens) {
  BlockCache cache(capacity_tokens == 0 ? std::numeric_limits<size_t>::max()
                                        : static_cast<size_t>(capacity_tokens / trace.block_tokens));
  std::vector<route::BlockHash> blocks;
  int64_t hits = 0;
  for (const Request& request : trace.requests) {
    request.write_blocks(blocks);
    hits += std::min(static_cast<int64_t>(cache.match(blocks)) * trace.block_tokens, request.prompt_tokens - 1);
    cache.insert(blocks);
  }
  return hits;
}

}  // namespace tidemill::replay
