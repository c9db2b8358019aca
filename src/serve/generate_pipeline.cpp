// See generate_pipeline.hpp.
#include "serve/generate_pipeline.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/ids.hpp"
#include "base/memory.hpp"
#include "engine/validate.hpp"
#include "observe/semantic_conventions.hpp"
#include "serve/generation.hpp"
#include "serve/resumption.hpp"
#include "serve/stream_writer.hpp"

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

// How many tokens the system's message has, where they leave the context no room for anything else.
std::optional<std::string> overlong_system(const Serving& serving, const wire::GenerateRequest& request) {
  if (request.system_param.empty() || request.messages.empty()) return std::nullopt;
  const base::json::value* content = request.messages.front().get_object().if_contains("content");
  if (content == nullptr || !content->is_string()) return std::nullopt;
  const std::string_view text(content->get_string());
  const int64_t context = serving.engine->max_context();
  const text::Tokenizer& tokenizer = serving.model->tokenizer();
  if (const auto least = beyond_counting(tokenizer, text, context - 1)) return fmt::format("at least {}", *least);
  const auto tokens = tokenizer.encode(text, {.add_special = false, .parse_special = false, .literal = {}});
  if (!tokens || std::ssize(*tokens) < context) return std::nullopt;
  return fmt::format("{}", tokens->size());
}

