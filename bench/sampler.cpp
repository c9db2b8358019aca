// What choosing one token costs at a vocabulary of 128,256, setting by setting.
//
//   bench_sampler [vocabulary]
//
// Two kinds of logits: spread as a language model's are (a few likely tokens over a wide normal bulk) and nearly flat,
// where truncation leaves the most to sort. Medians of many calls on one core.
#include "engine/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <span>
#include <vector>

#include "base/clock.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)

namespace {

constexpr double kStepSeconds = 0.024;  // of decoding one stream of a model of 1 B parameters in Q4_0
constexpr int kCalls = 101;

struct Setting {
  const char* name;
  engine::Sampling sampling;
};

std::vector<Setting> settings() {
  std::vector<Setting> all;
  const auto add = [&](const char* name, auto change) {
    engine::Sampling sampling;
    change(sampling);
    all.push_back({name, sampling});
  };
  add("greedy", [](auto& s) { s.temperature = 0; });
  add("temperature 0.7", [](auto& s) { s.temperature = 0.7F; });
  add("top-k 40", [](auto& s) { s.top_k = 40; });
  add("top-p 0.95", [](auto& s) { s.top_p = 0.95F; });
  add("min-p 0.05", [](auto& s) { s.min_p = 0.05F; });
  add("0.7, top-k 40, top-p 0.95, min-p 0.05", [](auto& s) {
    s.temperature = 0.7F;
    s.top_k = 40;
    s.top_p = 0.95F;
    s.min_p = 0.05F;
  });
  add("penalties over 4,096 tokens, greedy", [](auto& s) {
    s.temperature = 0;
    s.repetition_penalty = 1.1F;
    s.frequency_penalty = 0.1F;
  });
  return all;
}

std::vector<float> language_like(size_t vocabulary) {
  std::mt19937 random(1);
  std::normal_distribution<float> bulk(0, 2.5F);
  std::vector<float> logits(vocabulary);
  for (float& logit : logits)
    logit = bulk(random);
  for (int i = 0; i < 200; ++i)  // ranks fall off as 1 / rank
    logits[random() % vocabulary] = 18 - 1.1F * std::log(static_cast<float>(i + 1));
  return logits;
}

std::vector<float> flat(size_t vocabulary) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  std::vector<float> logits(vocabulary);
  for (float& logit : logits)
    logit = normal(random);
  return logits;
}

template <typename Work>
double median_seconds(const Work& work) {
  std::vector<double> times;
  for (int i = 0; i < kCalls; ++i) {
    const base::SteadyTime start = base::SystemClock::instance().now();
    work(i);
    times.push_back(base::seconds(base::SystemClock::instance().now() - start));
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const long vocabulary = argc > 1 ? std::atol(argv[1]) : 128256;
  if (vocabulary < 1 || vocabulary > 1 << 24) {
    std::fprintf(stderr, "usage: bench_sampler [vocabulary 1 .. 16777216]\n");
    return 2;
  }
  const auto size = static_cast<size_t>(vocabulary);
  const std::vector<float> rows[] = {language_like(size), flat(size)};
  std::mt19937 random(3);
  std::vector<engine::Token> prompt(4096);
  for (auto& token : prompt)
    token = static_cast<engine::Token>(random() % size);
  engine::TokenHistory history(prompt);
  for (size_t i = 0; i < 512; ++i)
    history.add_generated(prompt[i]);

  std::printf("%ld logits, one core, medians of %d calls; share of a step of %.0f ms\n", vocabulary, kCalls,
              1e3 * kStepSeconds);
  std::printf("%-40s %22s %22s\n", "", "like a language model", "nearly flat");
  engine::Sampler sampler;
  int64_t chosen = 0;  // keeps the work from being optimised away
  for (const Setting& setting : settings()) {
    std::printf("%-40s", setting.name);
    for (const std::vector<float>& logits : rows) {
      const double seconds = median_seconds(
          [&](int i) { chosen += sampler.sample(logits, setting.sampling, history, (i + 0.5) / kCalls).value_or(-1); });
      std::printf(" %10.0f us (%4.2f %%)", 1e6 * seconds, 100 * seconds / kStepSeconds);
    }
    std::printf("\n");
  }
  std::printf("%-40s", "log-probabilities, 20");
  for (const std::vector<float>& logits : rows) {
    const double seconds =
        median_seconds([&](int) { chosen += engine::log_probabilities(logits, 0, 20)->top[0].first; });
    std::printf(" %10.0f us (%4.2f %%)", 1e6 * seconds, 100 * seconds / kStepSeconds);
  }
  std::printf("\n");
  return chosen == -1 ? 1 : 0;
}
