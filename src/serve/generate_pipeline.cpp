// See generate_pipeline.hpp.
#include "serve/generate_pipeline.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.hpp"
#include "observe/semantic_conventions.hpp"
#include "serve/generation.hpp"
#include "wire/sse.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;
using wire::Dialect;
using wire::Wake;
namespace attribute = observe::semconv::attribute;

namespace {

// What a handler collects before it hands it to the socket.
constexpr size_t write_batch_bytes = size_t{64} << 10;

// A chat's prompt is its messages.
Error rename_param(Error error, Dialect dialect) {
  if (dialect == Dialect::completions) return error;
  if (error.param() == "prompt" || error.param() == "messages") {
    return std::move(error).with_param(dialect == Dialect::responses ? "input" : "messages");
  }
  return error;
}

void describe(observe::Span& span, const wire::GenerateRequest& request, const std::string& model) {
  const bool chat = request.dialect != Dialect::completions;
  span.set(attribute::operation_name,
           std::string(chat ? observe::semconv::operation::chat : observe::semconv::operation::text_completion));
  span.set(attribute::provider_name, std::string(observe::semconv::provider));
  span.set(attribute::request_model, request.model.empty() ? model : request.model);
  span.set(attribute::response_model, model);
  if (request.max_tokens) span.set(attribute::max_tokens, *request.max_tokens);
  if (request.sampling.temperature) span.set(attribute::temperature, *request.sampling.temperature);
  if (request.sampling.top_p) span.set(attribute::top_p, *request.sampling.top_p);
  if (request.sampling.seed) span.set(attribute::seed, *request.sampling.seed);
  if (request.n > 1) span.set(attribute::choice_count, int64_t{request.n});
}

asio::awaitable<Result<void>> keep(const Pipeline& pipeline, const Generation& generation) {
  if (!pipeline.keep) co_return Result<void>();
  co_return co_await pipeline.keep(generation.usage());
}

// The events as server-sent events, until the last, an error, or the client's going.
asio::awaitable<void> stream(Service& service, Call& call, const Pipeline& pipeline, Generation& generation,
                             wire::Answer& answer) {
  wire::Exchange& exchange = call.exchange();
  auto begun = co_await call.begin_event_stream();
  if (!begun) co_return;
  std::string out;
  answer.open_stream(out);
  while (true) {
    while (out.size() < write_batch_bytes) {
      auto event = generation.try_next();
      if (!event) break;
      if (!*event) {
        call.note_failure(event->error());
        answer.fail_stream(event->error(), out);
        break;
      }
      answer.stream(**event, out);
    }
    const bool last = generation.ended();
    if (last && !generation.failed()) {
      call.note_usage(generation.usage(), generation.finish_reasons());
      auto kept = co_await keep(pipeline, generation);
      if (kept) {
        answer.finish_stream(generation.usage(), out);
      } else {
        call.note_failure(kept.error());
        answer.fail_stream(kept.error(), out);
      }
    }
    if (!out.empty()) {
      auto written = co_await exchange.write(out);
      if (!written) {
        call.note_failure(written.error());
        co_return;
      }
      out.clear();
      if (!last) continue;
    }
    if (last) break;
    const Wake wake = co_await exchange.wait(service.options().stream_keep_alive);
    if (wake == Wake::disconnected) {
      call.note_failure(Error(ErrorCode::cancelled, "the client has closed the connection"));
      co_return;
    }
    if (wake == Wake::timed_out) answer.keep_alive(out);
  }
  (void)co_await exchange.end();
}

// All events, then one body.
asio::awaitable<void> collect(Call& call, const Pipeline& pipeline, Generation& generation, wire::Answer& answer) {
  while (true) {
    while (auto event = generation.try_next()) {
      if (!*event) {
        (void)co_await call.refuse(std::move(*event).error());
        co_return;
      }
      answer.collect(**event);
    }
    if (generation.ended()) break;
    const Wake wake = co_await call.exchange().wait();
    if (wake == Wake::disconnected) co_return;
  }
  call.note_usage(generation.usage(), generation.finish_reasons());
  auto kept = co_await keep(pipeline, generation);
  if (!kept) {
    (void)co_await call.refuse(std::move(kept).error());
    co_return;
  }
  (void)co_await call.respond(wire::HttpResponse::json(200, answer.whole(generation.usage())));
}

// How much work a body is, in bytes of text. A grammar may have to be compiled where one of these names occurs.
size_t text_work_bytes(std::string_view body) {
  constexpr std::array<std::string_view, 6> names = {
      "\"tools\"", "format\"", "\"guided_", "\"grammar\"", "\"structured_outputs\"", "\"output_config\""};
  const auto occurs = [body](std::string_view name) { return body.find(name) != std::string_view::npos; };
  return body.size() + (std::any_of(names.begin(), names.end(), occurs) ? Service::pooled_text_bytes : 0);
}

}  // namespace

Result<Prepared> prepare(const Service& service, const Pipeline& pipeline, std::string_view body,
                         const std::string& id) {
  const Serving& serving = *service.serving();
  Prepared prepared;
  TM_TRY(prepared.asked, pipeline.parse(body));
  TM_CHECK(check_model(serving, prepared.asked.request.model));
  auto work = engine_work(*serving.model, serving.engine->max_context(), prepared.asked.request, id);
  if (!work) return rename_param(std::move(work).error(), prepared.asked.request.dialect);
  prepared.work = std::move(*work);
  return prepared;
}

asio::awaitable<void> generate(Service& service, Call& call, Pipeline pipeline) {
  const Serving& serving = *service.serving();
  const std::string body = std::move(call.request().body);
  const std::string id = base::random_id(pipeline.id_prefix);
  auto work = [&] { return prepare(service, pipeline, body, id); };
  auto prepared = co_await service.run_text_work(text_work_bytes(body) + pipeline.more_text_bytes, work);
  if (!prepared) {
    (void)co_await call.refuse(std::move(prepared).error());
    co_return;
  }
  const wire::GenerateRequest& request = prepared->asked.request;
  const std::string& model = serving.model->name();
  describe(call.span(), request, model);
  call.span().set(attribute::response_id, id);
  wire::AnswerInfo info{
      .id = id, .model = model, .created = base::unix_nanos(service.clock().wall_now()) / 1'000'000'000};
  info.choices = static_cast<int>(prepared->work.requests.size()) * request.n;
  info.dropped_turns = prepared->work.dropped_turns;
  for (engine::Request& one : prepared->work.requests) {
    one.parent = call.span().context();
    one.tenant = call.tenant();
    info.prompt_tokens += std::ssize(one.prompt);
  }
  call.end_receive();
  auto generation = Generation::submit(*serving.engine, std::move(prepared->work), request.n);
  if (!generation) {
    (void)co_await call.refuse(rename_param(std::move(generation).error(), request.dialect));
    co_return;
  }
  (*generation)->on_ready(call.exchange().waker());
  call.exchange().on_disconnect([shared = *generation] { shared->cancel(); });
  const std::unique_ptr<wire::Answer> answer = prepared->asked.answer(info);
  if (request.stream) {
    co_await stream(service, call, pipeline, **generation, *answer);
  } else {
    co_await collect(call, pipeline, **generation, *answer);
  }
  if ((*generation)->ended()) service.note_completion((*generation)->usage().completion_tokens);
}

}  // namespace tidemill::serve
