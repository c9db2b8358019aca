#include "serve/embedding_batch.hpp"

#include <iterator>
#include <limits>
#include <span>
#include <utility>

#include "observe/semantic_conventions.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace attribute = observe::semconv::attribute;

void EmbeddingBatch::Amount::add(const engine::Request& request) {
  ++texts;
  tokens += std::ssize(request.prompt);
}

void EmbeddingBatch::Amount::remove(const engine::Request& request) {
  --texts;
  tokens -= std::ssize(request.prompt);
}

EmbeddingBatch::EmbeddingBatch(engine::Engine& engine, std::vector<engine::Request> requests, std::string param,
                               std::function<void()> wake)
    : engine_(engine),
      requests_(std::move(requests)),
      param_(std::move(param)),
      wake_(std::move(wake)),
      embeddings_(requests_.size()),
      scores_(requests_.size()) {
  if (const auto call = engine_.call_size()) {
    refill_ = {.texts = call->texts, .tokens = call->tokens};
    most_ = {.texts = 2 * call->texts, .tokens = 2 * call->tokens};
  } else {
    constexpr auto texts = static_cast<int64_t>(max_in_flight);
    constexpr int64_t any = std::numeric_limits<int64_t>::max();
    refill_ = {.texts = texts - 1, .tokens = any};
    most_ = {.texts = texts, .tokens = any};
  }
}

EmbeddingBatch::~EmbeddingBatch() {
  for (const Running& running : running_) {
    running.stream->on_ready({});
    running.stream->cancel();
  }
}

size_t EmbeddingBatch::next_count() const {
  if (!in_flight_.within(refill_)) return 0;
  Amount amount = in_flight_;
  size_t end = next_;
  for (; end < requests_.size(); ++end) {
    amount.add(requests_[end]);
    if (!amount.within(most_) && amount.texts > 1) break;  // alone, every text goes
  }
  return end - next_;
}

Result<void> EmbeddingBatch::advance() {
  TM_CHECK(take_events());
  const size_t count = next_count();
  if (count == 0) return {};
  auto streams = engine_.submit_all(std::span<const engine::Request>(requests_).subspan(next_, count));
  if (!streams && streams.error().code() == ErrorCode::exhausted && !running_.empty()) return {};
  if (!streams) {
    Error error = std::move(streams).error();
    return error.param() == "prompt" ? std::move(error).with_param(param_) : std::move(error);
  }
  for (auto& stream : *streams) {
    stream->on_ready(wake_);
    in_flight_.add(requests_[next_]);
    running_.push_back({next_, std::move(stream)});
    ++next_;
  }
  return {};
}

Result<void> EmbeddingBatch::take_events() {
  for (size_t i = 0; i < running_.size();) {
    Running& running = running_[i];
    while (auto event = running.stream->try_next()) {
      if (event->error) return *event->error;
      if (event->finish == engine::FinishReason::cancelled) {
        return Error(ErrorCode::unavailable, "the request was cancelled because the server is stopping");
      }
      if (!event->embedding.empty()) embeddings_[running.index] = std::move(event->embedding);
      if (event->score) scores_[running.index] = static_cast<double>(*event->score);
      if (event->usage) {
        usage_.prompt_tokens += event->usage->prompt_tokens;
        usage_.cached_tokens += event->usage->cached_tokens;
      }
    }
    if (running.stream->ended()) {
      in_flight_.remove(requests_[running.index]);
      running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
    } else {
      ++i;
    }
  }
  return {};
}

Result<engine::Request> embedding_request(const Serving& serving, const wire::Prompt& text, std::string_view param,
                                          std::string id) {
  engine::Request request;
  request.kind = engine::Request::Kind::embed;
  request.id = std::move(id);
  request.max_tokens = 0;
  TM_TRY(request.prompt, prompt_tokens(*serving.model, serving.engine->max_context(), text, param));
  return request;
}

void describe_texts(Call& call, const Serving& serving, std::string_view operation, std::string_view wanted_model) {
  const std::string& model = serving.model->name();
  call.span().set(attribute::operation_name, std::string(operation));
  call.span().set(attribute::provider_name, std::string(observe::semconv::provider));
  call.span().set(attribute::request_model, wanted_model.empty() ? model : std::string(wanted_model));
  call.span().set(attribute::response_model, model);
}

asio::awaitable<std::unique_ptr<EmbeddingBatch>> run_batch(Call& call, const Serving& serving,
                                                           std::vector<engine::Request> requests,
                                                           std::string_view param) {
  for (engine::Request& request : requests) {
    request.parent = call.span().context();
    request.tenant = call.tenant();
  }
  call.end_receive();
  auto batch = std::make_unique<EmbeddingBatch>(*serving.engine, std::move(requests), std::string(param),
                                                call.exchange().waker());
  while (true) {
    auto advanced = batch->advance();
    if (!advanced) {
      (void)co_await call.refuse(std::move(advanced).error());
      co_return nullptr;
    }
    if (batch->done()) break;
    const wire::Wake wake = co_await call.exchange().wait();
    if (wake == wire::Wake::disconnected) co_return nullptr;
  }
  call.note_usage(batch->usage(), {});
  co_return std::move(batch);
}

}  // namespace tidemill::serve
