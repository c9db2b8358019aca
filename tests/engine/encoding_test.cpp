// The engine of an encoder: what a text becomes depends on that text alone, however many share its call, and whoever
// wants more than embeddings is told.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <span>

#include <gtest/gtest.h>

#include "engine/engine.hpp"
#include "engine/rig.hpp"
#include "model/encoder.hpp"

namespace tidemill::engine {
namespace {

using test::Gate;
using test::prompt_of;
using test::request_of;

// A row's hidden state is a hash of its whole text and of its place in it.
class FakeEncoder final : public model::Encoder {
 public:
  FakeEncoder() {
    parameters_.architecture = "fake";
    parameters_.vocabulary = test::kVocabulary;
    parameters_.context = 64;
    parameters_.width = test::kWidth;
    parameters_.pooling = model::Pooling::mean;
  }

  // Set before the engine starts.
  std::function<void()> before_encode;
  bool ranking = false;
  model::HyperParameters& parameters() { return parameters_; }
  // Of each call so far: the lengths of its texts.
  const std::vector<std::vector<int32_t>>& calls() const { return calls_; }

  const model::HyperParameters& hyper_parameters() const override { return parameters_; }
  int64_t token_types() const override { return 2; }
  bool ranks() const override { return ranking; }
  int64_t max_rows() const override { return 256; }
  int64_t max_texts() const override { return 8; }
  size_t weight_bytes() const override { return 0; }
  size_t activation_bytes() const override { return 0; }

  static uint64_t hash_of(std::span<const Token> text) {
    uint64_t value = 0;
    for (const Token token : text)
      value = test::mix(value, static_cast<uint64_t>(token));
    return value;
  }

  tensor::ConstMatrix encode(const model::Texts& texts) override {
    if (before_encode) before_encode();
    EXPECT_EQ(texts.types.size(), texts.tokens.size());
    EXPECT_LE(std::ssize(texts.tokens), max_rows());
    EXPECT_LE(std::ssize(texts.begins), max_texts() + 1);
    hidden_.clear();
    seconds_.clear();
    calls_.emplace_back();
    for (size_t t = 0; t + 1 < texts.begins.size(); ++t) {
      const int32_t length = texts.begins[t + 1] - texts.begins[t];
      calls_.back().push_back(length);
      const auto types = texts.types.subspan(static_cast<size_t>(texts.begins[t]), static_cast<size_t>(length));
      EXPECT_TRUE(std::is_sorted(types.begin(), types.end())) << "one text after the other";
      seconds_.push_back(std::count(types.begin(), types.end(), 1));
      const auto text = texts.tokens.subspan(static_cast<size_t>(texts.begins[t]), static_cast<size_t>(length));
      const bool poisoned = std::find(text.begin(), text.end(), test::kPoison) != text.end();
      for (int32_t i = 0; i < length; ++i) {
        auto row = test::hidden_of(test::mix(hash_of(text), static_cast<uint64_t>(i)));
        if (poisoned) row[0] = std::numeric_limits<float>::quiet_NaN();
        hidden_.insert(hidden_.end(), row.begin(), row.end());
      }
    }
    return {hidden_.data(), std::ssize(texts.tokens), test::kWidth, test::kWidth};
  }

  // A text's score is its first row's first element and how many of its tokens are of the second text.
  tensor::ConstMatrix score(std::span<const int32_t> rows) override {
    scores_.clear();
    for (size_t t = 0; t < rows.size(); ++t)
      scores_.push_back(hidden_[static_cast<size_t>(rows[t] * test::kWidth)] + static_cast<float>(seconds_[t]));
    return {scores_.data(), std::ssize(rows), 1, 1};
  }

