#include "access/admission.hpp"

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "access/simulated_service.hpp"

namespace tidemill::access {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using test::SimulatedService;
using test::SimulatedTenant;

class Queueing : public testing::Test {
 protected:
  uint64_t submit(Admission& admission, const std::string& tenant, int64_t prompt = 100) {
    const size_t slot = decided_.size();
    decided_.emplace_back("waits");
    return admission.submit({tenant, 1, Priority::normal, prompt, 0}, now_,
                            [this, slot](std::optional<Refusal> refusal) {
                              decided_[slot] = refusal ? std::string(refusal->message) : "goes";
                              if (refusal) last_ = std::move(refusal);
                            });
  }

  base::SteadyTime now_{};
  std::vector<std::string> decided_;
  std::optional<Refusal> last_;
};

TEST_F(Queueing, SlotsAreTakenAndReturned) {
  Admission admission({.slots = 2, .spare = 0});
  const uint64_t a = submit(admission, "a");
  submit(admission, "a");
  const uint64_t c = submit(admission, "a");
  submit(admission, "a");
  EXPECT_EQ(decided_, (std::vector<std::string>{"goes", "goes", "waits", "waits"}));
  EXPECT_EQ(admission.state().running, 2U);
  EXPECT_EQ(admission.state().queued, 2U);
  admission.finish(c, 0, now_);  // its client went away
  admission.finish(c, 0, now_);
  admission.finish(12345, 0, now_);
  EXPECT_EQ(decided_[3], "waits");
  admission.finish(a, 100, now_);
  EXPECT_EQ(decided_, (std::vector<std::string>{"goes", "goes", "waits", "goes"}));
  submit(admission, "a");
  EXPECT_EQ(decided_[4], "waits");
  admission.set_slots(3, now_);
  EXPECT_EQ(decided_[4], "goes");
}

TEST_F(Queueing, SparePlacesAreForOthers) {
  Admission admission({.slots = 8, .spare = 0.25});
  for (int i = 0; i < 10; ++i)
    submit(admission, "flood");
  EXPECT_EQ(admission.state().running, 6U);
  submit(admission, "other");
  EXPECT_EQ(decided_.back(), "goes");
  submit(admission, "third");
  EXPECT_EQ(decided_.back(), "goes");
  EXPECT_EQ(admission.state().running, 8U);
}

// In a flood whose requests take far less than they might, who begins now has the next turn.
TEST_F(Queueing, WhoBeginsInAFloodIsNext) {
  Admission admission({.slots = 4, .spare = 0, .longest_wait = minutes(10)});
  std::vector<uint64_t> flood;
  flood.reserve(100);
  for (int i = 0; i < 100; ++i)
    flood.push_back(submit(admission, "flood", 2000));
  for (size_t i = 0; i < 40; ++i)
    admission.finish(flood[i], 10, now_);
  submit(admission, "z");
  EXPECT_EQ(decided_.back(), "waits");
  admission.finish(flood[40], 10, now_);
  EXPECT_EQ(decided_.back(), "goes");
}

TEST_F(Queueing, ManyTenantsUseEveryPlace) {
  Admission admission({.slots = 8, .spare = 0.25});
  for (const char* tenant : {"a", "b", "c", "d"}) {
    for (int i = 0; i < 4; ++i)
      submit(admission, tenant);
  }
  // Those that came first took what was free then; as places come back, every tenant gets its two.
  for (uint64_t id = 1; id <= 4; ++id)
    admission.finish(id, 100, now_);
  EXPECT_EQ(admission.state().running, 8U);
}

// What begins while tenants with more waiting than can be served ask for requests that all take the same time: each
// request by one letter, in order.
class Backlog {
 public:
  explicit Backlog(int slots)
      : admission_({.slots = slots, .max_queued = 100'000, .max_queued_of_one = 100'000, .longest_wait = minutes(10)}) {
    ask(slots, 'c', "calm", Priority::normal);
  }

