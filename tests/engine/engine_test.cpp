#include "engine/engine.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "engine/rig.hpp"
#include "observe/semantic_conventions.hpp"

namespace tidemill::engine {
namespace {

using test::Gate;
using test::prompt_of;
using test::request_of;
using test::Rig;

TEST(Engine, AnswersLikeTheReference) {
  Rig rig;
  const auto collected = rig.run_checked(request_of(prompt_of(20), 30));
  ASSERT_TRUE(collected.usage);
  EXPECT_EQ(collected.usage->prompt_tokens, 20);
  EXPECT_EQ(collected.usage->completion_tokens, 30);
  EXPECT_EQ(collected.usage->cached_tokens, 0);
  EXPECT_TRUE(rig.engine->idle());
  const EngineStats stats = rig.engine->stats();
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.waiting, 0);
  EXPECT_EQ(stats.prompt_tokens, 20u);
  EXPECT_EQ(stats.generated_tokens, 30u);
  EXPECT_EQ(stats.kv_blocks_free + stats.kv_blocks_cached, stats.kv_blocks);
}

TEST(Engine, PromptsOfEveryRaggedLength) {
  Rig rig;
  for (const int64_t size : {1, 2, 15, 16, 17, 31, 32, 33, 100}) {
    rig.run_checked(request_of(prompt_of(size, static_cast<int>(size)), 20), "prompt of " + std::to_string(size));
  }
}

TEST(Engine, EndsAtEndOfGenerationUnlessToldToIgnoreIt) {
  Rig rig;
  int stopped = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Request request = request_of(prompt_of(5), 60, seed);
    request.ignore_eos = false;
    const auto collected = rig.run_checked(request);
    const auto& choice = collected.choices[0];
    if (choice.finish == FinishReason::stop) {
      ++stopped;
      EXPECT_EQ(choice.tokens.back(), test::kEos);
      EXPECT_EQ(choice.text.find("</s>"), std::string::npos);
    }
  }
  EXPECT_GT(stopped, 0);
}

TEST(Engine, StopTokensAndStopStrings) {
  Rig rig;
  int matched = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Request request = request_of(prompt_of(9), 60, seed);
    request.stop = {"ab", "q", "zqc", "\xc3\xa9", "r "};
    request.stop_tokens = {7};
    const auto collected = rig.run_checked(request);
    matched += !collected.choices[0].matched_stop.empty();
  }
  EXPECT_GT(matched, 20);
}

// Counts a stop string from its second occurrence on.
class SecondTime final : public StopWatch {
 public:
  explicit SecondTime(std::string stop) : stop_(std::move(stop)) {}
  int push(std::string_view text) override {
    text_ += text;
    const size_t first = text_.find(stop_);
    return first != std::string::npos && text_.find(stop_, first + 1) != std::string::npos ? 0 : -1;
  }

 private:
  std::string stop_;
  std::string text_;
};

TEST(Engine, AWatchSaysWhereAStopStringCounts) {
  Rig rig;
  int matched = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Request request = request_of(prompt_of(9), 60, seed);
    const std::string all = rig.run(request).choices[0].text;
    request.stop = {"e"};
    request.stop_watch = [&] { return std::make_unique<SecondTime>("e"); };
    const auto choice = rig.run(request).choices[0];
    const size_t first = all.find('e');
    const size_t second = first == std::string::npos ? first : all.find('e', first + 1);
    if (second == std::string::npos) {
      EXPECT_EQ(choice.text, all);
      EXPECT_EQ(choice.matched_stop, "");
      continue;
    }
    ++matched;
    EXPECT_EQ(choice.finish, FinishReason::stop);
    EXPECT_EQ(choice.matched_stop, "e");
    EXPECT_TRUE(all.starts_with(choice.text));
    EXPECT_GT(choice.text.size(), second) << "with the stop string: who watches knows what to do with it";
  }
  EXPECT_GT(matched, 5);
}