 private:
  model::HyperParameters parameters_;
  std::vector<float> hidden_;
  std::vector<float> scores_;
  std::vector<int64_t> seconds_;  // of each text: its tokens of type 1
  std::vector<std::vector<int32_t>> calls_;
};

std::vector<float> embedding_of(std::span<const Token> text, model::Pooling pooling) {
  std::vector<double> sum(test::kWidth, 0);
  for (size_t i = 0; i < text.size(); ++i) {
    if (pooling == model::Pooling::first && i > 0) break;
    if (pooling == model::Pooling::last && i + 1 < text.size()) continue;
    const auto row = test::hidden_of(test::mix(FakeEncoder::hash_of(text), i));
    for (size_t d = 0; d < sum.size(); ++d)
      sum[d] += static_cast<double>(row[d]);
  }
  double squares = 0;
  for (const double x : sum)
    squares += x * x;
  std::vector<float> unit;
  for (const double x : sum)
    unit.push_back(static_cast<float>(x * (1 / std::sqrt(squares))));
  return unit;
}

Request embed(std::vector<Token> prompt) {
  Request request = request_of(std::move(prompt), 0);
  request.kind = Request::Kind::embed;
  return request;
}

struct EncodingRig {
  Engine& start(const EngineOptions& options = {}) {
    auto started = Engine::start(encoder, *tokenizer, options, tracer, metrics, clock);
    EXPECT_TRUE(started) << started.error().to_string();
    engine = std::move(*started);
    return *engine;
  }
  std::shared_ptr<Stream> submit(Request request) {
    auto stream = engine->submit(std::move(request));
    EXPECT_TRUE(stream) << stream.error().to_string();
    return stream ? *stream : nullptr;
  }

  FakeEncoder encoder;
  std::unique_ptr<text::Tokenizer> tokenizer = test::fake_tokenizer();
  base::ManualClock clock;
  observe::Tracer tracer{clock};
  observe::Metrics metrics;
  std::unique_ptr<Engine> engine;  // goes first
};

TEST(Encoding, PoolsAsTheModelSays) {
  for (const auto pooling : {model::Pooling::mean, model::Pooling::none, model::Pooling::first, model::Pooling::last}) {
    EncodingRig rig;
    rig.encoder.parameters().pooling = pooling;
    rig.start();
    for (const int64_t size : {1, 2, 64}) {
      const auto prompt = prompt_of(size);
      const auto collected = test::collect(*rig.submit(embed(prompt)), 1);
      EXPECT_EQ(collected.choices[0].embedding, embedding_of(prompt, pooling)) << size;
      EXPECT_EQ(collected.choices[0].finish, FinishReason::stop);
      EXPECT_EQ(collected.usage->prompt_tokens, size);
      EXPECT_EQ(collected.usage->completion_tokens, 0);
    }
    EXPECT_TRUE(rig.engine->idle());
    EXPECT_TRUE(rig.engine->check_books());
    EXPECT_EQ(rig.engine->stats().prompt_tokens, 67U);
    EXPECT_EQ(rig.engine->stats().steps, 3U);
  }
}

TEST(Encoding, TextsThatWaitShareACallWithinItsLimits) {
  EncodingRig rig;
  Gate gate;
  rig.encoder.before_encode = [&gate] { gate.pass(); };
  rig.start({.step_tokens = 60, .max_running = 3});
  std::vector<std::shared_ptr<Stream>> streams;
  std::vector<int64_t> sizes = {5, 10, 10, 10, 10, 64, 20, 41, 1};
  streams.push_back(rig.submit(embed(prompt_of(sizes[0]))));
  gate.wait_for(1);  // the first is on its way: the others wait for each other
  for (size_t i = 1; i < sizes.size(); ++i)
    streams.push_back(rig.submit(embed(prompt_of(sizes[i], static_cast<int>(i)))));
  gate.open();
  for (size_t i = 0; i < sizes.size(); ++i) {
    const auto collected = test::collect(*streams[i], 1);
    EXPECT_EQ(collected.choices[0].embedding,
              embedding_of(prompt_of(sizes[i], static_cast<int>(i)), model::Pooling::mean))
        << i;
  }
  // Three texts at most, 60 rows at most unless alone, nobody overtakes.
  const std::vector<std::vector<int32_t>> expected = {{5}, {10, 10, 10}, {10}, {64}, {20}, {41, 1}};
  EXPECT_EQ(rig.encoder.calls(), expected);
}

TEST(Encoding, WhatIsSubmittedTogetherIsComputedTogether) {
  EncodingRig rig;
  Gate gate;
  rig.encoder.before_encode = [&gate] { gate.pass(); };
  rig.start({.step_tokens = 100, .max_waiting = 10});
  EXPECT_EQ(rig.engine->call_size()->texts, rig.encoder.max_texts());
  EXPECT_EQ(rig.engine->call_size()->tokens, 100);
  std::vector<Request> requests;
  for (int i = 0; i < 12; ++i)
    requests.push_back(embed(prompt_of(3, i)));
  const auto streams = rig.engine->submit_all(requests);
  ASSERT_TRUE(streams) << streams.error().to_string();
  ASSERT_EQ(streams->size(), 10U) << "as many as may wait";
  gate.wait_for(1);
  requests[1].prompt.clear();
  const auto invalid = rig.engine->submit_all(std::span(requests).first(2));
  ASSERT_FALSE(invalid);
  EXPECT_EQ(invalid.error().param(), "prompt");
  EXPECT_EQ(rig.engine->submit_all(std::span(requests).subspan(2))->size(), 8U) << "eight are being computed";
  const auto full = rig.engine->submit_all(std::span(requests).first(1));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), base::ErrorCode::exhausted);
  gate.open();
  for (size_t i = 0; i < streams->size(); ++i)
    EXPECT_EQ(test::collect(*(*streams)[i], 1).choices[0].finish, FinishReason::stop) << i;
  EXPECT_EQ(rig.encoder.calls().front(), std::vector<int32_t>(8, 3));
}

