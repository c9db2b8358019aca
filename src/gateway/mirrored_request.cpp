#include "gateway/mirrored_request.hpp"

#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "base/log.hpp"
#include "gateway/backend_request.hpp"

namespace tidemill::gateway {

namespace {

rollout::MirroredAnswer side_of(const rollout::Observation& seen, const AnswerText& text) {
  return {.failed = seen.failed,
          .seconds = seen.seconds,
          .ttft = seen.ttft,
          .output_tokens = seen.output_tokens,
          .text = text.text()};
}

}  // namespace

MirroredRequest::MirroredRequest(Service& service, Call& call, std::shared_ptr<ModelRoute> route, const Chosen& chosen,
                                 size_t shadow, rollout::MirrorGate::Ticket room, Dialect dialect)
    : service_(service),
      executor_(call.exchange().executor()),
      dialect_(dialect),
      route_(std::move(route)),
      chosen_(chosen),
      shadow_(shadow),
      room_(std::move(room)),
      id_(call.id()),
      parent_(call.span().context()),
      answered_(dialect),
      shadowed_(dialect) {
  const wire::HttpRequest& request = call.request();
  request_.method = request.method;
  request_.target = request.target;
  request_.headers = request.headers;
}

std::shared_ptr<MirroredRequest> MirroredRequest::start(Service& service, Call& call, std::shared_ptr<ModelRoute> route,
                                                        const Chosen& chosen, std::string_view body,
                                                        const RequestOutline& outline, const Wanted& wanted) {
  const Dialect dialect = dialect_of(call.request().path);
  if (dialect == Dialect::other) return nullptr;
  const auto shadow = route->shadow_of(chosen, call.id());
  if (!shadow) return nullptr;
  auto room = route->mirror()->gate->admit(call.id(), static_cast<int64_t>(body.size()), service.pressure());
  if (!room) return nullptr;
  const TargetOptions& target = route->target(*shadow);
  std::shared_ptr<MirroredRequest> copy(
      new MirroredRequest(service, call, route, chosen, *shadow, *std::move(room), dialect));
  copy->outline_ = outline;
  copy->body_ = with_model(body, copy->outline_, target.model);
  copy->outline_.drop_views();
  copy->wanted_ = wanted;
  copy->wanted_.model = target.model;
  copy->wanted_.session.clear();
  copy->wanted_.backends = &target.backends;
  asio::co_spawn(
      copy->executor_, [copy] { return copy->ask_shadow(); },
      [](const std::exception_ptr& failure) {
        if (failure) base::log::error("a mirrored request was ended by an exception");
      });
  return copy;
}

asio::awaitable<void> MirroredRequest::ask_shadow() {
  const auto self = shared_from_this();
  AnswerTimes times(service_.clock().now());
  StreamProgress progress(dialect_, body_, outline_);
  bool answered = false;
  auto lease = service_.fleet().pick(wanted_, {});
  if (lease) {
    Backend& backend = **lease;
    observe::Span span = service_.tracer().start("mirror", parent_, observe::SpanKind::client);
    span.set("tidemill.backend", backend.name());
    // Marks count its tokens.
    wire::Headers headers = backend_headers(request_, id_, backend, dialect_, outline_.stream,
                                            service_.gate().wants_keys(), span.context());
    headers.add("X-Tidemill-Mirror", "1");
    const std::string target = backend.target(request_.target);
    const wire::OutgoingRequest request{.to = &backend.url(),
                                        .method = request_.method,
                                        .target = target,
                                        .headers = &headers,
                                        .body = body_,
                                        .repeatable = true,
                                        .timeouts = backend_timeouts(*service_.options(), outline_.stream)};
    auto answer = co_await service_.pool().open(request);
    if (answer) answered = co_await read_shadow(*answer, progress, times);
    lease->end(answer ? outcome_of(answer->head().status) : Outcome::failed, progress.usage());
  }
  if (given_up_) co_return;
  shadowed_.seen =
      times.observe(!answered, 0, progress.usage().output_tokens.value_or(progress.events()), service_.clock().now());
  route_->note(shadow_, *shadowed_.seen);
  compare_when_both_are_there();
}

// Whether it came whole, and well.
asio::awaitable<bool> MirroredRequest::read_shadow(wire::ClientStream& answer, StreamProgress& progress,
                                                   AnswerTimes& times) {
  const bool events = is_event_stream(answer.head());
  SseMarks marks(service_.options()->max_event.bytes);
  std::string out;
  while (true) {
    const auto piece = co_await answer.next();
    if (!piece) co_return false;
    if (piece->empty()) break;
    if (!room_.grow(static_cast<int64_t>(piece->size()))) {
      given_up_ = true;
      co_return false;
    }
    if (!events) {
      out += *piece;
      continue;
    }
    out.clear();
    if (!progress.take(marks, *piece, out)) co_return false;
    take_events(out, marks, progress, times);
  }
  if (!events) {
    times.note_text(service_.clock().now());
    progress.sent(out);
    shadowed_.text.take_whole(out);
    co_return answer.head().status < 400;
  }
  out.clear();
  marks.finish(out);
  take_events(out, marks, progress, times);
  co_return marks.kind() == SseMarks::Kind::marked ? progress.ended() : progress.end_seen();
}

void MirroredRequest::take_events(const std::string& events, const SseMarks& marks, StreamProgress& progress,
                                  AnswerTimes& times) {
  if (events.empty()) return;
  progress.begin(marks.kind(), "off");
  progress.sent(events);
  shadowed_.text.take_events(events);
  if (progress.text_begun()) times.note_text(service_.clock().now());
}

void MirroredRequest::end(const RelayEnd& end) {
  if (end.hung_up) {
    given_up_ = true;  // there is nothing to compare with; the copy ends by itself
    return;
  }
  answered_.seen = end.seen;
  compare_when_both_are_there();
}

void MirroredRequest::compare_when_both_are_there() {
  if (given_up_ || !answered_.seen || !shadowed_.seen) return;
  // Long texts take a millisecond.
  auto compare = [](std::shared_ptr<MirroredRequest> self) -> asio::awaitable<void> {
    auto work = [&self]() -> base::Result<void> {
      self->route_->compare(self->chosen_, self->shadow_, self->id_,
                            side_of(*self->answered_.seen, self->answered_.text),
                            side_of(*self->shadowed_.seen, self->shadowed_.text));
      return {};
    };
    (void)co_await self->service_.store_pool().run(work);
  };
  asio::co_spawn(executor_, compare(shared_from_this()), asio::detached);
}

}  // namespace tidemill::gateway
