// What the choice of models reaches on a workload whose best models are known, how often offline estimates hold the
// truth, and what a decision, a lesson and an observation of a canary cost.
//
//   bench_model_choice [seeds]
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "rollout/agreement.hpp"
#include "rollout/canary.hpp"
#include "rollout/model_workload.hpp"
#include "rollout/offline.hpp"
#include "rollout/simulated_rollout.hpp"

using namespace tidemill::rollout;  // NOLINT(google-build-using-namespace)
namespace base = tidemill::base;

namespace {

void print_spread(const char* name, const std::vector<double>& values) {
  std::printf("  %-58s %8.4f %8.4f %8.4f\n", name, simulation::quantile(values, 0), simulation::quantile(values, 0.5),
              simulation::quantile(values, 1));
}

void learn(const char* name, const BanditOptions& options, uint64_t seeds, double rated) {
  std::vector<double> learning;
  std::vector<double> reward;
  std::vector<double> big;
  std::vector<double> cost;
  std::vector<double> loss;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    const auto first = simulation::run_bandit(options, seed, 5'000, 0, rated);
    const auto run = simulation::run_bandit(options, seed, 10'000, 5'000, rated);
    learning.push_back(first.reward / first.oracle);
    reward.push_back(run.reward / run.oracle);
    big.push_back(run.always_big / run.oracle);
    cost.push_back(run.cost / run.big_cost);
    loss.push_back(run.big_quality - run.quality);
  }
  std::printf("%s, %d seeds, %.0f %% of answers rated good or bad%*sleast   median     most\n", name,
              static_cast<int>(seeds), rated * 100, 6, "");
  print_spread("reward / oracle's, requests 1 to 5,000", learning);
  print_spread("reward / oracle's, requests 5,001 to 10,000", reward);
  print_spread("always the big model's reward / oracle's", big);
  print_spread("cost / always the big model's, 5,001 to 10,000", cost);
  print_spread("quality lost against the big model, 5,001 to 10,000", loss);
}

template <typename Call>
double microseconds(int calls, const Call& call) {
  std::vector<double> rounds;
  for (int round = 0; round < 9; ++round) {
    const auto begin = base::SystemClock::instance().now();
    for (int i = 0; i < calls; ++i)
      call(i);
    rounds.push_back(base::seconds(base::SystemClock::instance().now() - begin) * 1e6 / calls);
  }
  return simulation::quantile(rounds, 0.5);
}

void time_bandit() {
  const auto bandit = Bandit::create(simulation::workload_options()).value();
  simulation::ModelWorkload workload(1);
  std::vector<simulation::ModelRequest> requests;
  requests.reserve(1'000);
  for (int i = 0; i < 1'000; ++i)
    requests.push_back(workload.next());
  const auto at = [&](int i) -> const simulation::ModelRequest& { return requests[static_cast<size_t>(i)]; };
  std::printf("microseconds on one core\n");
  std::printf("  a lesson about quality                %6.2f\n",
              microseconds(1'000, [&](int i) { bandit->learn_quality(at(i).features, 0, i % 2); }));
  std::printf("  a decision among three models         %6.2f\n",
              microseconds(1'000, [&](int i) { (void)bandit->decide(at(i).features, 0.5); }));
  std::string text;
  while (text.size() < 8192)
    text += "What does this function do, and why?\n  return tide * 2;\n";
  std::printf("  the traits of 8 KiB of text           %6.2f\n",
              microseconds(100, [&](int) { (void)read_text(text); }));
  std::string other = text;
  other.replace(4000, 40, "something else is written here");
  std::printf("  the agreement of two texts of 8 KiB   %6.2f\n",
              microseconds(20, [&](int) { (void)compare_texts(text, other); }));
}

void time_canary() {
  CanaryOptions options;
  options.name = "timed";
  for (const double share : {0.01, 0.25, 0.5}) {
    options.steps = {{.share = share, .min_requests = int64_t{1} << 40}};
    const auto canary = Canary::create(options, {}).value();
    std::vector<Assignment> assignments(10'000);
    const double choose = microseconds(10'000, [&](int i) {
      assignments[static_cast<size_t>(i)] =
          canary->assign(std::string_view(reinterpret_cast<const char*>(&i), sizeof i));
    });
    std::vector<double> each;
    for (int i = 0; i < 10'000; ++i) {
      const Observation o = {.ttft = 0.1 + i * 37 % 101 * 0.01,
                             .itl = 0.01 + i * 53 % 89 * 0.001,
                             .output_tokens = 20.0 + i * 71 % 97,
                             .seconds = 1,
                             .prompt_tokens = 100.0 + i % 50};
      const auto begin = base::SystemClock::instance().now();
      canary->observe(assignments[static_cast<size_t>(i)], o, base::SteadyTime(std::chrono::milliseconds(i)));
      each.push_back(base::seconds(base::SystemClock::instance().now() - begin) * 1e6);
    }
    double sum = 0;
    for (const double one : each)
      sum += one;
    std::printf("  a canary of %2.0f %%: assign %.3f; observe, mean %.2f, median %.2f, 99 %% %.2f\n", share * 100,
                choose, sum / 10'000, simulation::quantile(each, 0.5), simulation::quantile(each, 0.99));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto seeds = static_cast<uint64_t>(argc > 1 ? std::max(1, std::atoi(argv[1])) : 20);
  BanditOptions options = simulation::workload_options();
  learn("Thompson sampling", options, seeds, 0.3);
  options.method = Method::lin_ucb;
  learn("LinUCB", options, seeds, 0.3);
  options.method = Method::thompson;
  options.trade.cost_weight = 0.04;
  learn("Thompson sampling, quality first (cost_weight 0.04)", options, seeds, 0.3);
  learn("Thompson sampling, quality first (cost_weight 0.04)", options, seeds, 1);
  options.max_average_loss = 0.02;
  learn("the same with max_average_loss 0.02", options, seeds, 0.3);
  learn("the same with max_average_loss 0.02", options, seeds, 1);
  options.max_average_loss = 1;
  options.trade = simulation::workload_options().trade;
  options.max_quality_loss = 0.1;
  options.confidence = 1.28;
  options.explore = 0.1;
  learn("Thompson sampling, with max_quality_loss 0.1 and explore 0.1", options, seeds, 0.5);
  time_bandit();
  time_canary();
  return 0;
}