TEST(Encoding, PriorityGoesFirst) {
  EncodingRig rig;
  Gate gate;
  rig.encoder.before_encode = [&gate] { gate.pass(); };
  rig.start({.max_running = 1});
  std::vector<std::shared_ptr<Stream>> streams;
  streams.push_back(rig.submit(embed(prompt_of(1))));
  gate.wait_for(1);
  for (const int priority : {1, 0, -1}) {
    Request request = embed(prompt_of(2 + priority));
    request.priority = priority;
    streams.push_back(rig.submit(std::move(request)));
  }
  gate.open();
  for (const auto& stream : streams)
    test::collect(*stream, 1);
  EXPECT_EQ(rig.encoder.calls(), (std::vector<std::vector<int32_t>>{{1}, {1}, {2}, {3}}));
}

TEST(Encoding, CancelledWhileItWaitsIsNotComputed) {
  EncodingRig rig;
  Gate gate;
  rig.encoder.before_encode = [&gate] { gate.pass(); };
  rig.start();
  const auto first = rig.submit(embed(prompt_of(3)));
  gate.wait_for(1);
  const auto second = rig.submit(embed(prompt_of(4)));
  const auto third = rig.submit(embed(prompt_of(5)));
  EXPECT_EQ(rig.engine->stats().waiting, 2);
  second->cancel();
  gate.open();
  EXPECT_EQ(test::collect(*second, 1).choices[0].finish, FinishReason::cancelled);
  EXPECT_EQ(test::collect(*first, 1).choices[0].finish, FinishReason::stop);
  EXPECT_EQ(test::collect(*third, 1).choices[0].finish, FinishReason::stop);
  EXPECT_EQ(rig.encoder.calls(), (std::vector<std::vector<int32_t>>{{3}, {5}}));
  EXPECT_TRUE(rig.engine->idle());
}

TEST(Encoding, NanEndsTheRequestNotItsNeighbours) {
  EncodingRig rig;
  Gate gate;
  rig.encoder.before_encode = [&gate] { gate.pass(); };
  rig.start();
  const auto first = rig.submit(embed(prompt_of(1)));
  gate.wait_for(1);
  auto prompt = prompt_of(6);
  prompt[3] = test::kPoison;
  const auto bad = rig.submit(embed(prompt));
  const auto good = rig.submit(embed(prompt_of(6)));
  gate.open();
  const auto event = bad->next();
  ASSERT_TRUE(event);
  ASSERT_TRUE(event->error);
  EXPECT_EQ(event->error->code(), base::ErrorCode::internal);
  EXPECT_EQ(test::collect(*good, 1).choices[0].embedding, embedding_of(prompt_of(6), model::Pooling::mean));
  EXPECT_EQ(rig.encoder.calls().back(), (std::vector<int32_t>{6, 6}));
}