TEST(Engine, EverySamplingParameterReachesTheSampler) {
  Rig rig;
  Request request = request_of(prompt_of(12), 40);
  const auto check = [&](auto change) {
    Request changed = request;
    change(changed.sampling);
    rig.run_checked(changed);
  };
  check([](Sampling& s) { s.temperature = 0; });
  check([](Sampling& s) { s.temperature = 0.3f; });
  check([](Sampling& s) { s.top_k = 3; });
  check([](Sampling& s) { s.top_p = 0.5f; });
  check([](Sampling& s) { s.min_p = 0.2f; });
  check([](Sampling& s) { s.repetition_penalty = 1.7f; });
  check([](Sampling& s) { s.frequency_penalty = 1.5f; });
  check([](Sampling& s) { s.presence_penalty = -1.5f; });
  check([](Sampling& s) { s.logit_bias = {{5, 4.0f}, {6, -100.0f}}; });
}

TEST(Engine, LogprobsOfChosenAndTopTokens) {
  Rig rig;
  Request request = request_of(prompt_of(20), 12);
  request.logprobs = true;
  rig.run_checked(request);
  request.top_logprobs = 20;
  const auto collected = rig.run_checked(request);
  ASSERT_EQ(collected.choices[0].logprobs.size(), 12u);
  EXPECT_EQ(collected.choices[0].logprobs[0].top.size(), 20u);
}

TEST(Engine, SeveralChoicesAreSeededOneAfterTheOther) {
  for (const bool cache : {true, false}) {
    Rig rig({.prefix_cache = cache});
    Request request = request_of(prompt_of(50), 20, 100);
    request.n = 5;
    request.logprobs = true;
    const auto together = rig.run_checked(request);
    EXPECT_EQ(together.usage->completion_tokens, 100);
    Request third = request_of(prompt_of(50), 20, 102);
    third.logprobs = true;
    test::expect_same(rig.run(third).choices[0], together.choices[2], "choice 2 alone");
  }
}

// Five choices of a prompt of 64 blocks in a pool of 80 run side by side only if they share.
TEST(Engine, ChoicesShareThePromptsBlocks) {
  for (const bool cache : {true, false}) {
    Rig rig(Rig::with_blocks(80, {.prefix_cache = cache}), 2048);
    int most_rows = 0;
    rig.model.before_forward = [&](const model::Batch& batch) {
      most_rows = std::max(most_rows, static_cast<int>(batch.logit_rows.size()));
    };
    Request request = request_of(prompt_of(64 * 16), 20);
    request.n = 5;
    rig.run_checked(request);
    EXPECT_EQ(most_rows, 5);
    EXPECT_EQ(rig.engine->stats().preemptions, 0u);
  }
}

TEST(Engine, EchoGivesThePromptFirst) {
  Rig rig;
  Request request = request_of(prompt_of(40), 6);
  request.echo = true;
  rig.run_checked(request, "plain");
  request.logprobs = true;
  request.top_logprobs = 2;
  request.n = 3;
  const auto collected = rig.run_checked(request, "with logprobs");
  EXPECT_EQ(collected.choices[2].logprobs.size(), 46u);
  EXPECT_FALSE(collected.choices[0].logprobs[0].chosen.logprob);
  EXPECT_EQ(collected.usage->completion_tokens, 18);
}

TEST(Engine, ScoresAPromptWithoutGenerating) {
  Rig rig({.step_tokens = 16, .max_running = 4});
  for (const int64_t size : {1, 2, 16, 17, 150}) {
    Request request = request_of(prompt_of(size), 0);
    request.echo = true;
    request.logprobs = true;
    request.top_logprobs = 3;
    for (int round = 0; round < 2; ++round) {  // the second finds the prompt cached, and must compute it all the same
      const auto collected = rig.run_checked(request, "prompt of " + std::to_string(size));
      EXPECT_EQ(collected.choices[0].logprobs.size(), static_cast<size_t>(size));
      EXPECT_EQ(collected.usage->completion_tokens, 0);
      EXPECT_EQ(collected.choices[0].finish, FinishReason::length);
    }
  }
}

