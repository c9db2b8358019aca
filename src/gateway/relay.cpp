#include "gateway/relay.hpp"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "gateway/json_members.hpp"
#include "gateway/proxy_headers.hpp"
#include "wire/sse.hpp"

namespace tidemill::gateway {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

// Of a refusal that may have to be handed on.
constexpr size_t max_refusal_bytes = size_t{256} << 10;
// Of backends that were asked to go on with one stream.
constexpr int most_denials = 3;

// Another backend may do what this one does not want to do now.
bool is_refusal(int status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

bool is_event_stream(const wire::HttpResponse& head) {
  return head.headers.find("content-type").value_or("").starts_with(wire::sse_content_type);
}

double chance() {
  return static_cast<double>(base::random_u64() >> 11) * 0x1p-53;
}

// While it lives, a client that goes, or a backend that is found to be frozen, ends the try.
class Watch {
 public:
  Watch(wire::Exchange& exchange, Backend& backend, base::SteadyTime now)
      : exchange_(exchange), backend_(backend), hang_up_(std::make_shared<HangUp>(exchange.executor(), now)) {
    exchange.on_disconnect([this] { hang_up_->cancellation().cancel(); });
    backend.hang_ups().add(hang_up_);
  }
  ~Watch() {
    backend_.hang_ups().remove(hang_up_.get());
    exchange_.on_disconnect({});
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  HangUp& operator*() const { return *hang_up_; }

 private:
  wire::Exchange& exchange_;
  Backend& backend_;
  std::shared_ptr<HangUp> hang_up_;
};

Error broken(std::string_view why) {
  return {ErrorCode::unavailable, std::string(why)};
}

}  // namespace

Relay::Relay(Service& service, Call& call, RelayRequest request)
    : service_(service),
      call_(call),
      request_(std::move(request)),
      options_(service.options()),
      dialect_(dialect_of(call.request().path)),
      plan_(options_->retry_options()),
      stream_end_(dialect_) {}

asio::awaitable<void> Relay::run() {
  co_await try_backends();
  if (call_.record().status == 200) (void)settle();
}

// Once there is an answer: what it took, as far as it says so, else as it was estimated.
std::optional<access::Money> Relay::settle() {
  const TokenUsage known = usage();
  std::optional<access::Money> cost;
  if (request_.passage != nullptr) {
    const access::Usage used{.prompt_tokens = known.prompt_tokens.value_or(request_.prompt_tokens),
                             .cached_tokens = known.cached_tokens.value_or(0),
                             .output_tokens = known.output_tokens.value_or(stream_end_.events())};
    cost = request_.passage->settle(used);
  }
  if (cost) cost_ = access::to_string(*cost);
  call_.note_usage(known, cost_);
  return cost;
}

void Relay::add_rates(wire::Headers& headers) const {
  if (request_.passage == nullptr) return;
  for (auto& [name, value] : request_.passage->headers())
    headers.set(name, std::move(value));
}

asio::awaitable<void> Relay::try_backends() {
  Tried failure;
  auto picked = service_.fleet().pick(request_.wanted, tried_);
  while (!call_.exchange().disconnected()) {
    if (!picked) {
      std::optional<base::Duration> pause;
      if (picked.error().code() == ErrorCode::unavailable) {
        pause = plan_.while_nobody(service_.clock().now(), chance());
      }
      if (!pause && failure) co_return co_await conclude(*failure);
      if (!pause) {
        (void)co_await call_.refuse(picked.error());
        co_return;
      }
      if (co_await call_.exchange().wait(*pause) == wire::Wake::disconnected) co_return;
      picked = service_.fleet().pick(request_.wanted, tried_);
      continue;
    }
    Lease lease = std::move(*picked);
    const Backend& backend = *lease;
    call_.set_backend(backend.name());
    ++call_.record().tries;
    failure = co_await attempt(lease);
    if (call_.exchange().disconnected()) co_return;  // the lease ends as abandoned
    lease.end(failure ? failure->outcome : Outcome::answered, usage());
    if (!failure) co_return;
    base::log::debug("{}: {}: {}", call_.id(), backend.name(), failure->error.to_string());
    tried_.push_back(&backend);
    if (begun() && chat_ && chat_->finished()) co_return co_await end_foreign_chat();
    if (!may_go_on(*failure)) co_return co_await conclude(*failure);
    request_.wanted.marking = begun() && kind_ == SseMarks::Kind::marked;
    picked = service_.fleet().pick(request_.wanted, tried_);
    const auto pause = plan_.after_failure(picked.has_value(), service_.clock().now(), chance());
    if (!pause) co_return co_await conclude(*failure);
    if (!begun()) service_.counters().retries.add();
    if (picked) continue;
    tried_.clear();
    if (co_await call_.exchange().wait(*pause) == wire::Wake::disconnected) co_return;
    picked = service_.fleet().pick(request_.wanted, tried_);
  }
}

// What the answer says of itself, and what its marks say.
TokenUsage Relay::usage() const {
  TokenUsage usage = usage_;
  if (!usage.output_tokens && kind_ == SseMarks::Kind::marked) usage.output_tokens = progress_.tokens();
  return usage;
}

bool Relay::may_go_on(const Failure& failure) {
  if (!begun()) return true;
  // Backends that are well and do not take the stream up will not do so later either.
  if (failure.outcome == Outcome::answered && ++denials_ > most_denials) return false;
  return ways_on() != Resume::none;
}

Relay::Resume Relay::ways_on() const {
  if (resume_mode_ == "off") return Resume::none;
  if (kind_ == SseMarks::Kind::marked) return progress_.opened() ? Resume::exact : Resume::none;
  return resume_mode_ == "auto" && chat_ && chat_->resumable() ? Resume::best_effort : Resume::none;
}

// Hanging up may come between two reads, where there is nothing to be ended.
Relay::Failure Relay::gone() {
  return {Outcome::abandoned, Error(ErrorCode::cancelled, "the client has closed the connection")};
}

wire::Headers Relay::make_headers(const Backend& backend, const observe::Span& span) {
  wire::Headers headers = request_headers(call_.request(), call_.id(), backend.options().api_key, span.context());
  if (request_.outline.stream && dialect_ != Dialect::other && backend.options().resume != "off") {
    headers.add(std::string(resumable_header), "1");
  }
  return headers;
}

Result<std::string> Relay::make_resume_body() const {
  if (kind_ != SseMarks::Kind::marked) return chat_->resume_body(request_.body);
  return with_member(request_.body, request_.outline.closing_brace, resume_member, progress_.value());
}

asio::awaitable<Relay::Tried> Relay::attempt(Lease& lease) {
  Backend& backend = *lease;
  observe::Span span = service_.tracer().start("upstream", call_.span().context(), observe::SpanKind::client);
  span.set("tidemill.backend", backend.name());
  span.set("tidemill.try", int64_t{call_.record().tries});
  std::string resume_body;
  if (begun()) {
    auto made = make_resume_body();
    if (!made) co_return Failure{Outcome::answered, std::move(made).error()};
    resume_body = *std::move(made);
  }
  const wire::Headers headers = make_headers(backend, span);
  const std::string target = backend.target(call_.request().target);
  const base::Duration silence = request_.outline.stream ? options_->stall_timeout : options_->answer_timeout;
  const Watch watch(call_.exchange(), backend, service_.clock().now());
  const wire::OutgoingRequest request{
      .to = &backend.url(),
      .method = call_.request().method,
      .target = target,
      .headers = &headers,
      .body = begun() ? std::string_view(resume_body) : request_.body,
      .repeatable = true,  // what was asked for twice is computed twice, and that is all
      .timeouts = {.connect = options_->connect_timeout, .first_byte = silence, .idle = silence},
      .cancellation = &(*watch).cancellation()};
  auto answer = co_await service_.pool().open(request);
  if (!answer) {
    span.fail(answer.error().to_string());
    co_return Failure{Outcome::failed, std::move(answer).error()};
  }
  const int status = answer->head().status;
  const bool events = is_event_stream(answer->head());
  Tried tried;
  if (is_refusal(status)) {
    co_await keep_refusal(*answer);
    tried = Failure{Outcome::refused, broken(fmt::format("the backend answered {}", status))};
  } else if (begun() && (status != 200 || !events)) {
    tried =
        Failure{Outcome::answered, broken(fmt::format("the backend answered {} to a stream to go on with", status))};
  } else if (events) {
    tried = co_await relay_events(lease, *answer, *watch);
  } else {
    tried = co_await relay_whole(*answer);
  }
  if (tried) span.fail(tried->error.to_string());
  co_return tried;
}

// An answer that is no stream is collected first, so that it can still come from elsewhere when it breaks off.
asio::awaitable<Relay::Tried> Relay::relay_whole(wire::ClientStream& answer) {
  wire::HttpResponse response;
  response.status = answer.head().status;
  while (true) {
    auto piece = co_await answer.next();
    if (!piece) co_return Failure{Outcome::failed, std::move(piece).error()};
    if (piece->empty()) break;
    if (call_.exchange().disconnected()) co_return gone();
    if (response.body.size() + piece->size() > options_->max_answer.bytes) {
      co_return Failure{Outcome::failed, broken("the backend's answer is larger than gateway.max_answer")};
    }
    response.body += *piece;
  }
  usage_.take(response.body);
  response.headers = response_headers(answer.head().headers);
  if (request_.filter != nullptr) {
    const auto passed = co_await request_.filter->whole(response);
    if (!passed) {
      (void)co_await call_.refuse(passed.error());
      co_return std::nullopt;
    }
  }
  if (response.status == 200) (void)settle();
  if (!cost_.empty()) response.headers.set("X-Tidemill-Cost", cost_);
  add_rates(response.headers);
  (void)co_await call_.respond(std::move(response));
  co_return std::nullopt;
}

// Appends to `out` what may go to the client. On an error, what came before it is there all the same.
Result<void> Relay::take(SseMarks& marks, std::string_view bytes, std::string& out) {
  TM_CHECK(marks.add(bytes));
  while (true) {
    const size_t sure = out.size();
    const auto mark = marks.next(out);
    if (!mark) return {};
    auto taken = progress_.take(*mark);
    if (taken) continue;
    out.resize(sure);  // its tokens are not known, so it has to come again
    return taken;
  }
}

asio::awaitable<Relay::Tried> Relay::relay_events(Lease& lease, wire::ClientStream& answer, HangUp& hang_up) {
  Backend& backend = *lease;
  const bool resumed = begun();
  bool counted = false;  // as resumed
  bool moved = false;    // it has answered something
  SseMarks marks;
  std::string out;
  std::string adopted;
  while (true) {
    auto piece = co_await answer.next();
    if (!piece && progress_.ended()) break;  // nothing is missing but the end of the connection
    if (!piece) co_return Failure{Outcome::failed, std::move(piece).error()};
    if (piece->empty()) break;
    if (call_.exchange().disconnected()) co_return gone();
    hang_up.note_heard(service_.clock().now());
    out.clear();
    const auto taken = take(marks, *piece, out);
    if (marks.kind() != SseMarks::Kind::undecided &&
        backend.sends_marks() != (marks.kind() == SseMarks::Kind::marked)) {
      backend.note_marks(marks.kind() == SseMarks::Kind::marked);
    }
    if (resumed && kind_ == SseMarks::Kind::marked && marks.kind() == SseMarks::Kind::foreign) {
      co_return Failure{Outcome::answered, broken("the backend cannot take up a stream exactly")};
    }
    if (!begun() && !out.empty()) {
      kind_ = marks.kind();
      resume_mode_ = backend.options().resume;
      const bool plain_chat =
          dialect_ == Dialect::chat && request_.outline.choices == 1 && request_.outline.prompt.starts_with('[');
      if (kind_ == SseMarks::Kind::foreign && plain_chat) chat_.emplace();
    }
    if (!out.empty() && !std::exchange(moved, true)) {
      lease.begin_answer();
      if (request_.passage != nullptr) request_.passage->first_token();
    }
    std::string_view ready = out;
    if (resumed && !out.empty()) {
      adopted.clear();
      if (!std::exchange(counted, true)) note_resumed(adopted);
      if (kind_ == SseMarks::Kind::foreign) {
        chat_->adopt(out, adopted);
        ready = adopted;
      }
    }
    if (!ready.empty()) {
      const bool sent = co_await send(answer, ready);
      if (!sent) co_return std::nullopt;
    }
    if (!taken) co_return Failure{Outcome::failed, taken.error()};
  }
  out.clear();
  marks.finish(out);
  co_return co_await finish_stream(marks, std::move(out), answer);
}

// The stream goes on. What the client is told of it is appended to `out`.
void Relay::note_resumed(std::string& out) {
  ++call_.record().resumed;
  const bool exact = kind_ == SseMarks::Kind::marked;
  (exact ? service_.counters().exact_resumes : service_.counters().best_effort_resumes).add();
  call_.span().event(exact ? "resumed" : "resumed best-effort");
  if (!exact) out += wire::sse_comment("resumed best-effort");
}

// The backend has ended its stream: well, if it has said all that there is to say.
asio::awaitable<Relay::Tried> Relay::finish_stream(const SseMarks& marks, std::string out, wire::ClientStream& answer) {
  const bool marked = marks.kind() == SseMarks::Kind::marked;
  if (marked && !progress_.ended()) {
    co_return Failure{Outcome::failed, broken("the backend ended its stream in the middle")};
  }
  if (!marked && !out.empty()) {
    const bool sent = co_await send(answer, out);
    if (!sent) co_return std::nullopt;
  }
  if (!begun()) {
    if (!marked && dialect_ != Dialect::other)
      co_return Failure{Outcome::failed, broken("the backend's stream is empty")};
    wire::Headers headers = response_headers(answer.head().headers);
    const auto started = co_await call_.begin_stream(answer.head().status, std::move(headers));
    if (!started) co_return std::nullopt;
  } else if (!marked && !stream_end_.seen()) {
    co_return Failure{Outcome::failed, broken("the backend ended its stream in the middle")};
  }
  (void)co_await call_.end();
  co_return std::nullopt;
}

// False: the call is over, because the client has gone or the filter refused.
asio::awaitable<bool> Relay::send(const wire::ClientStream& answer, std::string_view bytes) {
  if (!begun()) {
    wire::Headers headers = response_headers(answer.head().headers);
    headers.set("X-Accel-Buffering", "no");  // nginx would collect the stream
    add_rates(headers);
    const auto started = co_await call_.begin_stream(answer.head().status, std::move(headers));
    if (!started) co_return false;
  }
  plan_.note_progress();
  usage_.take(bytes);
  if (kind_ == SseMarks::Kind::foreign) {
    stream_end_.take(bytes);
    if (chat_) chat_->take(bytes);
  }
  if (request_.filter != nullptr) {
    filtered_.clear();
    const auto passed = co_await request_.filter->events(bytes, filtered_);
    if (!passed) {
      co_await fail_stream(passed.error());
      co_return false;
    }
    bytes = filtered_;
  }
  const auto written = co_await call_.write(bytes);
  co_return written.has_value();
}

// A backend that refuses says more than the gateway could: if all do, the client hears the last one's words.
asio::awaitable<void> Relay::keep_refusal(wire::ClientStream& answer) {
  wire::HttpResponse response;
  response.status = answer.head().status;
  while (response.body.size() <= max_refusal_bytes) {
    auto piece = co_await answer.next();
    if (!piece) co_return;
    if (piece->empty()) {
      response.headers = response_headers(answer.head().headers);
      refusal_ = std::move(response);
      co_return;
    }
    response.body += *piece;
  }
}

// Only the last words are missing.
asio::awaitable<void> Relay::end_foreign_chat() {
  if (!chat_->done()) {
    const auto told = co_await call_.write("data: [DONE]\n\n");
    if (!told) co_return;
  }
  (void)co_await call_.end();
}

asio::awaitable<void> Relay::conclude(const Failure& failure) {
  if (!begun()) {
    if (failure.outcome == Outcome::refused && refusal_) {
      call_.note_failure(failure.error);
      (void)co_await call_.respond(std::move(*refusal_));
      co_return;
    }
    const ErrorCode code = failure.error.code() == ErrorCode::timeout ? ErrorCode::timeout : ErrorCode::unavailable;
    (void)co_await call_.refuse(Error(code, fmt::format("no backend answered, after {} tries; the last one: {}",
                                                        call_.record().tries, failure.error.to_string())));
    co_return;
  }
  service_.counters().lost_streams.add();
  const Error error(ErrorCode::unavailable,
                    fmt::format("the stream broke off and could not be taken up: {}", failure.error.to_string()));
  co_await fail_stream(error);
}

asio::awaitable<void> Relay::fail_stream(const Error& error) {
  call_.note_failure(error);
  const std::string event = error_event(dialect_, error, stream_end_.events());
  const auto told = co_await call_.write(event);
  if (told) (void)co_await call_.end();
}

}  // namespace tidemill::gateway