TEST(Encoding, ARerankerScoresPairs) {
  EncodingRig rig;
  rig.encoder.ranking = true;
  Gate gate;
  rig.encoder.before_encode = [&gate] { gate.pass(); };
  rig.start();
  const auto pair = [](int64_t size, int64_t second) {
    Request request = embed(prompt_of(size));
    request.kind = Request::Kind::score;
    request.second_text = second;
    return request;
  };
  const auto first = rig.submit(pair(2, 1));
  gate.wait_for(1);
  const std::vector<std::pair<int64_t, int64_t>> shapes = {{10, 4}, {5, 1}, {64, 63}};
  std::vector<std::shared_ptr<Stream>> streams;
  for (const auto& [size, second] : shapes)
    streams.push_back(rig.submit(pair(size, second)));
  auto poisoned = pair(6, 3);
  poisoned.prompt[4] = test::kPoison;
  const auto bad = rig.submit(poisoned);
  gate.open();
  for (size_t i = 0; i < shapes.size(); ++i) {
    const auto [size, second] = shapes[i];
    const auto event = streams[i]->next();
    ASSERT_TRUE(event);
    ASSERT_TRUE(event->score);
    const auto row = test::hidden_of(test::mix(FakeEncoder::hash_of(prompt_of(size)), 0));
    EXPECT_EQ(*event->score, row[0] + static_cast<float>(size - second));
    EXPECT_EQ(event->finish, FinishReason::stop);
    EXPECT_TRUE(event->embedding.empty());
    EXPECT_EQ(event->usage->prompt_tokens, size);
    EXPECT_TRUE(streams[i]->ended());
  }
  const auto event = bad->next();
  ASSERT_TRUE(event);
  EXPECT_TRUE(event->error);
  EXPECT_EQ(rig.encoder.calls().size(), 2U);
  for (const int64_t second : {-1, 0, 5}) {
    const auto refused = rig.engine->submit(pair(5, second));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().param(), "second_text");
  }
  const auto embeds = rig.engine->submit(embed(prompt_of(3)));
  ASSERT_FALSE(embeds);
  EXPECT_NE(embeds.error().message().find("makes no embeddings"), std::string::npos);
}

TEST(Encoding, RefusesWhatAnEncoderCannotDo) {
  EncodingRig rig;
  rig.start({.max_waiting = 1});
  for (const int max_tokens : {0, 8}) {
    const auto refused = rig.engine->submit(request_of(prompt_of(3), max_tokens));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), base::ErrorCode::unsupported);
    EXPECT_EQ(refused.error().param(), "model");
    EXPECT_NE(refused.error().message().find("generates no text"), std::string::npos);
    EXPECT_FALSE(rig.engine->check(request_of(prompt_of(3), max_tokens)));
  }
  EXPECT_TRUE(rig.engine->check(embed(prompt_of(64))));
  Request pair = embed(prompt_of(4));
  pair.kind = Request::Kind::score;
  pair.second_text = 2;
  const auto scored = rig.engine->submit(pair);
  ASSERT_FALSE(scored);
  EXPECT_EQ(scored.error().code(), base::ErrorCode::unsupported);
  EXPECT_NE(scored.error().message().find("no reranker"), std::string::npos);
  const auto too_long = rig.engine->submit(embed(prompt_of(65)));
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.error().code(), base::ErrorCode::too_large);
  EXPECT_EQ(rig.engine->max_context(), 64);
  for (const auto& kept : {rig.engine->save_prefixes("x", ""), rig.engine->restore_prefixes("x", "")}) {
    ASSERT_FALSE(kept);
    EXPECT_EQ(kept.error().code(), base::ErrorCode::unsupported);
  }
}

TEST(Encoding, OptionsOfOtherEnginesMeanNothing) {
  EncodingRig rig;
  rig.start({.kv_bytes = 0, .speculation = {.max_proposal = 0}});
  EXPECT_EQ(test::collect(*rig.submit(embed(prompt_of(3))), 1).choices[0].finish, FinishReason::stop);
}

TEST(Encoding, EndsWhatWaitsWhenItStops) {
  EncodingRig rig;
  Gate gate;
  rig.encoder.before_encode = [&gate] { gate.pass(); };
  rig.start({.max_running = 1});
  const auto first = rig.submit(embed(prompt_of(3)));
  gate.wait_for(1);
  const auto second = rig.submit(embed(prompt_of(4)));
  rig.engine->drain();
  EXPECT_FALSE(rig.engine->submit(embed(prompt_of(5))));
  rig.engine->abort(base::Error(base::ErrorCode::unavailable, "stopping"));
  gate.open();
  EXPECT_EQ(test::collect(*first, 1).choices[0].finish, FinishReason::stop);
  const auto event = second->next();
  ASSERT_TRUE(event);
  ASSERT_TRUE(event->error);
  EXPECT_EQ(event->error->message(), "stopping");
  rig.engine.reset();
}

}  // namespace
}  // namespace tidemill::engine