TEST(Engine, MaxTokensOfZeroWarmsTheCache) {
  Rig rig;
  EXPECT_EQ(rig.run(request_of(prompt_of(48), 0)).choices[0].text, "");
  const auto after = rig.run_checked(request_of(prompt_of(48), 4));
  EXPECT_EQ(after.usage->cached_tokens, 32) << "the last token is computed anew, so the last block is too";
}

TEST(Engine, EmbedsByMeanOrLast) {
  for (const auto pooling : {model::Pooling::mean, model::Pooling::none, model::Pooling::last}) {
    Rig rig({.step_tokens = 16, .max_running = 4});
    rig.model.parameters().pooling = pooling;
    for (const int64_t size : {1, 16, 100}) {
      Request request = request_of(prompt_of(size), 0);
      request.kind = Request::Kind::embed;
      rig.run(request_of(prompt_of(size), 2));  // the prompt is cached, and must not be taken from there
      const auto collected = rig.run(request);
      const auto expected = test::reference_embedding(request, pooling == model::Pooling::last);
      EXPECT_EQ(collected.choices[0].embedding, expected.embedding);
      EXPECT_EQ(collected.choices[0].finish, FinishReason::stop);
      EXPECT_EQ(collected.usage->cached_tokens, 0);
      double squares = 0;
      for (const float x : collected.choices[0].embedding)
        squares += static_cast<double>(x * x);
      EXPECT_NEAR(squares, 1.0, 1e-5);
    }
  }
}

TEST(Engine, TheNextTurnFindsPromptAndAnswerInTheCache) {
  Rig rig;
  Request first = request_of(prompt_of(40), 40);
  const auto answer = rig.run_checked(first);
  Request second = first;
  second.prompt.insert(second.prompt.end(), answer.choices[0].tokens.begin(), answer.choices[0].tokens.end());
  second.prompt.push_back(9);
  const auto collected = rig.run_checked(second);
  EXPECT_EQ(collected.usage->cached_tokens, 64) << "of 80 tokens the last one was never computed";
  second.tenant = "somebody else";
  EXPECT_EQ(rig.run_checked(second).usage->cached_tokens, 0);
  EXPECT_EQ(rig.run_checked(second).usage->cached_tokens, 80);
  const EngineStats stats = rig.engine->stats();
  EXPECT_EQ(stats.prefix_queries, 40u + 3 * 81u);
  EXPECT_EQ(stats.prefix_hits, 64u + 80u);
}

TEST(Engine, GenerationEndsWhereTheContextDoes) {
  Rig rig({}, 64);
  const auto collected = rig.run_checked(request_of(prompt_of(50), 1000));
  EXPECT_EQ(collected.choices[0].tokens.size(), 14u);
  EXPECT_EQ(collected.choices[0].finish, FinishReason::length);
  EXPECT_EQ(rig.run_checked(request_of(prompt_of(63), 5)).choices[0].tokens.size(), 1u);
}

TEST(Engine, TheContextIsNoLargerThanTheCache) {
  Rig rig(Rig::with_blocks(3), 4096);
  rig.start();
  EXPECT_EQ(rig.engine->max_context(), 48);
  EXPECT_EQ(rig.run_checked(request_of(prompt_of(20), 1000)).choices[0].tokens.size(), 28u);
  Request embed = request_of(prompt_of(48), 0);
  embed.kind = Request::Kind::embed;
  rig.run_checked(embed);
}

