#include "rollout/simulated_rollout.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <queue>
#include <random>

#include <fmt/core.h>

namespace tidemill::rollout::simulation {
namespace {

constexpr size_t kLiveSessions = 400;

struct Session {
  uint64_t id = 0;
  int64_t turns_left = 0;
  double ttft = 0;  // habits: what is added to the logarithms
  double length = 0;
};

// A request that is being answered.
struct Pending {
  double ends;  // seconds
  Assignment assignment;
  Observation observation;
  bool operator>(const Pending& other) const { return ends > other.ends; }
};

class Simulator {
 public:
  Simulator(const CanaryOptions& options, const Traffic& traffic, const Difference& difference, uint64_t seed)
      : traffic_(traffic), difference_(difference), random_(seed), seed_(seed) {
    CanaryOptions own = options;
    own.name = fmt::format("{}-{}", options.name, seed);
    canary_ = std::move(Canary::create(own, at(0)).value());
    if (traffic_.sessions) sessions_.resize(kLiveSessions);
    burst_next_ = exponential(20);
  }

  Outcome run(int64_t most) {
    Outcome outcome;
    double now = 0;
    for (int64_t i = 0; i < most && outcome.phase == Phase::running; ++i) {
      const double gap = exponential(1 / traffic_.rate);
      now += gap;
      move_load(now, gap);
      while (!pending_.empty() && pending_.top().ends <= now && outcome.phase == Phase::running)
        answer(outcome);
      arrive(now, i);
    }
    while (!pending_.empty() && outcome.phase == Phase::running)
      answer(outcome);
    if (outcome.phase == Phase::rolled_back) outcome.reason = canary_->status().reason;
    return outcome;
  }

 private:
  static base::SteadyTime at(double seconds) {
    return base::SteadyTime(std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(seconds)));
  }
  double uniform() { return std::uniform_real_distribution<double>()(random_); }
  double normal() { return normal_(random_); }
  double exponential(double mean) { return -mean * std::log(1 - uniform()); }

  // What both versions suffer: a slow random walk that returns, bursts, a tide of two minutes.
  void move_load(double now, double gap) {
    if (traffic_.ideal) return;
    const double keep = std::exp(-gap / 2);
    walk_ = walk_ * keep + 0.35 * std::sqrt(1 - keep * keep) * normal();
    if (now >= burst_next_) {
      burst_until_ = now + exponential(2);
      burst_next_ = burst_until_ + exponential(20);
      burst_size_ = 0.4 + 0.8 * uniform();
      incident_ = uniform() < 0.3 ? 0.15 : 0;
    }
    const bool burst = now < burst_until_;
    load_ = walk_ + (burst ? burst_size_ : 0) + 0.5 * std::sin(now / 120 * 6.283185307179586);
    failing_ = 0.002 + (burst ? incident_ : 0);
  }

  void arrive(double now, int64_t index) {
    const Session session = next_session(index);
    const std::string_view key(reinterpret_cast<const char*>(&session.id), sizeof session.id);
    const Assignment assignment = canary_->assign(key);
    const bool differs = assignment.arm == Arm::canary && index >= difference_.from;
    const Difference difference = differs ? difference_ : Difference{};
    Observation o = observation(session);
    o.ttft *= difference.ttft;
    o.itl *= difference.itl;
    o.output_tokens = std::max(1.0, std::round(o.output_tokens * difference.length));
    const double failing = traffic_.ideal ? 0 : failing_;
    o.failed = uniform() < failing + (1 - failing) * difference.failing;
    o.seconds = o.failed ? o.ttft : o.ttft + o.itl * std::min(o.output_tokens, 2000.0);
    pending_.push({now + o.seconds, assignment, o});
  }

  Session next_session(int64_t index) {
    if (!traffic_.sessions) return {.id = static_cast<uint64_t>(index) ^ (seed_ << 32)};
    Session& session = sessions_[random_() % kLiveSessions];
    if (session.turns_left == 0) {
      session.id = random_();
      session.turns_left = 1 + static_cast<int64_t>(exponential(11.5));
      session.ttft = 0.5 * normal();
      session.length = 0.5 * normal();
    }
    --session.turns_left;
    return session;
  }

  Observation observation(const Session& session) {
    Observation o;
    if (traffic_.ideal) {
      o.ttft = 0.3 * std::exp(0.6 * normal());
      o.itl = 0.015 * std::exp(0.3 * normal());
      o.output_tokens = 80 * std::exp(0.8 * normal());
      return o;
    }
    const double prompt = 1.2 * normal();
    o.prompt_tokens = std::round(1100 * std::exp(prompt));
    const double cached = uniform() < 0.35 ? -1.5 : 0;
    const double tail = uniform() < 0.02 ? exponential(1) : 0;  // Pareto's, of exponent 1
    o.ttft = 0.4 * std::exp(0.6 * prompt + cached + 0.4 * normal() + tail + load_ + session.ttft);
    o.itl = 0.015 * std::exp(0.05 * prompt + 0.25 * normal() + tail + 0.5 * load_);
    o.output_tokens = 80 * std::exp(0.9 * normal() + (uniform() < 0.2 ? 1.5 : 0) + session.length);
    return o;
  }

  void answer(Outcome& outcome) {
    const Pending pending = pending_.top();
    pending_.pop();
    ++outcome.requests;
    outcome.canary_requests += pending.assignment.arm == Arm::canary ? 1 : 0;
    outcome.seconds = pending.ends;
    const Event event = canary_->observe(pending.assignment, pending.observation, at(pending.ends));
    if (event == Event::promoted) outcome.phase = Phase::promoted;
    if (event == Event::rolled_back) outcome.phase = Phase::rolled_back;
  }

  Traffic traffic_;
  Difference difference_;
  std::mt19937_64 random_;
  std::normal_distribution<double> normal_;
  uint64_t seed_;
  std::unique_ptr<Canary> canary_;
  std::vector<Session> sessions_;
  std::priority_queue<Pending, std::vector<Pending>, std::greater<>> pending_;
  double walk_ = 0;
  double load_ = 0;
  double failing_ = 0.002;
  double burst_next_ = 0;
  double burst_until_ = 0;
  double burst_size_ = 0;
  double incident_ = 0;
};

}  // namespace

Outcome simulate(const CanaryOptions& options, const Traffic& traffic, const Difference& difference, uint64_t seed,
                 int64_t most) {
  return Simulator(options, traffic, difference, seed).run(most);
}

double quantile(std::vector<double> values, double q) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

}  // namespace tidemill::rollout::simulation
