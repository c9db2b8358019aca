#include "engine/engine.hpp"

#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <limits>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "engine/channel.hpp"
#include "engine/encoding_loop.hpp"
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
  return {};
}

// What means nothing to an encoder.
base::Result<void> validate(const SpeculationOptions& options) {
  const int proposal = options.max_proposal;
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

// `Loop` is EngineLoop or EncodingLoop.
template <typename Loop>
class LoopingEngine final : public Engine {
 public:
  LoopingEngine(const RequestLimits& limits, int64_t kv_blocks, typename Loop::Parts parts,
                const EngineOptions& options, observe::Tracer& tracer, observe::Metrics& metrics)
      : limits_(limits),
        max_unread_bytes_(options.max_unread_bytes),
        tokenizer_(parts.tokenizer),
        mailbox_(std::make_shared<Mailbox>(options.max_waiting)),
        telemetry_(tracer, metrics, parts.clock, options.model_name, tensor::kKvBlockTokens, kv_blocks),
        loop_(std::move(parts), options, *mailbox_, telemetry_),
        thread_([this] { loop_.run(); }) {}

  ~LoopingEngine() override {
    mailbox_->close();
    thread_.join();
  }

  base::Result<std::shared_ptr<Stream>> submit(Request request) override {
    std::vector<std::unique_ptr<Job>> jobs(1);
    TM_TRY(jobs.front(), make_job(std::move(request)));
    TM_TRY(const auto streams, post(std::move(jobs)));
    return streams.front();
  }

  base::Result<std::vector<std::shared_ptr<Stream>>> submit_all(std::span<const Request> requests) override {
    // One at least, so that the mailbox says what is wrong.
    const size_t count = std::min(requests.size(), std::max<size_t>(mailbox_->room(), 1));
    std::vector<std::unique_ptr<Job>> jobs(count);
    for (size_t i = 0; i < count; ++i) {
      TM_TRY(jobs[i], make_job(requests[i]));
    }
    return post(std::move(jobs));
  }
  std::optional<CallSize> call_size() const override { return loop_.call_size(); }

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
  base::Result<std::unique_ptr<Job>> make_job(Request request) {
    TM_CHECK(engine::validate(request, limits_));
    if (request.id.empty()) request.id = base::random_id("req-");
    auto job = std::make_unique<Job>(std::move(request));
    job->number = next_number_.fetch_add(1);
    job->seed = job->request.sampling.seed.value_or(base::random_u64());
    TM_TRY(job->choices, start_choices(job->request, tokenizer_, job->seed, limits_.max_context));
    job->channel = std::make_shared<Channel>(max_unread_bytes_);
    return job;
  }

  // Streams of those that the mailbox takes.
  base::Result<std::vector<std::shared_ptr<Stream>>> post(std::vector<std::unique_ptr<Job>> jobs) {
    std::vector<std::pair<std::shared_ptr<Channel>, uint64_t>> ends;
    for (const auto& job : jobs) {
      ends.emplace_back(job->channel, job->number);
      telemetry_.submitted(*job);
    }
    TM_TRY(const size_t taken, mailbox_->post(std::move(jobs)));
    std::vector<std::shared_ptr<Stream>> streams;
    for (auto& [channel, number] : std::span(ends).first(taken))
      streams.push_back(make_stream(std::move(channel), mailbox_, number));
    return streams;
  }

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
  Loop loop_;
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
  TM_CHECK(validate(options.speculation));
  TM_TRY(auto cache, make_cache(model, device, options));
  int64_t context = options.max_context > 0 ? options.max_context : model_context;
  const int64_t capacity = cache->shape().blocks * tensor::kKvBlockTokens;
  if (context > capacity) {
    base::log::warn("the KV cache holds {} tokens, so no sequence can be longer, though the context would be {}",
                    capacity, context);
    context = capacity;
  }
  const RequestLimits limits{.vocabulary = model.hyper_parameters().vocabulary, .max_context = context};
  const int64_t blocks = cache->shape().blocks;
  EngineLoop::Parts parts{model, tokenizer, clock, std::move(cache), context};
  return std::unique_ptr<Engine>(
      std::make_unique<LoopingEngine<EngineLoop>>(limits, blocks, std::move(parts), options, tracer, metrics));
}

base::Result<std::unique_ptr<Engine>> Engine::start(model::Encoder& encoder, const text::Tokenizer& tokenizer,
                                                    const EngineOptions& options, observe::Tracer& tracer,
                                                    observe::Metrics& metrics, const base::Clock& clock) {
  const model::HyperParameters& shape = encoder.hyper_parameters();
  TM_CHECK(validate(options, shape.context));
  const RequestLimits limits{.vocabulary = shape.vocabulary,
                             .max_context = options.max_context > 0 ? options.max_context : shape.context,
                             .model = encoder.ranks() ? RequestLimits::Model::ranks : RequestLimits::Model::embeds};
  EncodingLoop::Parts parts{encoder, tokenizer, clock};
  return std::unique_ptr<Engine>(
      std::make_unique<LoopingEngine<EncodingLoop>>(limits, 0, parts, options, tracer, metrics));
}

}  // namespace tidemill::engine
