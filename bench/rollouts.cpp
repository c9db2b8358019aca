// The operating characteristics of canaries: how often a rollout ends wrongly, and after how many requests it ends,
// over many simulated rollouts.
//
//   bench_rollouts [rollouts [most requests of one [a part of the cases' names]]]
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "rollout/simulated_rollout.hpp"

using namespace tidemill::rollout;  // NOLINT(google-build-using-namespace)

namespace {

struct Case {
  const char* name;
  simulation::Traffic traffic;
  simulation::Difference difference;
};

void run(const Case& c, int64_t rollouts, int64_t most) {
  CanaryOptions options;
  options.name = c.name;
  options.sticky = c.traffic.sessions;
  int64_t promoted = 0;
  int64_t rolled_back = 0;
  std::array<int64_t, kChecks.size()> reasons{};
  std::vector<double> requests;
  std::vector<double> canary;
  std::vector<double> seconds;
  for (int64_t seed = 1; seed <= rollouts; ++seed) {
    const auto outcome = simulation::simulate(options, c.traffic, c.difference, static_cast<uint64_t>(seed), most);
    promoted += outcome.phase == Phase::promoted ? 1 : 0;
    rolled_back += outcome.phase == Phase::rolled_back ? 1 : 0;
    if (outcome.reason) ++reasons[static_cast<size_t>(*outcome.reason)];
    requests.push_back(static_cast<double>(outcome.requests - c.difference.from));
    canary.push_back(static_cast<double>(outcome.canary_requests));
    seconds.push_back(outcome.seconds - static_cast<double>(c.difference.from) / c.traffic.rate);
  }
  std::printf("%-44s %5ld %5ld %5ld", c.name, static_cast<long>(rolled_back), static_cast<long>(promoted),
              static_cast<long>(rollouts - promoted - rolled_back));
  for (const double q : {0.1, 0.5, 0.9, 0.99})
    std::printf(" %7.0f", simulation::quantile(requests, q));
  std::printf(" %7.0f", simulation::quantile(canary, 0.5));
  for (const double q : {0.5, 0.99})
    std::printf(" %6.1f", simulation::quantile(seconds, q));
  for (const Check check : kChecks) {
    const int64_t count = reasons[static_cast<size_t>(check)];
    if (count > 0) std::printf("  %s %ld", std::string(to_string(check)).c_str(), static_cast<long>(count));
  }
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t rollouts = argc > 1 ? std::atoll(argv[1]) : 1000;
  const int64_t most = argc > 2 ? std::atoll(argv[2]) : 200'000;
  const simulation::Traffic real;
  const simulation::Traffic ideal = {.ideal = true};
  const simulation::Traffic sessions = {.sessions = true};
  std::printf("%ld rollouts each, at 500 requests/s; undecided after %ld requests\n", static_cast<long>(rollouts),
              static_cast<long>(most));
  std::printf("%-44s %5s %5s %5s %39s %7s %s\n", "", "back", "prom.", "open", "requests: 10 %    50 %    90 %    99 %",
              "canary", "s: 50 % 99 %  for");
  for (const Case& c : {Case{"equal", real, {}},
                        {"20 % slower to the first token only", real, {.ttft = 1.2}},
                        {"equal, ideal traffic", ideal, {}},
                        {"4 % slower", real, {.ttft = 1.04, .itl = 1.04}},
                        {"20 % slower", real, {.ttft = 1.2, .itl = 1.2}},
                        {"20 % slower, ideal traffic", ideal, {.ttft = 1.2, .itl = 1.2}},
                        {"20 % slower between tokens only", real, {.itl = 1.2}},
                        {"better: half the ITL, a third less TTFT", real, {.ttft = 0.67, .itl = 0.5}},
                        {"2 % failing", real, {.failing = 0.02}},
                        {"2 % failing, ideal traffic", ideal, {.failing = 0.02}},
                        {"twice as slow", real, {.ttft = 2, .itl = 2}},
                        {"30 % failing", real, {.failing = 0.3}},
                        {"60 % longer output", real, {.length = 1.6}},
                        {"20 % slower from request 10,000 on", real, {.ttft = 1.2, .itl = 1.2, .from = 10'000}},
                        {"equal, sessions", sessions, {}},
                        {"20 % slower, sessions", sessions, {.ttft = 1.2, .itl = 1.2}},
                        {"2 % failing, sessions", sessions, {.failing = 0.02}}})
    if (argc <= 3 || std::string(c.name).find(argv[3]) != std::string::npos) run(c, rollouts, most);
  return 0;
}