TEST(Engine, RefusesWithTheParameterNamed) {
  Rig rig({}, 64);
  rig.start();
  const auto refused = [&](auto change, const std::string& param, base::ErrorCode code) {
    Request request = request_of(prompt_of(5));
    change(request);
    const auto result = rig.engine->submit(request);
    ASSERT_FALSE(result) << param;
    EXPECT_EQ(result.error().param(), param) << result.error().message();
    EXPECT_EQ(result.error().code(), code) << result.error().message();
    EXPECT_NE(result.error().message(), "");
  };
  const auto invalid = [&](auto change, const std::string& param) {
    refused(change, param, base::ErrorCode::invalid_argument);
  };
  static constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  invalid([](Request& r) { r.prompt.clear(); }, "prompt");
  invalid([](Request& r) { r.prompt[1] = -1; }, "prompt");
  invalid([](Request& r) { r.prompt[1] = 64; }, "prompt");
  for (const float bad : {-0.1f, 2.1f, nan})
    invalid([=](Request& r) { r.sampling.temperature = bad; }, "temperature");
  for (const float bad : {0.0f, -1.0f, 1.1f, nan})
    invalid([=](Request& r) { r.sampling.top_p = bad; }, "top_p");
  for (const float bad : {-0.1f, 1.1f, nan})
    invalid([=](Request& r) { r.sampling.min_p = bad; }, "min_p");
  invalid([](Request& r) { r.sampling.top_k = -2; }, "top_k");
  for (const float bad : {0.0f, 101.0f, nan}) {
    invalid([=](Request& r) { r.sampling.repetition_penalty = bad; }, "repetition_penalty");
  }
  for (const float bad : {-2.1f, 2.1f, nan}) {
    invalid([=](Request& r) { r.sampling.frequency_penalty = bad; }, "frequency_penalty");
    invalid([=](Request& r) { r.sampling.presence_penalty = bad; }, "presence_penalty");
  }
  invalid([](Request& r) { r.sampling.logit_bias = {{64, 1.0f}}; }, "logit_bias");
  invalid([](Request& r) { r.sampling.logit_bias = {{3, 101.0f}}; }, "logit_bias");
  invalid([](Request& r) { r.sampling.logit_bias = {{3, nan}}; }, "logit_bias");
  invalid([](Request& r) { r.max_tokens = -1; }, "max_tokens");
  invalid([](Request& r) { r.n = 0; }, "n");
  invalid([](Request& r) { r.n = 129; }, "n");
  invalid([](Request& r) { r.n = 2, r.kind = Request::Kind::embed; }, "n");
  invalid([](Request& r) { r.logprobs = true, r.top_logprobs = 21; }, "top_logprobs");
  invalid([](Request& r) { r.top_logprobs = 1; }, "top_logprobs");
  invalid([](Request& r) { r.stop = {""}; }, "stop");
  invalid([](Request& r) { r.stop = {"\xff"}; }, "stop");
  invalid([](Request& r) { r.stop = {std::string(5000, 'a')}; }, "stop");
  invalid([](Request& r) { r.stop.resize(65, "a"); }, "stop");
  invalid([](Request& r) { r.stop_tokens = {64}; }, "stop_token_ids");
  refused([](Request& r) { r.prompt = prompt_of(64); }, "prompt", base::ErrorCode::too_large);
  const auto too_long = rig.engine->submit(request_of(prompt_of(65), 0));
  ASSERT_FALSE(too_long);
  EXPECT_NE(too_long.error().message().find("65"), std::string::npos);
  EXPECT_NE(too_long.error().message().find("64"), std::string::npos);
  EXPECT_TRUE(rig.engine->submit(request_of(prompt_of(64), 0)));
}

TEST(Engine, RefusesOptionsThatMakeNoSense) {
  const auto refused = [](EngineOptions options, const std::string& param) {
    Rig rig;
    const auto result =
        Engine::start(rig.model, rig.device, *rig.tokenizer, options, rig.tracer, rig.metrics, rig.clock);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().param(), param);
  };
  refused({.kv_bytes = 100}, "kv_bytes");
  refused({.kv_bytes = -1}, "kv_bytes");
  refused({.max_context = 513}, "max_context");
  refused({.step_tokens = 0}, "step_tokens");
  refused({.step_tokens = 8, .max_running = 9}, "max_running");
  refused({.max_waiting = 0}, "max_waiting");
  refused({.priority_seconds = std::nan("")}, "priority_seconds");
  refused({.max_unread_bytes = 0}, "max_unread_bytes");
}