// The error in the words of the request's dialect: a chat's prompt is its messages, or what stands before them.
Error name_fault(Error error, const Serving& serving, const wire::GenerateRequest& request) {
  if (error.param() == "resumed") return std::move(error).with_param(fmt::format("{}.tokens", wire::resume_member));
  if (request.dialect == Dialect::completions) return error;
  if (error.param() != "prompt" && error.param() != "messages") return error;
  if (error.code() == ErrorCode::too_large) {
    if (const auto tokens = overlong_system(serving, request)) {
      const std::string& param = request.system_param;
      return Error(error.code(), fmt::format("{} ('{}' alone has {})", error.message(), param, *tokens))
          .with_param(param);
    }
  }
  return std::move(error).with_param(request.dialect == Dialect::responses ? "input" : "messages");
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

// One that JSON's readers keep, whichever they are.
int64_t drawn_seed() {
  return static_cast<int64_t>(base::random_u64() >> 11U);
}

// From a body to engine requests, by steps of which the first is done once.
class Preparation {
 public:
  Preparation(const Service& service, const Pipeline& pipeline, std::string_view body, wire::StreamOrigin origin)
      : service_(service), pipeline_(pipeline), body_(body) {
    prepared_.origin = std::move(origin);
  }

  // Reads the body, the first time, and makes the work anew. With an allowance that is exceeded afterwards it is to be
  // called again.
  Result<void> run(text::StepAllowance* allowance) {
    if (!read_) {
      read_ = true;
      TM_CHECK(read());
    }
    return make_work(allowance);
  }

  Prepared& prepared() { return prepared_; }

 private:
  Result<void> read();
  Result<void> make_work(text::StepAllowance* allowance);

  const Service& service_;
  const Pipeline& pipeline_;
  std::string_view body_;
  bool read_ = false;
  std::optional<wire::Resume> resume_;
  Prepared prepared_;
};

Result<void> Preparation::read() {
  TM_TRY(resume_, wire::parse_resume(body_));
  if (resume_) prepared_.origin = resume_->origin;
  TM_TRY(prepared_.asked, pipeline_.parse(body_));
  wire::GenerateRequest& request = prepared_.asked.request;
  TM_CHECK(check_model(*service_.serving(), request.model));
  // Before the chat template, which an encoder does not have, is missed.
  if (!service_.serving()->model->generates() && !pipeline_.only_counts) {
    return engine::encodes_only(service_.serving()->model->ranks() ? engine::RequestLimits::Model::ranks
                                                                   : engine::RequestLimits::Model::embeds);
  }
  if (resume_ && !request.stream) {
    return Error(ErrorCode::invalid_argument, "'tidemill_resume' is only allowed when 'stream' is true")
        .with_param(std::string(wire::resume_member));
  }
  request.now = prepared_.origin.created;
  return {};
}

Result<void> Preparation::make_work(text::StepAllowance* allowance) {
  const Serving& serving = *service_.serving();
  const wire::GenerateRequest& request = prepared_.asked.request;
  const int64_t context = pipeline_.only_counts ? std::numeric_limits<int64_t>::max() : serving.engine->max_context();
  auto work = engine_work(*serving.model, context, request, prepared_.origin.id, allowance);
  if (!work) return name_fault(std::move(work).error(), serving, request);
  prepared_.work = std::move(*work);
  if (request.sampling.seed) prepared_.origin.seed.reset();
  if (resume_ && !request.sampling.seed && !prepared_.origin.seed) {
    return Error(ErrorCode::invalid_argument, "'tidemill_resume.open.seed' is missing, and the request has none either")
        .with_param("tidemill_resume.open.seed");
  }
  if (prepared_.origin.seed) seed_requests(*prepared_.origin.seed, prepared_.work);
  if (resume_) {
    TM_CHECK(resume_work(*resume_, serving, pipeline_.id_prefix, request.n, prepared_.work));
    prepared_.resumed = resume_->state;
  }
  prepared_.origin.model = serving.fingerprint;
  prepared_.origin.prompt = prompt_checksum(prepared_.work);
  return {};
}

// Whether the engine would take all of it.
Result<void> check_work(const Service& service, const Prepared& prepared) {
  const Serving& serving = *service.serving();
  for (const engine::Request& one : prepared.work.requests) {
    auto checked = serving.engine->check(one);
    if (!checked) return name_fault(std::move(checked).error(), serving, prepared.asked.request);
  }
  return {};
}

asio::awaitable<Result<void>> keep(const Pipeline& pipeline, const Generation& generation) {
  if (!pipeline.keep) co_return Result<void>();
  co_return co_await pipeline.keep(generation.usage());
}

// The events as server-sent events, until the last, an error, or the client's going.
asio::awaitable<void> stream(Service& service, Call& call, const Pipeline& pipeline, Generation& generation,
                             StreamWriter& writer) {
  wire::Exchange& exchange = call.exchange();
  auto begun = co_await call.begin_event_stream();
  if (!begun) co_return;
  writer.open();
  while (true) {
    while (writer.out().size() < write_batch_bytes || !writer.sendable()) {
      auto event = generation.try_next();
      if (!event) break;
      if (!*event) {
        call.note_failure(event->error());
        writer.fail(event->error());
        break;
      }
      writer.add(**event);
    }
    const bool last = generation.ended();
    if (last && !generation.failed()) {
      call.note_usage(generation.usage(), generation.finish_reasons());
      auto kept = co_await keep(pipeline, generation);
      if (kept) {
        writer.finish(generation.usage());
      } else {
        call.note_failure(kept.error());
        writer.fail(kept.error());
      }
    }
    if (!writer.out().empty()) {
      auto written = co_await exchange.write(writer.out());
      if (!written) {
        call.note_failure(written.error());
        co_return;
      }
      writer.out().clear();
      if (!last) continue;
    }
    if (last) break;
    const Wake wake = co_await exchange.wait(service.options().stream_keep_alive);
    if (wake == Wake::disconnected) {
      call.note_failure(Error(ErrorCode::cancelled, "the client has closed the connection"));
      co_return;
    }
    if (wake == Wake::timed_out) writer.keep_alive();
  }
  (void)co_await call.end_event_stream();
}

// How many tokens of an answer may come together: what each choice may have at most, and the prompt where it is echoed.
int64_t most_tokens(const Serving& serving, const wire::GenerateRequest& request, const EngineWork& work) {
  int64_t tokens = 0;
  for (const engine::Request& one : work.requests) {
    const int64_t prompt = std::ssize(one.prompt);
    const int64_t room = std::max<int64_t>(serving.engine->max_context() - prompt, 0);
    tokens += request.n * (std::min(request.max_tokens.value_or(0), room) + (request.echo ? prompt : 0));
  }
  return tokens;
}

// Refuses what could not be collected whole if the model makes use of all that it may. Without a limit of tokens nobody
// expects that it does, and collect() sees to it.
Result<void> check_size(const Service& service, const Prepared& prepared, const wire::Answer& answer) {
  const wire::GenerateRequest& request = prepared.asked.request;
  if (request.stream) return {};
  const int64_t tokens = most_tokens(*service.serving(), request, prepared.work);
  const auto most = static_cast<int64_t>(service.options().max_answer.bytes);
  const auto each = static_cast<int64_t>(answer.bytes_per_token());
  if (tokens <= most / each) return {};
  const bool responses = request.dialect == Dialect::responses;
  const std::string_view limit = responses ? "max_output_tokens" : "max_tokens";
  const size_t prompts = prepared.work.requests.size();
  std::string why = fmt::format("'{}'", limit);
  if (request.n > 1) why += fmt::format(" and 'n' {}", request.n);
  if (prompts > 1) why += fmt::format(" and {} prompts", prompts);
  if (request.echo) why += " and 'echo'";
  if (request.logprobs) why += fmt::format(", with 'logprobs' of {} likeliest", request.top_logprobs);
  return Error(ErrorCode::invalid_argument,
               fmt::format("the answer may have {} tokens of about {} bytes ({}); one that is not streamed may take {} "
                           "bytes (server.max_answer), which are {} such tokens: ask for less, or for a stream",
                           tokens, each, why, most, most / each))
      .with_param(request.n > 1 ? "n"
                  : prompts > 1 ? "prompt"
                                : std::string(limit));
}

// All events, then one body.
asio::awaitable<void> collect(const Service& service, Call& call, const Pipeline& pipeline, Generation& generation,
                              wire::Answer& answer) {
  constexpr size_t large = size_t{16} << 20;  // what is worth giving back at once
  const uint64_t most = service.options().max_answer.bytes;
  while (true) {
    while (auto event = generation.try_next()) {
      if (!*event) {
        (void)co_await call.refuse(std::move(*event).error());
        co_return;
      }
      answer.collect(**event);
      if (answer.collected_bytes() <= most) continue;
      generation.cancel();
      (void)co_await call.refuse(Error(
          ErrorCode::invalid_argument,
          fmt::format("the answer has come to more than {} bytes, which is the most that one takes which is not "
                      "streamed (server.max_answer): ask for fewer tokens, choices or probabilities, or for a stream",
                      most)));
      co_return;
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
  const size_t collected = answer.collected_bytes();
  (void)co_await call.respond(wire::HttpResponse::json(200, answer.whole(generation.usage())));
  if (collected > large) base::release_freed_memory();
}

}  // namespace

wire::StreamOrigin new_origin(const Service& service, std::string_view id_prefix) {
  wire::StreamOrigin origin;
  origin.id = base::random_id(id_prefix);
  origin.created = base::unix_nanos(service.clock().wall_now()) / 1'000'000'000;
  return origin;
}

asio::awaitable<Result<Prepared>> prepare(Service& service, Call& call, const Pipeline& pipeline, std::string_view body,
                                          wire::StreamOrigin origin, EngineCheck check) {
  Preparation preparation(service, pipeline, body, std::move(origin));
  auto work = [&](text::StepAllowance* allowance) -> Result<void> {
    TM_CHECK(preparation.run(allowance));
    if (check == EngineCheck::wanted) return check_work(service, preparation.prepared());
    return {};
  };
  auto done = co_await service.run_template_work(body.size() + pipeline.more_text_bytes, &call.exchange(), work);
  if (!done) co_return std::move(done).error();
  co_return std::move(preparation.prepared());
}

asio::awaitable<Result<void>> complete(Service& service, Call& call, EngineWork& work, std::stop_token given_up) {
  std::stop_source stop;
  const auto ask = [stop]() mutable { (void)stop.request_stop(); };
  const std::stop_callback on_given_up(std::move(given_up), ask);
  const std::stop_callback on_stopping(service.giving_up(), ask);
  for (const GrammarCache::Effort effort : {GrammarCache::Effort::slight, GrammarCache::Effort::full}) {
    if (!work.order) break;
    auto attempt = [&]() -> Result<bool> {
      return complete(*service.serving()->model, work, effort, stop.get_token());
    };
    auto done = co_await service.run_pooled(service.grammar_pool(effort), &call.exchange(), attempt, stop);
    if (!done && service.gives_up_waiting()) co_return Error(ErrorCode::unavailable, Service::stopping);
    if (!done) co_return std::move(done).error();
  }
  co_return Result<void>();
}

asio::awaitable<void> generate(Service& service, Call& call, Pipeline pipeline) {
  const Serving& serving = *service.serving();
  const std::string body = std::move(call.request().body);
  const bool marks = asks_for_marks(call.request());
  wire::StreamOrigin origin = new_origin(service, pipeline.id_prefix);
  if (marks) origin.seed = drawn_seed();
  auto prepared = co_await prepare(service, call, pipeline, body, std::move(origin), EngineCheck::wanted);
  if (!prepared) {
    (void)co_await call.refuse(std::move(prepared).error());
    co_return;
  }
  const wire::GenerateRequest& request = prepared->asked.request;
  auto completed = co_await complete(service, call, prepared->work);
  if (!completed) {
    (void)co_await call.refuse(name_fault(std::move(completed).error(), serving, request));
    co_return;
  }
  const std::string& model = serving.model->name();
  describe(call.span(), request, model);
  call.span().set(attribute::response_id, prepared->origin.id);
  wire::AnswerInfo info{.id = prepared->origin.id, .model = model, .created = prepared->origin.created};
  info.choices = static_cast<int>(prepared->work.requests.size()) * request.n;
  info.dropped_turns = prepared->work.dropped.turns;
  info.dropped_calls = prepared->work.dropped.calls;
  for (engine::Request& one : prepared->work.requests) {
    one.parent = call.span().context();
    one.tenant = call.tenant();
    info.prompt_tokens += std::ssize(one.prompt);
  }
  const std::unique_ptr<wire::Answer> answer = prepared->asked.answer(info);
  if (auto checked = check_size(service, *prepared, *answer); !checked) {
    (void)co_await call.refuse(std::move(checked).error());
    co_return;
  }
  call.end_receive();
  StreamWriter::Form form{.marks = std::nullopt,
                          .resumed = std::move(prepared->resumed),
                          .part = prepared->work.resumed,
                          .choices = static_cast<size_t>(info.choices),
                          .n = static_cast<size_t>(request.n)};
  if (marks) form.marks = std::move(prepared->origin);
  auto generation = Generation::submit(*serving.engine, std::move(prepared->work), request.n);
  if (!generation) {
    (void)co_await call.refuse(name_fault(std::move(generation).error(), serving, request));
    co_return;
  }
  (*generation)->on_ready(call.exchange().waker());
  call.exchange().on_disconnect([shared = *generation] { shared->cancel(); });
  if (request.stream) {
    StreamWriter writer(*answer, std::move(form));
    co_await stream(service, call, pipeline, **generation, writer);
  } else {
    co_await collect(service, call, pipeline, **generation, *answer);
  }
  const bool ended = (*generation)->ended();
  const bool whole = ended && !(*generation)->failed();
  if (!whole) call.note_usage((*generation)->usage_so_far(), (*generation)->finish_reasons());
  if (ended) service.note_completion((*generation)->usage().completion_tokens);
}

}  // namespace tidemill::serve
