// How many texts a batch has with the engine at a time: against an engine whose requests end when the test says so.
#include "serve/embedding_batch.hpp"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::serve {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

class HeldStream final : public engine::Stream {
 public:
  explicit HeldStream(int tokens) : tokens_(tokens) {}

  void end() {
    engine::Event event;
    event.embedding = {static_cast<float>(tokens_)};
    event.finish = engine::FinishReason::stop;
    event.usage = engine::Usage{.prompt_tokens = tokens_};
    event_ = std::move(event);
  }

  std::optional<engine::Event> try_next() override {
    if (event_) ended_ = true;
    return std::exchange(event_, std::nullopt);
  }
  std::optional<engine::Event> next() override { return try_next(); }
  bool ended() const override { return ended_; }
  void on_ready(std::function<void()> /*ready*/) override {}
  void cancel() override {}

 private:
  int tokens_;
  std::optional<engine::Event> event_;
  bool ended_ = false;
};

class HeldEngine final : public engine::Engine {
 public:
  std::optional<engine::CallSize> call;
  size_t room = 1000;
  std::vector<size_t> posts;                         // the requests that came together
  std::vector<std::shared_ptr<HeldStream>> running;  // the oldest first

  void end(size_t count) {
    for (size_t i = 0; i < count; ++i)
      running.at(i)->end();
    running.erase(running.begin(), running.begin() + static_cast<std::ptrdiff_t>(count));
  }

  Result<std::vector<std::shared_ptr<engine::Stream>>> submit_all(std::span<const engine::Request> requests) override {
    const size_t count = std::min(requests.size(), room);
    if (count == 0) return Error(ErrorCode::exhausted, "full");
    room -= count;
    posts.push_back(count);
    std::vector<std::shared_ptr<engine::Stream>> streams;
    for (const engine::Request& request : requests.first(count)) {
      running.push_back(std::make_shared<HeldStream>(static_cast<int>(request.prompt.size())));
      streams.push_back(running.back());
    }
    return streams;
  }
  std::optional<engine::CallSize> call_size() const override { return call; }

  Result<std::shared_ptr<engine::Stream>> submit(engine::Request /*request*/) override { return unused(); }
  Result<void> check(const engine::Request& /*request*/) const override { return unused(); }
  engine::EngineStats stats() const override { return {}; }
  int64_t max_context() const override { return 0; }
  void drain() override {}
  void abort(Error /*error*/) override {}
  bool idle() const override { return running.empty(); }
  Result<void> check_books() override { return unused(); }
  Result<int64_t> save_prefixes(const std::filesystem::path& /*path*/, std::string_view /*identity*/) override {
    return unused();
  }
  Result<int64_t> restore_prefixes(const std::filesystem::path& /*path*/, std::string_view /*identity*/) override {
    return unused();
  }

 private:
  static Error unused() { return {ErrorCode::internal, "not of this test"}; }
};

std::vector<engine::Request> requests_of(const std::vector<size_t>& sizes) {
  std::vector<engine::Request> requests(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i)
    requests[i].prompt.assign(sizes[i], 1);
  return requests;
}

// Ends `count` requests and lets the batch go on; gives how many it has posted then, at once.
size_t posted_after(size_t count, HeldEngine& engine, EmbeddingBatch& batch) {
  const size_t before = engine.posts.size();
  engine.end(count);
  const auto advanced = batch.advance();
  EXPECT_TRUE(advanced) << advanced.error().to_string();
  EXPECT_LE(engine.posts.size(), before + 1);
  return engine.posts.size() > before ? engine.posts.back() : 0;
}

TEST(EmbeddingBatch, KeepsAnEncoderInWholeCalls) {
  HeldEngine engine;
  engine.call = engine::CallSize{.texts = 4, .tokens = 100};
  EmbeddingBatch batch(engine, requests_of(std::vector<size_t>(18, 3)), "input", [] {});
  EXPECT_EQ(posted_after(0, engine, batch), 8U) << "two calls";
  EXPECT_EQ(posted_after(3, engine, batch), 0U);
  EXPECT_EQ(posted_after(1, engine, batch), 4U) << "one has ended, one is left, and one is to wait";
  EXPECT_EQ(posted_after(6, engine, batch), 6U);
  EXPECT_EQ(posted_after(8, engine, batch), 0U);
  EXPECT_TRUE(batch.done());
  EXPECT_EQ(batch.embeddings(), std::vector<std::vector<float>>(18, {3.0F}));
  EXPECT_EQ(batch.usage().prompt_tokens, 18 * 3);
}

TEST(EmbeddingBatch, CountsTheTokensOfCalls) {
  HeldEngine engine;
  engine.call = engine::CallSize{.texts = 8, .tokens = 10};
  EmbeddingBatch batch(engine, requests_of({6, 6, 6, 6, 6, 50, 1}), "input", [] {});
  EXPECT_EQ(posted_after(0, engine, batch), 3U);
  EXPECT_EQ(posted_after(1, engine, batch), 0U) << "12 tokens are more than a call";
  EXPECT_EQ(posted_after(1, engine, batch), 2U);
  EXPECT_EQ(posted_after(2, engine, batch), 0U) << "the long one goes alone";
  EXPECT_EQ(posted_after(1, engine, batch), 1U);
  EXPECT_EQ(posted_after(1, engine, batch), 1U);
  EXPECT_EQ(posted_after(1, engine, batch), 0U);
  EXPECT_TRUE(batch.done());
}

TEST(EmbeddingBatch, KeepsADecoderInAFewTexts) {
  HeldEngine engine;
  EmbeddingBatch batch(engine, requests_of(std::vector<size_t>(max_in_flight + 3, 2)), "input", [] {});
  EXPECT_EQ(posted_after(0, engine, batch), max_in_flight);
  EXPECT_EQ(posted_after(1, engine, batch), 1U);
  EXPECT_EQ(posted_after(4, engine, batch), 2U);
}

TEST(EmbeddingBatch, WaitsForRoomWhileSomeOfItRun) {
  HeldEngine engine;
  engine.call = engine::CallSize{.texts = 4, .tokens = 100};
  engine.room = 3;
  EmbeddingBatch batch(engine, requests_of(std::vector<size_t>(5, 1)), "input", [] {});
  EXPECT_EQ(posted_after(0, engine, batch), 3U);
  EXPECT_EQ(posted_after(1, engine, batch), 0U);
  engine.room = 1;
  EXPECT_EQ(posted_after(0, engine, batch), 1U);
  engine.end(3);
  const auto refused = batch.advance();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::exhausted);
}

}  // namespace
}  // namespace tidemill::serve