TEST(Engine, NanEndsTheRequestNotTheEngine) {
  Rig rig;
  Request bad = request_of(prompt_of(30), 8);
  bad.prompt[7] = test::kPoison;
  bad.n = 3;
  const auto good = rig.submit(request_of(prompt_of(30), 30));
  const auto collected = rig.run(bad);
  ASSERT_TRUE(collected.error);
  EXPECT_EQ(collected.error->code(), base::ErrorCode::internal);
  bad.n = 1;
  bad.max_tokens = 0;
  bad.echo = true;
  bad.logprobs = true;
  EXPECT_TRUE(rig.run(bad).error);
  test::expect_same(test::collect(*good).choices[0], rig.expected(request_of(prompt_of(30), 30)), "its neighbour");
  rig.run_checked(request_of(prompt_of(30), 8));
}

TEST(Engine, CancellingFreesBlocksWithinAStep) {
  Rig rig(Rig::with_blocks(32));
  Gate gate;
  rig.model.before_forward = [&](const model::Batch&) { gate.pass(); };
  const auto stream = rig.submit(request_of(prompt_of(40), 200));
  gate.wait_for(1);
  gate.allow(3);
  gate.wait_for(4);
  stream->cancel();
  gate.allow(1);  // the step under way ends, and no other follows
  while (stream->next()) {
  }
  const EngineStats stats = rig.engine->stats();
  EXPECT_EQ(stats.kv_blocks_free + stats.kv_blocks_cached, 32);
  EXPECT_EQ(stats.steps, 4u);
  stream->cancel();
  gate.open();
  EXPECT_TRUE(rig.checked());
}

TEST(Engine, ACancelledStreamSaysSoForEveryChoice) {
  Rig rig;
  Gate gate;
  rig.model.before_forward = [&](const model::Batch&) { gate.pass(); };
  Request request = request_of(prompt_of(4), 100);
  request.n = 3;
  const auto stream = rig.submit(request);
  gate.wait_for(1);
  gate.allow(3);
  gate.wait_for(4);
  stream->cancel();
  gate.open();
  const auto collected = test::collect(*stream, 3);
  ASSERT_TRUE(collected.usage);
  for (const auto& choice : collected.choices)
    EXPECT_EQ(choice.finish, FinishReason::cancelled);
  EXPECT_GT(collected.usage->completion_tokens, 0);
  EXPECT_LT(collected.usage->completion_tokens, 300);
}

TEST(Engine, DroppingTheStreamCancels) {
  Rig rig;
  Gate gate;
  rig.model.before_forward = [&](const model::Batch&) { gate.pass(); };
  auto dropped = rig.submit(request_of(prompt_of(4), 400));
  gate.wait_for(1);
  dropped.reset();
  const auto other = rig.submit(request_of(prompt_of(4), 3));
  gate.open();
  test::collect(*other);
  EXPECT_TRUE(rig.engine->idle());
  EXPECT_LT(rig.engine->stats().steps, 10u);
}

TEST(Engine, AFullQueueRefuses) {
  Rig rig({.max_running = 1, .max_waiting = 2});
  Gate gate;
  rig.model.before_forward = [&](const model::Batch&) { gate.pass(); };
  std::vector<std::shared_ptr<Stream>> streams;
  streams.push_back(rig.submit(request_of(prompt_of(4), 4, 1)));
  gate.wait_for(1);  // it runs
  streams.push_back(rig.submit(request_of(prompt_of(4), 4, 2)));
  streams.push_back(rig.submit(request_of(prompt_of(4), 4, 3)));
  EXPECT_EQ(rig.engine->stats().waiting, 2);
  const auto refused = rig.engine->submit(request_of(prompt_of(4), 4, 4));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), base::ErrorCode::exhausted);
  gate.open();
  for (size_t i = 0; i < streams.size(); ++i) {
    test::expect_same(test::collect(*streams[i]).choices[0], rig.expected(request_of(prompt_of(4), 4, i + 1)),
                      "queued");
  }
  rig.run_checked(request_of(prompt_of(4), 4, 4));
}

