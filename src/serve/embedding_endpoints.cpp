// POST /v1/embeddings. Every input is a request of its own to the engine; a few at a time, so that a batch of thousands
// neither overflows the queue nor keeps others out of it.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/ids.hpp"
#include "observe/semantic_conventions.hpp"
#include "serve/call.hpp"
#include "serve/endpoints.hpp"
#include "serve/generation.hpp"
#include "wire/openai_answer.hpp"
#include "wire/openai_request.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace attribute = observe::semconv::attribute;

namespace {

struct EmbeddingWork {
  wire::EmbeddingRequest request;
  std::vector<engine::Request> engine_requests;
};

Result<EmbeddingWork> prepare_embeddings(const LoadedModel& model, const Serving& serving, std::string_view body,
                                         const std::string& id) {
  EmbeddingWork prepared;
  TM_TRY(prepared.request, wire::parse_embedding_request(body));
  TM_CHECK(check_model(serving, prepared.request.model));
  const int64_t width = model.hyper_parameters().width;
  const auto dimensions = prepared.request.dimensions;
  if (dimensions && *dimensions != width) {
    return Error(ErrorCode::unsupported,
                 fmt::format("'dimensions' is {}, but this model's embeddings have {}", *dimensions, width))
        .with_param("dimensions");
  }
  for (size_t i = 0; i < prepared.request.inputs.size(); ++i) {
    engine::Request& one = prepared.engine_requests.emplace_back();
    one.kind = engine::Request::Kind::embed;
    one.id = fmt::format("{}-{}", id, i);
    one.max_tokens = 0;
    TM_TRY(one.prompt, prompt_tokens(model, serving.engine->max_context(), prepared.request.inputs[i], "input"));
  }
  return prepared;
}

// Runs the requests, at most `max_in_flight` at a time. Destroyed, it cancels what runs.
class EmbeddingBatch {
 public:
  EmbeddingBatch(engine::Engine& engine, std::vector<engine::Request> requests, std::function<void()> wake)
      : engine_(engine), requests_(std::move(requests)), wake_(std::move(wake)), embeddings_(requests_.size()) {}
  ~EmbeddingBatch() {
    for (const Running& running : running_) {
      running.stream->on_ready({});
      running.stream->cancel();
    }
  }
  EmbeddingBatch(const EmbeddingBatch&) = delete;
  EmbeddingBatch& operator=(const EmbeddingBatch&) = delete;

  // Takes what has come and submits what there is room for. A queue that is full is an error only while none of this
  // batch is in it, since otherwise there will be room.
  Result<void> advance() {
    TM_CHECK(take_events());
    while (next_ < requests_.size() && running_.size() < max_in_flight) {
      engine::Request request = requests_[next_];  // a copy, for another try
      auto stream = engine_.submit(std::move(request));
      if (!stream && stream.error().code() == ErrorCode::exhausted && !running_.empty()) return {};
      if (!stream) {
        Error error = std::move(stream).error();
        return error.param() == "prompt" ? std::move(error).with_param("input") : std::move(error);
      }
      (*stream)->on_ready(wake_);
      running_.push_back({next_, std::move(*stream)});
      ++next_;
    }
    return {};
  }

  bool done() const { return next_ == requests_.size() && running_.empty(); }
  const std::vector<std::vector<float>>& embeddings() const { return embeddings_; }
  const wire::Usage& usage() const { return usage_; }

 private:
  struct Running {
    size_t index;
    std::shared_ptr<engine::Stream> stream;
  };

  Result<void> take_events() {
    for (size_t i = 0; i < running_.size();) {
      Running& running = running_[i];
      while (auto event = running.stream->try_next()) {
        if (event->error) return *event->error;
        if (event->finish == engine::FinishReason::cancelled) {
          return Error(ErrorCode::unavailable, "the request was cancelled because the server is stopping");
        }
        if (!event->embedding.empty()) embeddings_[running.index] = std::move(event->embedding);
        if (event->usage) {
          usage_.prompt_tokens += event->usage->prompt_tokens;
          usage_.cached_tokens += event->usage->cached_tokens;
        }
      }
      if (running.stream->ended()) {
        running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
      } else {
        ++i;
      }
    }
    return {};
  }

  engine::Engine& engine_;
  std::vector<engine::Request> requests_;
  std::function<void()> wake_;
  std::vector<std::vector<float>> embeddings_;
  std::vector<Running> running_;
  size_t next_ = 0;
  wire::Usage usage_;
};

asio::awaitable<void> embeddings(Service& service, Call& call) {
  const Serving& serving = *service.serving();
  const std::string body = std::move(call.request().body);
  const std::string id = base::random_id("embd-");
  auto work = [&] { return prepare_embeddings(*serving.model, serving, body, id); };
  auto prepared = co_await service.run_text_work(body.size(), &call.exchange(), work);
  if (!prepared) {
    (void)co_await call.refuse(std::move(prepared).error());
    co_return;
  }
  const std::string& model = serving.model->name();
  call.span().set(attribute::operation_name, std::string(observe::semconv::operation::embeddings));
  call.span().set(attribute::provider_name, std::string(observe::semconv::provider));
  call.span().set(attribute::request_model, prepared->request.model.empty() ? model : prepared->request.model);
  call.span().set(attribute::response_model, model);
  for (engine::Request& one : prepared->engine_requests) {
    one.parent = call.span().context();
    one.tenant = call.tenant();
  }
  call.end_receive();
  EmbeddingBatch batch(*serving.engine, std::move(prepared->engine_requests), call.exchange().waker());
  while (true) {
    auto advanced = batch.advance();
    if (!advanced) {
      (void)co_await call.refuse(std::move(advanced).error());
      co_return;
    }
    if (batch.done()) break;
    const wire::Wake wake = co_await call.exchange().wait();
    if (wake == wire::Wake::disconnected) co_return;
  }
  call.note_usage(batch.usage(), {});
  (void)co_await call.respond(wire::HttpResponse::json(
      200, wire::embedding_response(batch.embeddings(), model, batch.usage().prompt_tokens, prepared->request.base64)));
}

}  // namespace

void add_embedding_endpoints(wire::Router& router, Service& service) {
  router.add("POST", "/v1/embeddings", api_handler(service, Needs::engine, embeddings));
}

}  // namespace tidemill::serve