  void ask(int requests, char letter, const std::string& tenant, Priority priority, double weight = 1) {
    for (int i = 0; i < requests; ++i) {
      const uint64_t id = ++asked_;
      admission_.submit({tenant, weight, priority, 10, 100}, {}, [this, letter, id](std::optional<Refusal> refusal) {
        EXPECT_FALSE(refusal);
        begun_ += letter;
        running_.push_back(id);
      });
    }
  }
  // The next that begin, as those that began before end.
  std::string serve(size_t requests) {
    const size_t before = begun_.size();
    while (begun_.size() < before + requests && !running_.empty()) {
      const uint64_t first = running_.front();
      running_.pop_front();
      admission_.finish(first, 110, {});
    }
    return begun_.substr(before, requests);
  }

 private:
  Admission admission_;
  uint64_t asked_ = 0;
  std::deque<uint64_t> running_;
  std::string begun_;
};

TEST(Backlogs, PrioritiesHoldBetweenTenantsWithAnySlots) {
  for (const int slots : {1, 2, 3, 4, 8, 16, 64}) {
    Backlog backlog(slots);
    backlog.ask(300, 'l', "slow", Priority::low);
    backlog.ask(300, 'n', "usual", Priority::normal);
    backlog.ask(300, 'h', "urgent", Priority::high);
    backlog.serve(static_cast<size_t>(slots));  // that were there before them
    const std::string order = backlog.serve(146);
    EXPECT_NEAR(static_cast<double>(std::ranges::count(order, 'h')), 128, 4) << slots << " " << order;
    EXPECT_NEAR(static_cast<double>(std::ranges::count(order, 'n')), 16, 3) << slots << " " << order;
    EXPECT_NEAR(static_cast<double>(std::ranges::count(order, 'l')), 2, 2) << slots << " " << order;
  }
}

TEST(Backlogs, WeightsHoldBetweenTenantsWithAnySlots) {
  for (const int slots : {1, 2, 3, 4, 8, 16, 64}) {
    Backlog backlog(slots);
    backlog.ask(300, 'n', "one", Priority::normal);
    backlog.ask(300, 'w', "two", Priority::normal, 2);
    backlog.serve(static_cast<size_t>(slots));
    const std::string order = backlog.serve(120);
    EXPECT_NEAR(static_cast<double>(std::ranges::count(order, 'w')), 80, 3) << slots << " " << order;
  }
}

// A tenant's share is that of what it asks for now, not of what it asked for first, and not of what has ended.
TEST(Backlogs, ATenantsPrioritiesMayChange) {
  for (const int slots : {4, 8, 64}) {
    Backlog backlog(slots);
    backlog.ask(600, 'l', "one", Priority::low);
    backlog.ask(600, 'n', "other", Priority::normal);
    backlog.serve(static_cast<size_t>(3 * slots));
    backlog.ask(80, 'h', "one", Priority::high);
    const std::string urgent = backlog.serve(90);
    EXPECT_NEAR(static_cast<double>(std::ranges::count(urgent, 'h')), 79, 4) << slots << " " << urgent;
    backlog.serve(static_cast<size_t>(slots));
    const std::string after = backlog.serve(90);
    EXPECT_GE(std::ranges::count(after, 'n'), 76) << slots << " " << after;
    EXPECT_GE(std::ranges::count(after, 'l'), 1) << slots << " " << after;
  }
}

TEST_F(Queueing, PromptsThatWaitForTheirFirstTokenAreBounded) {
  Admission admission({.slots = 100, .max_prompt_tokens = 1000, .spare = 0});
  const uint64_t huge = submit(admission, "a", 5000);  // larger than all, so it goes alone
  submit(admission, "a", 10);
  EXPECT_EQ(decided_, (std::vector<std::string>{"goes", "waits"}));
  admission.first_token(huge, now_);
  admission.first_token(huge, now_);
  EXPECT_EQ(decided_[1], "goes");
  submit(admission, "a", 990);
  submit(admission, "a", 1);
  EXPECT_EQ(decided_[2], "goes");
  EXPECT_EQ(decided_[3], "waits");
}

TEST_F(Queueing, BoundsAreKept) {
  Admission admission({.slots = 1, .max_queued = 4, .max_queued_of_one = 2});
  for (int i = 0; i < 4; ++i)
    submit(admission, "a");
  EXPECT_NE(decided_[3].find("'a'"), std::string::npos) << decided_[3];
  EXPECT_EQ(last_->reason, RefusalReason::queue_full);
  for (int i = 0; i < 3; ++i)
    submit(admission, "b");
  EXPECT_NE(decided_[6].find("'b'"), std::string::npos) << decided_[6];
  submit(admission, "c");
  EXPECT_EQ(admission.state().queued, 4U);
  EXPECT_NE(decided_[7].find("too many requests are waiting"), std::string::npos) << decided_[7];
  EXPECT_GE(last_->retry_after, seconds(1));
}

TEST_F(Queueing, ItsBoundsMayChange) {
  Admission admission({.slots = 1, .max_queued = 1, .longest_wait = minutes(1)});
  submit(admission, "a");
  submit(admission, "a");
  submit(admission, "a");
  EXPECT_EQ(decided_[2].substr(0, 3), "too");
  admission.set_queue(2, seconds(1));
  submit(admission, "a");
  EXPECT_EQ(decided_[3], "waits");
  now_ += seconds(2);
  admission.expire(now_);
  EXPECT_EQ(decided_[1], "waits") << "it was given a minute";
  EXPECT_NE(decided_[3], "waits");
}

TEST_F(Queueing, WhoWaitedForTheLongestTimeIsTold) {
  Admission admission({.slots = 1, .longest_wait = seconds(2)});
  submit(admission, "a");
  submit(admission, "a");
  now_ += seconds(1);
  submit(admission, "b");
  admission.expire(now_);
  EXPECT_EQ(decided_[1], "waits");
  now_ += seconds(1);
  admission.expire(now_);
  EXPECT_EQ(last_->reason, RefusalReason::waited_too_long);
  EXPECT_NE(decided_[1], "waits");
  EXPECT_EQ(decided_[2], "waits");
  EXPECT_EQ(admission.state().queued, 1U);
}

// One slot, each request of 100 tokens takes a second: 100 tokens per second drain.
TEST_F(Queueing, TheTimeToRetryComesFromTheRateOfDraining) {
  Admission admission({.slots = 1, .longest_wait = seconds(5)});
  std::vector<uint64_t> ids;
  size_t next = 0;
  for (int second = 0; second < 60; ++second) {
    for (int i = 0; i < 3; ++i)
      ids.push_back(submit(admission, "a"));
    now_ += seconds(1);
    while (decided_[next] != "goes")
      ++next;
    admission.finish(ids[next++], 100, now_);
  }
  EXPECT_NEAR(*admission.state().tokens_per_second, 100, 5);
  EXPECT_LE(admission.state().queued_tokens, 400);
  EXPECT_GE(admission.state().queued_tokens, 100);
  submit(admission, "a", 300);
  submit(admission, "a", 100);
  ASSERT_NE(decided_.back(), "waits");
  const double ahead = admission.state().queued_tokens / 100;
  EXPECT_NEAR(base::seconds(*last_->retry_after), std::max(ahead - 5.0 / 3, 1.0), 1);
}

TEST_F(Queueing, ThreadsMayShareIt) {
  Admission admission({.slots = 4, .max_queued = 100'000, .max_queued_of_one = 100'000});
  std::atomic<int> gone = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        const uint64_t id = admission.submit({std::to_string(t), 1, Priority::normal, 10, 10}, now_,
                                             [&](std::optional<Refusal> refusal) { gone += refusal ? 0 : 1; });
        admission.first_token(id, now_);
        admission.finish(id, 20, now_);
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(admission.state().running, 0U);
  EXPECT_EQ(admission.state().queued, 0U);
  EXPECT_GT(gone, 0);
}

// Eight tenants that use 70 % of 64 slots; then one of them sends eight times as many requests, with prompts twenty
// times as long.
std::vector<SimulatedTenant> neighbours(bool flood, const std::string& account = "") {
  std::vector<SimulatedTenant> tenants;
  for (int i = 0; i < 8; ++i) {
    SimulatedTenant tenant{.name = "tenant-" + std::to_string(i), .per_second = 2.55, .account = account};
    if (i == 7 && flood) {
      tenant.per_second *= 8;
      tenant.prompt_tokens *= 20;
    }
    tenants.push_back(std::move(tenant));
  }
  return tenants;
}

TEST(Fairness, AFloodOfLongPromptsDoesNotMoveAnothersTtft) {
  const AdmissionOptions options{.slots = 64};
  auto calm = SimulatedService(options, {}, neighbours(false)).run(minutes(10));
  auto flooded = SimulatedService(options, {}, neighbours(true)).run(minutes(10));
  auto unfair = SimulatedService(options, {}, neighbours(true, "everybody")).run(minutes(10));
  for (int i = 0; i < 7; ++i) {
    const std::string name = "tenant-" + std::to_string(i);
    const double before = calm[name].percentile(0.99);
    const double after = flooded[name].percentile(0.99);
    RecordProperty(name, std::to_string(before) + " s, flooded " + std::to_string(after) + " s, in one queue " +
                             std::to_string(unfair[name].percentile(0.99)) + " s");
    ASSERT_GT(calm[name].ttft.size(), 1000U);
    EXPECT_LT(after, before * 1.2) << name;
    EXPECT_LT(flooded[name].refused_at_once + flooded[name].refused_later, flooded[name].offered / 100) << name;
    EXPECT_GT(unfair[name].refused_at_once + unfair[name].refused_later, unfair[name].offered / 4) << name;
  }
  // And the flood still gets what the others leave.
  EXPECT_GT(flooded["tenant-7"].tokens, calm["tenant-7"].tokens * 5);
}

TEST(Fairness, ThroughputFollowsTheWeights) {
  std::vector<SimulatedTenant> tenants;
  for (const double weight : {1.0, 2.0, 4.0})
    tenants.push_back({.name = std::to_string(static_cast<int>(weight)), .per_second = 40, .weight = weight});
  auto served = SimulatedService({.slots = 64, .longest_wait = seconds(60)}, {}, tenants).run(minutes(10));
  EXPECT_NEAR(served["2"].tokens / served["1"].tokens, 2, 0.2);
  EXPECT_NEAR(served["4"].tokens / served["1"].tokens, 4, 0.4);
}

std::map<std::string, test::TenantOutcome> at_load(double load, base::Duration longest_wait) {
  constexpr double capacity = 64 / (800.0 / 4000 + 100.0 / 50);  // requests a second
  std::vector<SimulatedTenant> tenants;
  for (int i = 0; i < 4; ++i)
    tenants.push_back({.name = std::to_string(i), .per_second = capacity * load / 4});
  return SimulatedService({.slots = 64, .longest_wait = longest_wait}, {}, tenants).run(minutes(10));
}

struct Sum {
  double tokens = 0;
  uint64_t offered = 0, at_once = 0, later = 0, without_retry = 0;
  test::TenantOutcome all;
};

Sum sum(const std::map<std::string, test::TenantOutcome>& outcomes) {
  Sum sum;
  for (const auto& [name, outcome] : outcomes) {
    sum.tokens += outcome.tokens;
    sum.offered += outcome.offered;
    sum.at_once += outcome.refused_at_once;
    sum.later += outcome.refused_later;
    sum.without_retry += outcome.without_retry;
    sum.all.ttft.insert(sum.all.ttft.end(), outcome.ttft.begin(), outcome.ttft.end());
  }
  return sum;
}

TEST(Overload, AtTwiceCapacityGoodputAndLatencyHold) {
  const Sum busy = sum(at_load(0.9, milliseconds(400)));
  const Sum twice = sum(at_load(2, milliseconds(400)));
  // What 64 slots do when they are never empty: every second a request of the mean length in 2.2.
  const double capacity = 64 / (800.0 / 4000 + 100.0 / 50) * 900 * 600;
  RecordProperty("goodput_of_capacity", std::to_string(twice.tokens / capacity));
  RecordProperty("ttft_p99_busy", std::to_string(busy.all.percentile(0.99)));
  RecordProperty("ttft_p99_twice", std::to_string(twice.all.percentile(0.99)));
  RecordProperty("refused_at_once", std::to_string(twice.at_once));
  RecordProperty("refused_later", std::to_string(twice.later));
  EXPECT_GT(twice.tokens, capacity * 0.9);
  EXPECT_LT(twice.all.percentile(0.99), busy.all.percentile(0.99) * 1.25);
  EXPECT_GT(twice.at_once, twice.offered / 3);
  EXPECT_LT(twice.later, twice.at_once / 4);  // most refusals are early
  EXPECT_EQ(twice.without_retry, 0U);
}

}  // namespace
}  // namespace tidemill::access