TEST(Engine, DrainFinishesWhatItHasAndTakesNoMore) {
  Rig rig({.max_running = 1});
  Gate gate;
  rig.model.before_forward = [&](const model::Batch&) { gate.pass(); };
  const auto running = rig.submit(request_of(prompt_of(4), 4, 1));
  const auto waiting = rig.submit(request_of(prompt_of(4), 4, 2));
  rig.engine->drain();
  const auto refused = rig.engine->submit(request_of(prompt_of(4)));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), base::ErrorCode::unavailable);
  EXPECT_FALSE(rig.engine->idle());
  gate.open();
  test::expect_same(test::collect(*running).choices[0], rig.expected(request_of(prompt_of(4), 4, 1)), "running");
  test::expect_same(test::collect(*waiting).choices[0], rig.expected(request_of(prompt_of(4), 4, 2)), "waiting");
  EXPECT_TRUE(rig.engine->idle());
}

// Either of two requests that fill it would take far longer than any machine needs to get around to ending the engine.
constexpr int64_t endless_context = 100'000;

// The first has begun and is held by the gate, the second waits for it.
std::vector<std::shared_ptr<Stream>> submit_two_endless(Rig& rig, Gate& gate) {
  rig.model.before_forward = [&gate](const model::Batch&) { gate.pass(); };
  std::vector<std::shared_ptr<Stream>> streams;
  for (const uint64_t seed : {1, 2})
    streams.push_back(rig.submit(request_of(prompt_of(4), endless_context - 4, seed)));
  gate.wait_for(1);
  return streams;
}

TEST(Engine, AbortEndsStreamsWithItsErrorAndFreesTheirBlocks) {
  Rig rig(Rig::with_blocks(8000, {.max_running = 1}), endless_context);
  Gate gate;
  const auto streams = submit_two_endless(rig, gate);
  rig.engine->abort(base::Error(base::ErrorCode::unavailable, "enough"));
  gate.open();
  for (const auto& stream : streams) {
    const auto collected = test::collect(*stream);
    ASSERT_TRUE(collected.error);
    EXPECT_EQ(collected.error->message(), "enough");
  }
  EXPECT_TRUE(rig.engine->idle());
  const auto books = rig.engine->check_books();
  EXPECT_TRUE(books) << books.error().to_string();
  // It goes on serving others.
  test::expect_same(test::collect(*rig.submit(request_of(prompt_of(4), 4, 3))).choices[0],
                    rig.expected(request_of(prompt_of(4), 4, 3)), "after");
}

TEST(Engine, DestructionEndsStreamsWithAnError) {
  Rig rig(Rig::with_blocks(8000, {.max_running = 1}), endless_context);
  Gate gate;
  const auto streams = submit_two_endless(rig, gate);
  std::thread opener([&] { gate.open(); });
  rig.engine.reset();
  opener.join();
  for (const auto& stream : streams) {
    const auto collected = test::collect(*stream);
    ASSERT_TRUE(collected.error);
    EXPECT_EQ(collected.error->code(), base::ErrorCode::unavailable);
    stream->cancel();
  }
}

