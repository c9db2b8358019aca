// Hundreds of requests of every kind from several threads at an engine with far too few blocks; each answer must be the
// reference's, and the books must balance.
#include <algorithm>
#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "engine/rig.hpp"
#include "engine/scripted_proposer.hpp"

namespace tidemill::engine {
namespace {

using test::prompt_of;
using test::request_of;
using test::Rig;

Request random_request(std::mt19937& random) {
  const auto chance = [&](unsigned in) { return random() % in == 0; };
  // Few distinct prefixes, so that they are found again.
  Request request = request_of(prompt_of(1 + static_cast<int64_t>(random() % 90), static_cast<int>(random() % 3)),
                               static_cast<int>(random() % 30), random());
  for (size_t i = 0; i < random() % 4; ++i)
    request.prompt.push_back(static_cast<Token>(3 + random() % 50));
  request.priority = static_cast<int>(random() % 4) - 1;
  request.tenant = chance(3) ? "a" : chance(2) ? "b" : "";
  request.ignore_eos = chance(2);
  if (chance(4)) request.sampling.temperature = 0;
  if (chance(4)) request.sampling.top_k = static_cast<int>(1 + random() % 20);
  if (chance(4)) request.sampling.top_p = 0.8f;
  if (chance(4)) request.sampling.min_p = 0.05f;
  if (chance(4)) request.sampling.repetition_penalty = 1.3f;
  if (chance(4)) request.stop = {"ab", "q", "z "};
  if (chance(3)) request.logprobs = true;
  if (request.logprobs) request.top_logprobs = static_cast<int>(random() % 4);
  if (chance(5)) request.echo = true;
  if (chance(5)) request.n = static_cast<int>(1 + random() % 4);
  if (chance(8)) {
    request.kind = Request::Kind::embed;
    request.n = 1;
    request.logprobs = request.echo = false;
    request.top_logprobs = 0;
    request.max_tokens = 0;
    request.stop.clear();
  }
  return request;
}

// Some of what the request will answer, as if it had been generated elsewhere.
void resume_some(Rig& rig, std::mt19937& random, Request& request) {
  if (request.kind == Request::Kind::embed) return;
  for (int c = 0; c < request.n; ++c) {
    const auto answer = rig.expected(request, c);
    const size_t generated = answer.tokens.size() - static_cast<size_t>(answer.echoed);
    const auto begin = answer.tokens.begin() + answer.echoed;
    request.resumed.emplace_back(begin, begin + static_cast<int64_t>(random() % (generated + 1)));
  }
}

// A client: a few streams at a time, some dropped, some cancelled after a while, the others read and compared.
// With `known`, what the answers will be is said before the requests are made.
void be_a_client(Rig& rig, unsigned seed, int requests, std::atomic<int>& compared,
                 test::KnownSequences* known = nullptr) {
  std::mt19937 random(seed);
  struct Open {
    Request request;
    std::shared_ptr<Stream> stream;
  };
  std::vector<Open> open;
  const auto finish_one = [&] {
    const size_t which = random() % open.size();
    Open one = std::move(open[which]);
    open.erase(open.begin() + static_cast<int64_t>(which));
    if (random() % 8 == 0) return;  // dropped
    if (random() % 8 == 0) {
      for (size_t i = 0; i < random() % 5; ++i)
        one.stream->next();
      one.stream->cancel();
      while (one.stream->next()) {
      }
      return;
    }
    const auto collected = test::collect(*one.stream, one.request.n);
    EXPECT_FALSE(collected.error);
    for (int c = 0; c < one.request.n; ++c) {
      test::expect_same(collected.choices[static_cast<size_t>(c)], rig.expected(one.request, c),
                        "client " + std::to_string(seed) + ", choice " + std::to_string(c));
    }
    ++compared;
  };
  for (int i = 0; i < requests; ++i) {
    Request request = random_request(random);
    if (random() % 4 == 0) resume_some(rig, random, request);
    for (int c = 0; known != nullptr && c < request.n; ++c) {
      const auto answer = rig.expected(request, c);
      auto tokens = request.prompt;
      tokens.insert(tokens.end(), answer.tokens.begin() + answer.echoed, answer.tokens.end());
      known->add(std::move(tokens));
    }
    auto stream = rig.engine->submit(request);
    if (!stream) {
      EXPECT_EQ(stream.error().code(), base::ErrorCode::exhausted) << stream.error().to_string();
      if (!open.empty()) finish_one();
      continue;
    }
    open.push_back({std::move(request), std::move(*stream)});
    if (open.size() > 12) finish_one();
    if (i % 50 == 0) {
      EXPECT_TRUE(rig.checked());
    }
  }
  while (!open.empty())
    finish_one();
}

void stress(Rig& rig, int clients, int requests, test::KnownSequences* known = nullptr) {
  rig.start();
  std::atomic<int> compared = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < clients; ++i) {
    threads.emplace_back([&, i] { be_a_client(rig, static_cast<unsigned>(i + 1), requests, compared, known); });
  }
  for (auto& thread : threads)
    thread.join();
  EXPECT_GT(compared, clients * requests / 2);
  EXPECT_TRUE(rig.checked());
  // Dropped streams end at the engine's next look into the mailbox, of which the audit above was one.
  EXPECT_TRUE(rig.engine->idle());
  const EngineStats stats = rig.engine->stats();
  EXPECT_EQ(stats.kv_blocks_free + stats.kv_blocks_cached, stats.kv_blocks);
}

TEST(Stress, TinyPool) {
  Rig rig(Rig::with_blocks(14, {.step_tokens = 48, .max_running = 12}), 200);
  stress(rig, 3, 120);
  EXPECT_GT(rig.engine->stats().preemptions, 0u);  // how many is a matter of how threads take turns
  EXPECT_GT(rig.engine->stats().prefix_hits, 100u);
}

TEST(Stress, TinyPoolWithoutPrefixCache) {
  Rig rig(Rig::with_blocks(14, {.step_tokens = 32, .max_running = 8, .prefix_cache = false}), 200);
  stress(rig, 2, 120);
}

TEST(Stress, SlowReaders) {
  Rig rig(Rig::with_blocks(14, {.step_tokens = 48, .max_running = 12, .max_unread_bytes = 1500}), 200);
  stress(rig, 3, 120);
  EXPECT_NE(rig.metrics.render().find("tidemill_rests_total"), std::string::npos);
  EXPECT_EQ(rig.metrics.render().find("tidemill_rests_total 0"), std::string::npos);
}

TEST(Stress, AmplePool) {
  Rig rig(Rig::with_blocks(400, {.step_tokens = 256, .max_running = 32}), 200);
  stress(rig, 3, 120);
}

TEST(Stress, SpeculatingInATinyPool) {
  for (const bool cache : {true, false}) {
    test::KnownSequences known;
    EngineOptions options = Rig::with_blocks(20, {.step_tokens = 48, .max_running = 12, .prefix_cache = cache});
    options.speculation.adaptive = false;
    options.speculation.make_proposer = test::scripted(known, [](int64_t position) { return position % 5 == 0; });
    Rig rig(options, 200);
    stress(rig, 3, 120, &known);
    EXPECT_GT(rig.engine->stats().preemptions, 0u);  // how many is a matter of how threads take turns
    EXPECT_GT(rig.engine->stats().accepted_tokens, 1000u);
  }
}

TEST(Stress, ShortQueue) {
  Rig rig(Rig::with_blocks(20, {.step_tokens = 16, .max_running = 4, .max_waiting = 6}), 200);
  rig.start();
  std::atomic<int> compared = 0;
  std::thread one([&] { be_a_client(rig, 11, 100, compared); });
  std::thread two([&] { be_a_client(rig, 12, 100, compared); });
  one.join();
  two.join();
  EXPECT_GT(compared, 20);
}

}  // namespace
}  // namespace tidemill::engine
