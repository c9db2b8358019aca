#include "gateway/relay.hpp"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "base/ids.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "gateway/backend_request.hpp"
#include "gateway/json_members.hpp"
#include "gateway/proxy_headers.hpp"
#include "gateway/told_unready.hpp"
#include "rollout/chance.hpp"
#include "session/session_store.hpp"

namespace tidemill::gateway {

using base::Error;
using base::ErrorCode;

namespace {

// Of a refusal that may have to be handed on.
constexpr size_t max_refusal_bytes = size_t{256} << 10;
// All dialects begin with their answer's id.
constexpr size_t id_within = 512;
// Of a stream without marks, by backends that were asked to go on with it, where there are fewer of them.
constexpr size_t most_denials = 3;

// Another backend may do what this one does not want to do now.
bool is_refusal(int status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

// The request might have done well elsewhere. A backend that is only busy is not at fault.
bool is_fault(int status) {
  return status == 408 || (status >= 500 && status != 503);
}

// The request is at fault, as the backend sees it.
bool is_decline(int status) {
  return status >= 400 && status < 500 && status != 408 && status != 429;
}

// What an answer of 200 that is no stream says, in a dialect that is known; nothing: it is no JSON object. One with
// choices, content or output is an answer whatever else it has: Responses have an `error` that is null, or says why an
// answer that there is has failed.
Beginning whole_beginning(Dialect dialect, std::string_view body) {
  bool answers = false;
  bool errs = false;
  JsonMembers members(body);
  while (const auto member = members.next()) {
    answers = answers || member->key == "choices" || member->key == "content" || member->key == "output";
    errs = errs || (member->key == "error" && member->value != "null");
  }
  if (!members.whole()) return Beginning::nothing;
  if (answers || !errs) return Beginning::content;
  const auto parsed = base::parse_json(body);
  if (!parsed) return Beginning::nothing;
  return beginning_of(dialect, "data: " + base::json::serialize(*parsed) + "\n\n");
}

double chance() {
  return rollout::fraction(base::random_u64());
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

Error stopped() {
  return broken("the gateway has stopped before the answer ended");
}

}  // namespace

Relay::Relay(Service& service, Call& call, RelayRequest& request)
    : service_(service),
      call_(call),
      request_(request),
      options_(service.options()),
      dialect_(dialect_of(call.request().path)),
      plan_(options_->retry_options()),
      bill_(call, request_.passage, request_.prompt_tokens),
      times_(service.clock().now()) {}

StreamRelay& Relay::stream() {
  if (!stream_) {
    stream_ = std::make_unique<StreamRelay>(service_, call_, bill_, times_, plan_, request_.filter, request_.text,
                                            dialect_, StreamProgress(dialect_, request_.body, request_.outline),
                                            request_.before_last_byte);
  }
  return *stream_;
}

asio::awaitable<RelayEnd> Relay::run() {
  co_await try_backends();
  // Nothing is owed for comments alone.
  const bool answered = begun() || call_.complete();
  if (answered && call_.record().status == 200) bill_.settle(usage(), events());
  co_return end();
}

RelayEnd Relay::end() const {
  const bool failed = handed_over_ || call_.record().status >= 400 || (stream_ && stream_->failed());
  const bool answered = handed_over_ || !failure_;
  const int64_t output = usage().output_tokens.value_or(events());
  return {.hung_up = !failed && !call_.complete(),
          .handed_over = handed_over_,
          .declined = answered && !begun() && is_decline(status_) ? status_ : 0,
          .faulted = faulted_ || (answered && is_fault(status_)),
          .seen = times_.observe(failed, request_.prompt_tokens, output, service_.clock().now()),
          .cost = bill_.cost(),
          .response_id = begun() ? progress().response_id() : response_id_};
}

asio::awaitable<void> Relay::try_backends() {
  while (true) {
    request_.wanted.marking = begun() && progress().marked();
    auto picked = service_.fleet().pick(request_.wanted, tried_);
    const bool at_once = picked && !failure_ && !call_.exchange().disconnected();
    Lease lease;  // GCC 12 ends what comes of a conditional expression twice where one of its sides waits
    if (at_once) {
      lease = *std::move(picked);
    } else {
      lease = co_await find_backend(std::move(picked));
    }
    if (!lease) break;
    const Backend& backend = *lease;
    call_.set_backend(backend.name());
    ++call_.record().tries;
    if (failure_ && !begun()) service_.counters().retries.add();
    failure_ = co_await attempt(lease);
    if (call_.exchange().disconnected()) break;        // the lease ends as abandoned
    const bool ended = failure_ && service_.ending();  // which is not the backend's fault
    if (failure_) note_tried(backend);
    lease.end(ended ? Outcome::abandoned : told_by(failure_), usage());
    if (!failure_) break;
    faulted_ = faulted_ || (!ended && is_at_fault(*failure_));
    handed_over_ = !ended && hands_over(*failure_);
    if (handed_over_) break;
    if (begun() && progress().chat_finished()) {
      co_await stream().end_chat(failure_->error);
      break;
    }
    if (ended || !may_go_on(*failure_)) {
      co_await conclude();
      break;
    }
  }
}

// What restarts takes no connection, then says that it loads. Neither costs more than time, which is bounded where
// nobody else can be asked, and several restarting at once would soon use up the tries. One that loads gets no further
// requests until it is ready; if it says so again, as its looks say otherwise, it is taken for one that fails.
void Relay::note_tried(const Backend& backend) {
  base::log::debug("{}: {}: {}", call_.id(), backend.name(), failure_->error.to_string());
  const bool first_word =
      failure_->outcome == Outcome::unready && std::ranges::find(unready_, &backend) == unready_.end();
  counts_ = failure_->reached && !first_word;
  (first_word ? unready_ : tried_).push_back(&backend);
}

// Of the backend: one that answers with an error is not believed to be fast for that.
Outcome Relay::told_by(const Tried& failure) const {
  const Outcome outcome = failure ? failure->outcome : Outcome::answered;
  if (outcome != Outcome::answered && outcome != Outcome::refused) return outcome;
  const Outcome by_status = outcome_of(status_);
  if (by_status == Outcome::faulty || beginning_ == Beginning::fault) return Outcome::faulty;
  if (outcome == Outcome::refused) return outcome;
  return failure || beginning_ == Beginning::decline ? Outcome::declined : by_status;
}

bool Relay::is_at_fault(const Failure& failure) const {
  return failure.outcome == Outcome::failed || is_fault(status_);
}

// At once: to try further backends of a version that has failed would only take time.
bool Relay::hands_over(const Failure& failure) const {
  if (begun()) return false;
  if (failure.outcome == Outcome::answered) return true;  // see relay_answer
  return request_.handover.failures && is_at_fault(failure);
}

// Of what was picked, if anybody was: waits where the plan says so. Where it gives up, the call is answered here, or is
// handed over.
asio::awaitable<Lease> Relay::find_backend(base::Result<Lease> picked) {
  std::optional<base::Duration> pause;
  if (!picked && !begun() && request_.handover.failures) {
    handed_over_ = true;
    co_return Lease();
  }
  if (failure_ && counts_) {
    const bool fruitless = failure_->outcome == Outcome::failed && beginning_ == Beginning::nothing;
    pause = plan_.after_failure(picked.has_value(), service_.clock().now(), chance(), fruitless);
    if (!pause) {
      co_await conclude();
      co_return Lease();
    }
  }
  if (failure_ && !picked) tried_.clear();
  while (!call_.exchange().disconnected()) {
    if (picked) co_return std::move(*picked);
    if (!pause && picked.error().code() == ErrorCode::unavailable) {
      pause = plan_.while_nobody(service_.clock().now(), chance());
    }
    if (!pause && failure_) {
      co_await conclude();
      break;
    }
    if (!pause) {
      co_await refuse(picked.error(), service_.retry_after(picked.error(), request_.wanted));
      break;
    }
    if (co_await call_.exchange().wait(*pause) == wire::Wake::disconnected) break;
    if (service_.ending()) {
      co_await conclude();
      break;
    }
    pause.reset();
    picked = service_.fleet().pick(request_.wanted, tried_);
  }
  co_return Lease();
}

bool Relay::may_go_on(const Failure& failure) {
  if (failure.certain) return false;
  if (!begun()) return true;
  // Who does not know how to go on with a stream without marks will not know later either. One with marks is denied by
  // backends with other weights or of another version, while those that have them restart: it has all of the window.
  const bool denied = failure.outcome == Outcome::answered && progress().foreign();
  if (denied && ++denials_ > std::max(most_denials, service_.fleet().backends().size())) return false;
  return progress().ways_on() != Resume::none;
}

asio::awaitable<Tried> Relay::attempt(Lease& lease) {
  Backend& backend = *lease;
  status_ = 0;
  beginning_ = Beginning::nothing;
  observe::Span span = service_.tracer().start("upstream", call_.span().context(), observe::SpanKind::client);
  span.set("tidemill.backend", backend.name());
  span.set("tidemill.try", int64_t{call_.record().tries});
  std::string resume_body;
  if (begun()) {
    auto made = stream().resume_body();
    if (!made) co_return Failure{Outcome::answered, std::move(made).error()};
    resume_body = *std::move(made);
  }
  const bool stream = request_.outline.stream;
  const wire::Headers headers = backend_headers(call_.request(), call_.id(), backend, dialect_, stream,
                                                service_.gate().wants_keys(), span.context());
  const std::string target = backend.target(call_.request().target);
  const Watch watch(call_.exchange(), backend, service_.clock().now());
  if (service_.ending()) co_return Failure{Outcome::abandoned, stopped()};  // what came too late to be ended
  const wire::OutgoingRequest request{
      .to = &backend.url(),
      .method = call_.request().method,
      .target = target,
      .headers = &headers,
      .body = begun() ? std::string_view(resume_body) : request_.body,
      // What was asked for twice is computed twice, and that is all (RFC 9110, section 9.2.2: a POST whose semantics
      // are known to be idempotent may be sent again); but not where nothing at all shall be.
      .repeatable = options_->retries > 0,
      .timeouts = backend_timeouts(*options_, stream),
      .cancellation = &(*watch).cancellation()};
  wire::SendReport report;
  auto answer = co_await service_.pool().open(request, &report);
  if (report.sends > 1) note_sent_again(backend);
  Tried tried;
  if (answer) {
    tried = co_await relay_answer(lease, *answer, *watch);
  } else {
    const bool reached = report.connected || answer.error().code() != ErrorCode::unavailable;
    tried = Failure{Outcome::failed, std::move(answer).error(), reached};
  }
  if (tried) span.fail(tried->error.to_string());
  co_return tried;
}

// The backend had closed the connection that was kept, and was asked once more on another. It may have read both.
void Relay::note_sent_again(Backend& backend) {
  ++call_.record().tries;
  if (!begun()) service_.counters().retries.add();
  backend.note_sent_again();
}

asio::awaitable<Tried> Relay::relay_answer(Lease& lease, wire::ClientStream& answer, HangUp& hang_up) {
  const int status = status_ = answer.head().status;
  const bool events = is_event_stream(answer.head());
  if (status == 401) lease->note_unauthorized();
  if (is_refusal(status)) co_return co_await refused(lease, answer);
  if (begun() && (status != 200 || !events)) {
    co_return Failure{Outcome::answered,
                      broken(fmt::format("the backend answered {} to a stream to go on with", status))};
  }
  const Handover& handover = request_.handover;
  if ((handover.failures && is_fault(status)) || (handover.declines && is_decline(status))) {
    (void)co_await keep_refusal(answer);  // so that the connection can be used again
    co_return Failure{Outcome::answered, broken(fmt::format("the backend answered {}", status))};
  }
  if (call_.streaming() && !begun() && (status != 200 || !events)) co_return co_await tell_within_stream(answer);
  if (events) {
    Tried tried = co_await stream().relay(lease, answer, hang_up);
    beginning_ = stream_->beginning();
    co_return tried;
  }
  co_return co_await relay_whole(answer);
}

// An answer that is no stream is collected first, so that it can still come from elsewhere when it breaks off.
asio::awaitable<Tried> Relay::relay_whole(wire::ClientStream& answer) {
  wire::HttpResponse response;
  response.status = answer.head().status;
  while (true) {
    auto piece = co_await answer.next();
    if (!piece) co_return Failure{Outcome::failed, std::move(piece).error()};
    if (piece->empty()) break;
    if (call_.exchange().disconnected()) co_return client_gone();
    if (response.body.size() + piece->size() > options_->max_answer.bytes) {
      co_return beyond_limit(
          Error(ErrorCode::invalid_argument,
                fmt::format("the answer is larger than {} bytes, the most that one may have that is not streamed "
                            "(gateway.max_answer): ask for less, or for a stream",
                            options_->max_answer.bytes)));
    }
    response.body += *piece;
  }
  if (response.status == 200 && dialect_ != Dialect::other) {
    beginning_ = whole_beginning(dialect_, response.body);
    if (beginning_ == Beginning::nothing) {
      co_return Failure{Outcome::failed, broken("the backend answered 200 with what is no JSON object")};
    }
    const bool fault = beginning_ == Beginning::fault;
    faulted_ = faulted_ || fault;
    if (fault && request_.handover.failures) {
      co_return Failure{Outcome::answered, broken("the backend answered 200 with an error")};
    }
  }
  usage_.take(response.body);
  response_id_ = first_id(std::string_view(response.body).substr(0, id_within));
  if (request_.text != nullptr) request_.text->take_whole(response.body);
  times_.note_text(service_.clock().now());
  response.headers = response_headers(answer.head().headers);
  if (request_.filter != nullptr) {
    const auto passed = co_await request_.filter->whole(response);
    if (!passed) {
      (void)co_await call_.refuse(passed.error(), session::longest_pause);
      co_return std::nullopt;
    }
  }
  if (response.status == 200) bill_.settle(usage_, 0);
  bill_.add_to(response.headers);
  if (response.status == 200 && request_.before_last_byte) request_.before_last_byte(response_id_);
  (void)co_await call_.respond(std::move(response));
  co_return std::nullopt;
}

asio::awaitable<Failure> Relay::refused(Lease& lease, wire::ClientStream& answer) {
  const bool whole = co_await keep_refusal(answer);
  const auto why = told_unready(answer.head(), whole ? std::string_view(refusal_->body) : std::string_view());
  if (!why) co_return Failure{Outcome::refused, broken(fmt::format("the backend answered {}", answer.head().status))};
  service_.fleet().note_unready(*lease, *why, service_.clock().now());
  co_return Failure{Outcome::unready, broken(*why == route::Unready::loading ? "the backend loads its model"
                                                                             : "the backend takes no new requests")};
}

// A backend that refuses says more than the gateway could: if all do, the client hears the last one's words. False: it
// broke off, or says too much.
asio::awaitable<bool> Relay::keep_refusal(wire::ClientStream& answer) {
  wire::HttpResponse response;
  response.status = answer.head().status;
  while (response.body.size() <= max_refusal_bytes) {
    auto piece = co_await answer.next();
    if (!piece) co_return false;
    if (piece->empty()) {
      response.headers = response_headers(answer.head().headers);
      refusal_ = std::move(response);
      co_return true;
    }
    response.body += *piece;
  }
  co_return false;
}

// The client has the head of a stream, and comments: what a backend answers that is none has to be said as an error of
// that stream.
asio::awaitable<Tried> Relay::tell_within_stream(wire::ClientStream& answer) {
  const bool whole = co_await keep_refusal(answer);
  if (status_ < 400) co_return Failure{Outcome::failed, broken("the backend answered with what is no stream")};
  const auto body = whole ? base::parse_json(refusal_->body) : base::Result<base::json::value>(nullptr);
  const base::json::object* said = body ? body->if_object() : nullptr;
  const base::json::value* error = said == nullptr ? nullptr : said->if_contains("error");
  const base::json::value* message =
      error == nullptr || !error->is_object() ? nullptr : error->get_object().if_contains("message");
  std::string words = fmt::format("the backend answered {}", status_);
  if (message != nullptr && message->is_string()) words += fmt::format(": {}", std::string_view(message->get_string()));
  co_await stream().fail(Error(is_decline(status_) ? ErrorCode::invalid_argument : ErrorCode::unavailable, words));
  co_return std::nullopt;
}

// Of a call whose client has got nothing of an answer.
asio::awaitable<void> Relay::refuse(const Error& error, base::Duration retry_after) {
  if (call_.streaming()) {
    co_await stream().fail(error);
  } else {
    (void)co_await call_.refuse(error, retry_after);
  }
}

// No further try: the client hears of the last one's failure, or that the gateway stops, unless another answers.
asio::awaitable<void> Relay::conclude() {
  const bool ending = service_.ending();
  if (failure_ && failure_->certain && !ending) {
    if (begun()) {
      service_.counters().lost_streams.add();
      co_await stream().fail(failure_->error);
    } else {
      co_await refuse(failure_->error);
    }
    co_return;
  }
  if (!begun() && !ending && request_.handover.failures) {
    handed_over_ = true;
    co_return;
  }
  if (begun()) {
    service_.counters().lost_streams.add();
    Error why = stopped();
    if (!ending) why = broken("the stream broke off and could not be taken up").caused_by(failure_->error);
    co_await stream().fail(why);
    co_return;
  }
  if (ending) {
    co_await refuse(stopped());
    co_return;
  }
  const Failure& failure = *failure_;
  const bool was_refused = failure.outcome == Outcome::refused || failure.outcome == Outcome::unready;
  if (was_refused && refusal_ && !call_.streaming()) {
    call_.note_failure(failure.error);
    (void)co_await call_.respond(std::move(*refusal_));
    co_return;
  }
  const ErrorCode code = failure.error.code() == ErrorCode::timeout ? ErrorCode::timeout : ErrorCode::unavailable;
  const int tries = call_.record().tries;
  std::string message = fmt::format("no backend answered, after {} {}", tries, tries == 1 ? "try" : "tries");
  const Error none_answered = Error(code, std::move(message)).caused_by(failure.error);
  co_await refuse(none_answered, service_.retry_after(none_answered, request_.wanted));
}

}  // namespace tidemill::gateway