TEST(Engine, OnReadyIsCalledForEventsThereAndToCome) {
  Rig rig;
  Gate gate;
  rig.model.before_forward = [&](const model::Batch&) { gate.pass(); };
  const auto stream = rig.submit(request_of(prompt_of(4), 3));
  std::mutex mutex;
  std::condition_variable called;
  int calls = 0;
  const auto count = [&] {
    const std::lock_guard lock(mutex);
    ++calls;
    called.notify_all();
  };
  const auto wait_for_calls = [&](int at_least) {
    std::unique_lock lock(mutex);
    called.wait(lock, [&] { return calls >= at_least; });
  };
  EXPECT_FALSE(stream->try_next());
  gate.wait_for(1);
  gate.allow(1);
  gate.wait_for(2);  // one event is there
  stream->on_ready(count);
  EXPECT_EQ(calls, 1) << "called at once";
  gate.allow(1);
  wait_for_calls(2);
  stream->on_ready({});
  gate.open();
  EXPECT_EQ(test::collect(*stream).choices[0].tokens.size(), 3u);
  EXPECT_EQ(calls, 2);
  EXPECT_FALSE(stream->try_next());
  EXPECT_FALSE(stream->next());
}

TEST(Engine, ARequestRestsUntilItsReaderHasCaughtUp) {
  Rig rig({.max_unread_bytes = 1, .model_name = "nano"});
  Gate gate;
  rig.model.before_forward = [&](const model::Batch&) { gate.pass(); };
  Request request = request_of(prompt_of(20), 30);
  request.parent = *observe::SpanContext::parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  const auto unread = rig.submit(request);
  gate.wait_for(1);
  gate.allow(1);
  EXPECT_TRUE(rig.checked());  // after that step
  EngineStats stats = rig.engine->stats();
  EXPECT_EQ(stats.resting, 1);
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.waiting, 0);
  EXPECT_EQ(stats.generated_tokens, 1u);
  rig.clock.advance(std::chrono::seconds(5));
  gate.open();
  rig.run_checked(request_of(prompt_of(9, 1), 10), "another");
  stats = rig.engine->stats();
  EXPECT_EQ(stats.resting, 1);
  EXPECT_EQ(stats.generated_tokens, 11u) << "whatever else is computed, one event is unread";
  test::expect_same(test::collect(*unread).choices[0], rig.expected(request), "what rested");
  EXPECT_EQ(rig.engine->stats().resting, 0);

  const auto spans = rig.tracer.recent("0af7651916cd43dd8448eb211c80319c");
  ASSERT_FALSE(spans.empty());
  double rested = -1;
  double decoding = -1;
  for (const auto& [name, value] : spans.back().attributes) {
    if (name == "tidemill.latency.time_resting") rested = std::get<double>(value);
    if (name == "gen_ai.latency.time_in_model_decode") decoding = std::get<double>(value);
  }
  EXPECT_EQ(rested, 5);
  EXPECT_EQ(decoding, 0) << "the reader's time is not the engine's";
}

TEST(Engine, WhatRestsCanBeCancelled) {
  Rig rig(Rig::with_blocks(32, {.max_unread_bytes = 1}));
  Gate gate;
  rig.model.before_forward = [&](const model::Batch&) { gate.pass(); };
  const auto unread = rig.submit(request_of(prompt_of(40), 200));
  gate.wait_for(1);
  gate.open();
  EXPECT_TRUE(rig.checked());
  ASSERT_EQ(rig.engine->stats().resting, 1);
  unread->cancel();
  FinishReason finish = FinishReason::none;
  while (const auto event = unread->next())
    finish = event->finish;
  EXPECT_EQ(finish, FinishReason::cancelled);
  const EngineStats stats = rig.engine->stats();
  EXPECT_EQ(stats.resting, 0);
  EXPECT_EQ(stats.kv_blocks_free + stats.kv_blocks_cached, 32);
  EXPECT_TRUE(rig.engine->idle());
}

