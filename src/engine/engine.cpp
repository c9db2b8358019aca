#include "engine/engine.hpp"

#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <limits>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "engine/channel.hpp"
#include "engine/engine_loop.hpp"
#include "engine/job.hpp"
#include "engine/mailbox.hpp"
#include "engine/step_cost.hpp"
#include "engine/telemetry.hpp"
#include "engine/validate.hpp"

namespace tidemill::engine {
namespace {

base::Error invalid_option(std::string name, std::string message) {
  return base::Error(base::ErrorCode::invalid_argument, std::move(message)).with_param(std::move(name));
}

base::Result<void> validate(const EngineOptions& options, int64_t model_context) {
  if (options.step_tokens < 1) {
    return invalid_option("step_tokens", fmt::format("step_tokens must be at least 1, not {}", options.step_tokens));
  }
  if (options.max_running < 1 || options.max_running > options.step_tokens) {
    return invalid_option("max_running", fmt::format("max_running must be from 1 to step_tokens, which is {}, not {}",
                                                     options.step_tokens, options.max_running));
  }
  if (options.max_waiting < 1) {
    return invalid_option("max_waiting", fmt::format("max_waiting must be at least 1, not {}", options.max_waiting));
  }
  if (options.max_context < 0 || options.max_context > model_context) {
    return invalid_option("max_context",
                          fmt::format("max_context must be from 1 to the model's {} (or 0 for that), not {}",
                                      model_context, options.max_context));
  }
  if (!(options.priority_seconds >= 0 && options.priority_seconds <= 3600)) {
    return invalid_option("priority_seconds",
                          fmt::format("priority_seconds must be from 0 to 3600, not {}", options.priority_seconds));
  }
  if (options.max_unread_bytes < 1) {
    return invalid_option("max_unread_bytes",
                          fmt::format("max_unread_bytes must be at least 1, not {}", options.max_unread_bytes));
  }
  const int proposal = options.speculation.max_proposal;
  if (proposal < 1 || proposal >= StepCost::kMostRows) {
    return invalid_option("max_proposal",
                          fmt::format("max_proposal must be from 1 to {}, not {}", StepCost::kMostRows - 1, proposal));
  }
  return {};
}

base::Result<std::unique_ptr<tensor::KvCache>> make_cache(const model::Model& model, tensor::Device& device,
                                                          const EngineOptions& options) {
  tensor::KvShape shape = model.kv_shape();
  shape.type = options.kv_type;
  const auto block_bytes = static_cast<int64_t>(tensor::kv_block_bytes(shape));
  shape.blocks = std::min<int64_t>(options.kv_bytes / block_bytes, std::numeric_limits<Block>::max());
  if (shape.blocks < 1) {
    return invalid_option("kv_bytes",
                          fmt::format("the KV cache may take {} bytes, one block of {} tokens of this model takes {}",
                                      options.kv_bytes, tensor::kKvBlockTokens, block_bytes));
  }
  return device.make_kv_cache(shape);
}

class LoopingEngine final : public Engine {
 public:
  LoopingEngine(EngineLoop::Parts parts, const EngineOptions& options, observe::Tracer& tracer,
                observe::Metrics& metrics)
      : limits_{parts.model.hyper_parameters().vocabulary, parts.max_context},
        max_unread_bytes_(options.max_unread_bytes),
        tokenizer_(parts.tokenizer),
        mailbox_(std::make_shared<Mailbox>(options.max_waiting)),
        telemetry_(tracer, metrics, parts.clock, options.model_name, tensor::kKvBlockTokens,
                   parts.cache->shape().blocks),
        loop_(std::move(parts), options, *mailbox_, telemetry_),
        thread_([this] { loop_.run(); }) {}

  ~LoopingEngine() override {
    mailbox_->close();
    thread_.join();
  }

  base::Result<std::shared_ptr<Stream>> submit(Request request) override {
    TM_CHECK(engine::validate(request, limits_));
    if (request.id.empty()) request.id = base::random_id("req-");
    auto job = std::make_unique<Job>(std::move(request));
    job->number = next_number_.fetch_add(1);
    job->seed = job->request.sampling.seed.value_or(base::random_u64());
    TM_TRY(job->choices, start_choices(job->request, tokenizer_, job->seed, limits_.max_context));
    job->channel = std::make_shared<Channel>(max_unread_bytes_);
    const uint64_t number = job->number;
    auto channel = job->channel;
    telemetry_.submitted(*job);
    TM_CHECK(mailbox_->post(std::move(job)));
    return make_stream(std::move(channel), mailbox_, number);
  }

  base::Result<void> check(const Request& request) const override {
    TM_CHECK(engine::validate(request, limits_));
    if (request.resumed.empty()) return {};
    auto choices = start_choices(request, tokenizer_, 0, limits_.max_context);
    if (!choices) return std::move(choices).error();
    return {};
  }
  EngineStats stats() const override { return loop_.stats(); }
  int64_t max_context() const override { return limits_.max_context; }
  void drain() override { mailbox_->drain(); }
  void abort(base::Error error) override {
    (void)mailbox_->post_errand([this, error = std::move(error)] { loop_.fail_all(error); });
  }
  bool idle() const override { return mailbox_->in_flight() == 0; }
  base::Result<void> check_books() override {
    return on_thread<void>([this] { return loop_.audit(); });
  }
  base::Result<int64_t> save_prefixes(const std::filesystem::path& path, std::string_view identity) override {
    return on_thread<int64_t>([&] { return loop_.save_prefixes(path, identity); });
  }
  base::Result<int64_t> restore_prefixes(const std::filesystem::path& path, std::string_view identity) override {
    return on_thread<int64_t>([&] { return loop_.restore_prefixes(path, identity); });
  }

 private:
  // Has the engine's thread do `work` between two steps, and waits for it.
  template <typename T>
  base::Result<T> on_thread(const std::function<base::Result<T>()>& work) {
    std::promise<base::Result<T>> promise;
    if (!mailbox_->post_errand([&] { promise.set_value(work()); })) {
      return base::Error(base::ErrorCode::unavailable, "the engine has stopped");
    }
    return promise.get_future().get();
  }

  const RequestLimits limits_;
  const int64_t max_unread_bytes_;
  const text::Tokenizer& tokenizer_;
  const std::shared_ptr<Mailbox> mailbox_;  // shared with streams, which may outlive the engine
  Telemetry telemetry_;
  EngineLoop loop_;
  std::atomic<uint64_t> next_number_{0};
  std::thread thread_;  // the last member: it uses all others
};

}  // namespace

base::Result<std::unique_ptr<Engine>> Engine::start(model::Model& model, tensor::Device& device,
                                                    const text::Tokenizer& tokenizer, const EngineOptions& options,
                                                    observe::Tracer& tracer, observe::Metrics& metrics,
                                                    const base::Clock& clock) {
  const int64_t model_context = model.hyper_parameters().context;
  TM_CHECK(validate(options, model_context));
  TM_TRY(auto cache, make_cache(model, device, options));
  int64_t context = options.max_context > 0 ? options.max_context : model_context;
  const int64_t capacity = cache->shape().blocks * tensor::kKvBlockTokens;
  if (context > capacity) {
    base::log::warn("the KV cache holds {} tokens, so no sequence can be longer, though the context would be {}",
                    capacity, context);
    context = capacity;
  }
  EngineLoop::Parts parts{model, tokenizer, clock, std::move(cache), context};
  return std::unique_ptr<Engine>(std::make_unique<LoopingEngine>(std::move(parts), options, tracer, metrics));
}

}  // namespace tidemill::engine
