// An engine on the fake model, ready to be asked.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "engine/engine.hpp"
#include "engine/fake_model.hpp"
#include "engine/reference.hpp"

namespace tidemill::engine::test {

// Lets the model's steps through one by one, so that a test knows where the engine stands.
class Gate {
 public:
  // Called by the model before each step.
  void pass() {
    std::unique_lock lock(mutex_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_ || allowed_ > 0; });
    if (!open_) --allowed_;
  }
  // Waits until the engine is about to make its step number `count` (from 1).
  void wait_for(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrived_ >= count; });
  }
  void allow(int steps = 1) {
    const std::lock_guard lock(mutex_);
    allowed_ += steps;
    changed_.notify_all();
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void close() {
    const std::lock_guard lock(mutex_);
    open_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int arrived_ = 0;
  int allowed_ = 0;
  bool open_ = false;
};

struct Rig {
  explicit Rig(EngineOptions options = {}, int64_t context = 512) : model(context), options_(std::move(options)) {
    if (options_.kv_bytes == EngineOptions().kv_bytes) options_ = with_blocks(1024, options_);
  }
  ~Rig() {
    if (!engine) return;
    EXPECT_TRUE(checked());
  }

  // KV memory of that many blocks.
  static EngineOptions with_blocks(int64_t blocks, EngineOptions options = {}) {
    options.kv_type = tensor::KvType::f32;
    options.kv_bytes =
        blocks * static_cast<int64_t>(tensor::kv_block_bytes(
                     {.layers = 1, .kv_heads = 1, .head_dim = 32, .blocks = 0, .type = tensor::KvType::f32}));
    return options;
  }

  Engine& start() {
    auto started = Engine::start(model, device, *tokenizer, options_, tracer, metrics, clock);
    EXPECT_TRUE(started) << started.error().to_string();
    engine = std::move(*started);
    return *engine;
  }
  std::shared_ptr<Stream> submit(Request request) {
    if (!engine) start();
    auto stream = engine->submit(std::move(request));
    EXPECT_TRUE(stream) << stream.error().to_string();
    return stream ? *stream : nullptr;
  }
  Collected run(Request request) {
    const int n = request.n;
    const auto stream = submit(std::move(request));
    return stream ? collect(*stream, n) : Collected{};
  }
  // Runs the request and compares it with the reference.
  Collected run_checked(const Request& request, const std::string& what = "") {
    Collected collected = run(request);
    for (int i = 0; i < request.n; ++i)
      expect_same(collected.choices[static_cast<size_t>(i)], expected(request, i), what);
    return collected;
  }
  Answer expected(const Request& request, int choice = 0) {
    return reference(request, choice, *tokenizer, engine->max_context());
  }
  bool checked() {
    const auto books = engine->check_books();
    EXPECT_TRUE(books) << books.error().to_string();
    return books.has_value();
  }

  FakeModel model;
  FakeDevice device;
  std::unique_ptr<text::Tokenizer> tokenizer = fake_tokenizer();
  base::ManualClock clock;
  observe::Tracer tracer{clock};
  observe::Metrics metrics;
  std::unique_ptr<Engine> engine;  // goes first

 private:
  EngineOptions options_;
};

// Tokens 3 and up are letters.
inline Request request_of(std::vector<Token> prompt, int max_tokens = 8, uint64_t seed = 1) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.sampling.seed = seed;
  request.ignore_eos = true;
  return request;
}
inline std::vector<Token> prompt_of(int64_t size, int from = 0) {
  std::vector<Token> tokens;
  for (int64_t i = 0; i < size; ++i)
    tokens.push_back(static_cast<Token>(3 + (i * 7 + from) % 26));
  return tokens;
}

}  // namespace tidemill::engine::test