TEST(Engine, UrgentRequestsOvertakeAndDisplace) {
  Rig rig(Rig::with_blocks(8, {.prefix_cache = false}));
  Gate gate;
  rig.model.before_forward = [&](const model::Batch&) { gate.pass(); };
  Request slow = request_of(prompt_of(60), 60, 1);
  slow.priority = 5;
  Request urgent = request_of(prompt_of(60, 3), 60, 2);
  const auto slow_stream = rig.submit(slow);
  gate.wait_for(1);
  const auto urgent_stream = rig.submit(urgent);
  gate.open();
  test::expect_same(test::collect(*urgent_stream).choices[0], rig.expected(urgent), "urgent");
  test::expect_same(test::collect(*slow_stream).choices[0], rig.expected(slow), "displaced");
  EXPECT_GT(rig.engine->stats().preemptions, 0u);
}

TEST(Engine, TellsOfItselfInSpansAndMetrics) {
  Rig rig({.model_name = "nano"});
  Request request = request_of(prompt_of(33), 4);
  request.parent = *observe::SpanContext::parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  rig.run(request);
  rig.run(request);
  const auto spans = rig.tracer.recent("0af7651916cd43dd8448eb211c80319c");
  ASSERT_EQ(spans.size(), 8u);
  std::multiset<std::string> names;
  for (const auto& span : spans)
    names.insert(span.name);
  EXPECT_EQ(names, (std::multiset<std::string>{"decode", "decode", "llm_request", "llm_request", "prefill", "prefill",
                                               "queue", "queue"}));
  const auto& whole = spans.back();
  EXPECT_EQ(whole.name, "llm_request");
  EXPECT_EQ(whole.parent_span_id, request.parent.span_id);
  for (size_t i = 4; i < 7; ++i)
    EXPECT_EQ(spans[i].parent_span_id, whole.context.span_id) << spans[i].name;
  const auto attribute = [&](std::string_view key) {
    for (const auto& [name, value] : whole.attributes) {
      if (name == key) return value;
    }
    ADD_FAILURE() << "no attribute " << key;
    return observe::AttributeValue();
  };
  EXPECT_EQ(attribute("gen_ai.usage.input_tokens"), observe::AttributeValue(int64_t{33}));
  EXPECT_EQ(attribute("gen_ai.usage.output_tokens"), observe::AttributeValue(int64_t{4}));
  EXPECT_EQ(attribute("gen_ai.usage.cache_read.input_tokens"), observe::AttributeValue(int64_t{32}));
  EXPECT_EQ(attribute("gen_ai.request.model"), observe::AttributeValue(std::string("nano")));
  EXPECT_EQ(attribute("gen_ai.latency.time_in_queue"), observe::AttributeValue(0.0));

  const std::string page = rig.metrics.render();
  const auto has = [&](const std::string& line) {
    EXPECT_NE(page.find(line), std::string::npos) << line << "\nin\n" << page;
  };
  has("vllm:prompt_tokens_total{model_name=\"nano\"} 66");
  has("vllm:generation_tokens_total{model_name=\"nano\"} 8");
  has("vllm:prefix_cache_queries_total{model_name=\"nano\"} 66");
  has("vllm:prefix_cache_hits_total{model_name=\"nano\"} 32");
  has("vllm:num_requests_running{model_name=\"nano\"} 0");
  has("vllm:num_requests_waiting{model_name=\"nano\"} 0");
  has("tidemill_requests_resting{model_name=\"nano\"} 0");
  has("tidemill_rests_total{model_name=\"nano\"} 0");
  has("vllm:kv_cache_usage_perc{model_name=\"nano\"} 0");
  has("vllm:num_preemptions_total{model_name=\"nano\"} 0");
  has("vllm:time_to_first_token_seconds_count{model_name=\"nano\"} 2");
  has("vllm:inter_token_latency_seconds_count{model_name=\"nano\"} 6");
  has("vllm:e2e_request_latency_seconds_count{model_name=\"nano\"} 2");
  has("vllm:cache_config_info{");
  has("tidemill_generated_tokens_total{model_name=\"nano\"} 8");
}

}  // namespace
}  // namespace tidemill::engine
