// A request's output depends on that request alone, bit for bit. Each test asks the same requests in two ways and wants
// the same tokens, text and log-probabilities; the reference wants them too.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/rig.hpp"

namespace tidemill::engine {
namespace {

using test::prompt_of;
using test::request_of;
using test::Rig;

// Seventeen requests that differ in everything that could leak from one to another.
std::vector<Request> mixed_requests() {
  std::vector<Request> requests;
  for (int i = 0; i < 17; ++i) {
    Request request = request_of(prompt_of(1 + i * 13 % 90, i % 3), 10 + i * 5 % 40, static_cast<uint64_t>(i));
    request.sampling.temperature = static_cast<float>(i % 4) * 0.5f;
    request.sampling.top_k = i % 5 == 0 ? 7 : 0;
    request.sampling.top_p = i % 3 == 0 ? 0.9f : 1.0f;
    request.sampling.frequency_penalty = i % 2 == 0 ? 0.5f : 0.0f;
    request.logprobs = true;
    request.top_logprobs = i % 6;
    request.ignore_eos = i % 4 != 0;
    request.echo = i % 7 == 0;
    if (i % 8 == 0) request.stop = {"ab", "x"};
    request.n = i % 6 == 5 ? 3 : 1;
    requests.push_back(std::move(request));
  }
  return requests;
}

void expect_all(Rig& rig, const std::string& what) {
  rig.start();
  const auto requests = mixed_requests();
  std::vector<std::shared_ptr<Stream>> streams;
  for (const Request& request : requests)
    streams.push_back(rig.submit(request));
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto collected = test::collect(*streams[i], requests[i].n);
    for (int c = 0; c < requests[i].n; ++c) {
      test::expect_same(collected.choices[static_cast<size_t>(c)], rig.expected(requests[i], c),
                        what + ", request " + std::to_string(i) + ", choice " + std::to_string(c));
    }
  }
}

TEST(Determinism, AloneAsInABatchOfSeventeen) {
  Rig alone;
  for (const Request& request : mixed_requests())
    alone.run_checked(request, "alone");
  Rig together;
  expect_all(together, "together");
}

TEST(Determinism, WholeAsChunkedPrefill) {
  for (const int step : {17, 20, 33, 1000}) {
    Rig rig({.step_tokens = step, .max_running = 17});
    expect_all(rig, "steps of " + std::to_string(step));
  }
}

TEST(Determinism, ColdAsCachedPrefix) {
  Rig rig;
  expect_all(rig, "cold");
  const auto before = rig.engine->stats().prefix_hits;
  for (const Request& request : mixed_requests())
    rig.run_checked(request, "cached");
  EXPECT_GT(rig.engine->stats().prefix_hits, before + 100);
  Rig without({.prefix_cache = false});
  expect_all(without, "without a cache");
  EXPECT_EQ(without.engine->stats().prefix_hits, 0u);
}

TEST(Determinism, PreemptedAsUndisturbed) {
  for (const bool cache : {true, false}) {
    Rig rig(Rig::with_blocks(12, {.step_tokens = 40, .max_running = 40, .prefix_cache = cache}), 160);
    expect_all(rig, "twelve blocks");
    EXPECT_GT(rig.engine->stats().preemptions, 0u);
  }
}

// The streams are read one after the other, and what is not read rests after each token.
TEST(Determinism, ReadSlowlyAsReadAtOnce) {
  for (const bool cache : {true, false}) {
    Rig rig(Rig::with_blocks(12, {.step_tokens = 40, .max_running = 40, .prefix_cache = cache, .max_unread_bytes = 1}),
            160);
    expect_all(rig, "read slowly");
    if (!cache) {
      EXPECT_GT(rig.engine->stats().preemptions, 0u);
    }
  }
  Rig ample({.max_unread_bytes = 1});
  expect_all(ample, "read slowly, with room for all");
}

TEST(Determinism, OneAtATime) {
  Rig rig({.step_tokens = 1, .max_running = 1});
  expect_all(rig, "one token a step");
}

}  // namespace
}  // namespace tidemill::engine
