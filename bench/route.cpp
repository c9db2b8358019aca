// How well requests are spread over backends: prefix hits, balance and time to first token on recorded traces, replayed
// on simulated backends in simulated time, beside what other routers do.
//
//   bench_route [folder of traces [scenario or option=value...]]     ../shared/data/traces; all scenarios
//
// Options are Tidemill's own (balance=0.3), to see what they do; with any of them the others' ways are left out.
// Everything is simulated, so the numbers are the same on every machine; only the last, the time that a choice takes,
// is this machine's.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "best_seconds.hpp"
#include "replay/replay.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)

namespace {

struct Scenario {
  std::string name;
  std::string what;
  replay::Fleet fleet;
  replay::Options options;
  bool agentic = false;
  std::string trace;  // of Mooncake
};

replay::Fleet fleet(size_t count, double speed, int64_t cache_tokens) {
  replay::Fleet all;
  all.hardware.assign(count, {.prefill_tokens_per_second = speed, .cache_tokens = cache_tokens});
  return all;
}

std::vector<Scenario> scenarios() {
  std::vector<Scenario> all;
  const int64_t unlimited = 200'000'000;
  for (const auto& [trace, speed] : {std::pair{"conversation", 6000.0}, std::pair{"synthetic", 5000.0}}) {
    for (const int64_t cache : {int64_t{1'000'000}, int64_t{4'000'000}, int64_t{12'000'000}, unlimited}) {
      all.push_back(
          {.name = std::string(trace) + (cache == unlimited ? "" : "-" + std::to_string(cache / 1'000'000) + "M"),
           .what = "8 equal backends",
           .fleet = fleet(8, speed, cache),
           .options = {},
           .agentic = false,
           .trace = trace});
    }
  }
  for (const int64_t cache : {int64_t{1'000'000}, int64_t{3'000'000}, unlimited}) {
    all.push_back(
        {.name = std::string("agentic") + (cache == unlimited ? "" : "-" + std::to_string(cache / 1'000'000) + "M"),
         .what = "8 equal backends",
         .fleet = fleet(8, 4000, cache),
         .options = {},
         .agentic = true,
         .trace = {}});
  }
  for (const char* base : {"conversation-12M", "agentic-3M"}) {
    const auto found = std::ranges::find(all, base, &Scenario::name);
    Scenario mixed = *found;
    mixed.name = mixed.trace.empty() ? "agentic-mixed" : "conversation-mixed";
    mixed.what = "of 8 backends one is half as fast";
    mixed.fleet.hardware[2].prefill_tokens_per_second /= 2;
    Scenario restart = *found;
    restart.name = restart.trace.empty() ? "agentic-restart" : "conversation-restart";
    restart.what = "of 8 backends one is away from 1500 s to 1560 s and comes back cold";
    restart.options.restarts = {{.backend = 5, .down_at = 1500, .up_at = 1560}};
    all.push_back(mixed);
    all.push_back(restart);
  }
  return all;
}

// Takes "name=value"; false if it is no such thing.
bool set_option(const std::string& argument, route::RouterOptions& options) {
  const size_t equals = argument.find('=');
  if (equals == std::string::npos) return false;
  const std::string name = argument.substr(0, equals);
  const double value = std::strtod(argument.c_str() + equals + 1, nullptr);
  const std::array<std::pair<const char*, double*>, 10> known = {
      {{"balance", &options.choice.balance},
       {"others", &options.choice.others},
       {"work", &options.choice.work},
       {"slack_seconds", &options.choice.slack_seconds},
       {"slack_share", &options.choice.slack_share},
       {"session_belief", &options.choice.session_belief},
       {"memory_seconds", &options.load.memory_seconds},
       {"decode_weight", &options.load.decode_weight},
       {"tokens_per_second", &options.load.tokens_per_second},
       {"least_ramp", &options.health.least_ramp}}};
  for (const auto& [known_name, place] : known) {
    if (name == known_name) *place = value;
  }
  return true;
}

using MakePolicy = std::unique_ptr<replay::Policy> (*)(const replay::Fleet&);

void run(const Scenario& scenario, const replay::Trace& trace, const route::RouterOptions& options, bool alone) {
  replay::Fleet fleet = scenario.fleet;
  fleet.block_tokens = trace.block_tokens;
  int64_t together = 0;
  for (const replay::Hardware& hardware : fleet.hardware)
    together += hardware.cache_tokens;
  int64_t tokens = 0;
  for (const replay::Request& request : trace.requests)
    tokens += request.prompt_tokens;
  const auto share = [&](int64_t hits) { return 100 * static_cast<double>(hits) / static_cast<double>(tokens); };
  const int64_t unlimited = replay::single_cache_hits(trace, 0);
  const int64_t limited = replay::single_cache_hits(trace, together);
  std::printf("\n%s: %s, %zu requests, %.1f M prompt tokens; %s, %.0f tokens/s, caches of %.1f M tokens\n",
              scenario.name.c_str(), trace.name.c_str(), trace.requests.size(), static_cast<double>(tokens) / 1e6,
              scenario.what.c_str(), fleet.hardware[0].prefill_tokens_per_second,
              static_cast<double>(fleet.hardware[0].cache_tokens) / 1e6);
  std::printf("one cache without limit: %.2f %% of prompt tokens hit; one cache of the backends' total: %.2f %%\n",
              share(unlimited), share(limited));
  std::printf(
      "| policy | hits, %% | of unlimited, %% | of one cache, %% | imbalance | 95th | of 5 windows | of all | of open "
      "| busy, %% | TTFT "
      "mean, s "
      "| p50 | p99 |\n");
  std::printf("|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
  constexpr std::array<MakePolicy, 8> kOthers = {
      replay::round_robin,     replay::least_loaded, replay::consistent_hashing, replay::cache_aware,
      replay::weighted_scores, replay::block_costs,  replay::least_ttft,         replay::least_work};
  // One cache for all is out of place where a backend loses its own.
  const size_t others = alone ? 0 : kOthers.size() - (scenario.options.restarts.empty() ? 0 : 1);
  for (size_t i = 0; i <= others; ++i) {
    fleet.one_cache = i == kOthers.size();
    const auto policy = i == 0 ? replay::tidemill_policy(fleet, options) : kOthers[i - 1](fleet);
    const replay::Report report = replay::replay(trace, fleet, *policy, scenario.options);
    std::printf("| %s | %.2f | %.1f | %.1f | %.3f | %.2f | %.2f | %.3f | %.2f | %.0f | %.2f | %.2f | %.1f |\n",
                policy->name().data(), 100 * report.hit_share(),
                100 * static_cast<double>(report.hit_tokens) / static_cast<double>(unlimited),
                100 * static_cast<double>(report.hit_tokens) / static_cast<double>(limited), report.imbalance,
                report.imbalance_p95, report.imbalance_of_five, report.imbalance_of_all, report.imbalance_of_open,
                100 * report.utilisation, report.ttft_mean, report.ttft_p50, report.ttft_p99);
    std::fflush(stdout);
  }
}

// A router that knows `backends` and is full of conversations of `blocks` blocks: what one choice takes.
void time_choices(size_t backends, size_t blocks) {
  route::Router router;
  std::vector<route::Endpoint> endpoints;
  for (size_t i = 0; i < backends; ++i)
    endpoints.push_back({.address = "10.0.0." + std::to_string(i) + ":8000"});
  const base::SteadyTime now(std::chrono::seconds(1));
  router.set_backends(endpoints, now);
  for (const route::Endpoint& endpoint : endpoints) {
    router.report(endpoint.address, {.kv_capacity_tokens = 2'000'000}, now);
  }
  std::vector<std::vector<route::BlockHash>> prompts(500);
  for (size_t i = 0; i < prompts.size(); ++i) {
    for (size_t j = 0; j < blocks; ++j) {
      // A tenth is common to all.
      prompts[i].push_back(route::spread_score(j, j < blocks / 10 ? 1 : 2 + i));
    }
  }
  const auto one = [&](int64_t i) {
    std::vector<route::BlockHash>& prompt = prompts[static_cast<size_t>(i) % prompts.size()];
    const auto routed = router.route({.blocks = prompt, .prompt_bytes = prompt.size() * route::kBlockBytes}, now);
    router.first_token(routed->ticket, now);
    router.finish(routed->ticket, {.prompt_tokens = routed->prompt_tokens, .output_tokens = 100}, now);
  };
  for (int64_t i = 0; i < 2000; ++i)
    one(i);
  const double best = bench::best_seconds(20, [&](int64_t repeat) {
    for (int64_t i = 0; i < 500; ++i)
      one(repeat * 500 + i);
  });
  std::printf("%3zu backends, prompts of %5zu blocks: %.2f us a request (route, first token and finish)\n", backends,
              blocks, best / 500 * 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  const std::filesystem::path folder = argc > 1 ? argv[1] : "../shared/data/traces";
  std::vector<std::string> wanted(argv + std::min(argc, 2), argv + argc);
  route::RouterOptions options;
  const bool alone =
      std::erase_if(wanted, [&](const std::string& argument) { return set_option(argument, options); }) > 0;
  for (const Scenario& scenario : scenarios()) {
    if (!wanted.empty() && std::ranges::find(wanted, scenario.name) == wanted.end()) continue;
    const auto trace = scenario.agentic
                           ? replay::load_agentic(folder / "agentic", {})
                           : replay::load_mooncake(folder / "mooncake" / (scenario.trace + "_trace.jsonl"), 1e9);
    if (!trace) {
      std::fprintf(stderr, "bench_route: %s\n", trace.error().to_string().c_str());
      return 1;
    }
    run(scenario, *trace, options, alone);
  }
  if (!wanted.empty() && std::ranges::find(wanted, "time") == wanted.end()) return 0;
  std::printf("\n");
  for (const size_t backends : {size_t{8}, size_t{64}}) {
    for (const size_t blocks : {size_t{100}, size_t{4000}})
      time_choices(backends, blocks);
  }
  return 0;
}
