#include "gateway/stream_relay.hpp"

#include <utility>

#include "gateway/proxy_headers.hpp"
#include "gateway/told_error.hpp"
#include "wire/sse.hpp"

namespace tidemill::gateway {

using base::Error;
using base::ErrorCode;

namespace {

Failure broken_off(std::string_view why) {
  return {Outcome::failed, Error(ErrorCode::unavailable, std::string(why))};
}

}  // namespace

Failure client_gone() {
  return {Outcome::abandoned, Error(ErrorCode::cancelled, "the client has closed the connection")};
}

struct StreamRelay::Part {
  const bool resumed;    // it goes on with what another began
  bool counted = false;  // as resumed
  SseMarks marks;
  std::string out;
  std::string adopted;

  bool marked() const { return marks.kind() == SseMarks::Kind::marked; }
};

asio::awaitable<Tried> StreamRelay::relay(Lease& lease, wire::ClientStream& answer, HangUp& hang_up) {
  Backend& backend = *lease;
  Part part{.resumed = plan_.begun(), .marks = SseMarks(), .out = {}, .adopted = {}};
  beginning_ = Beginning::nothing;
  while (true) {
    auto piece = co_await answer.next();
    if (!piece && progress_.ended()) break;  // nothing is missing but the end of the connection
    if (!piece) co_return Failure{Outcome::failed, std::move(piece).error()};
    if (piece->empty()) break;
    if (call_.exchange().disconnected()) co_return client_gone();
    hang_up.note_heard(service_.clock().now());
    part.out.clear();
    const auto taken = progress_.take(part.marks, *piece, part.out);
    if (part.marks.kind() != SseMarks::Kind::undecided && backend.sends_marks() != part.marked()) {
      backend.note_marks(part.marked());
    }
    if (part.resumed && progress_.marked() && part.marks.kind() == SseMarks::Kind::foreign) {
      co_return Failure{Outcome::answered,
                        Error(ErrorCode::unavailable, "the backend cannot take up a stream exactly")};
    }
    if (!part.out.empty()) {
      if (!plan_.begun()) progress_.begin(part.marks.kind(), backend.options().resume);
      if (beginning_ == Beginning::nothing) {
        beginning_ = beginning_of(dialect_, part.out);
        if (beginning_ == Beginning::content) {
          lease.begin_answer();
          bill_.first_token();
        }
      }
      const std::string_view ready = part.resumed ? take_up(part) : part.out;
      if (!ready.empty()) {
        const bool sent = co_await send(answer, ready);
        if (!sent) co_return std::nullopt;
      }
    }
    if (!taken) co_return Failure{Outcome::failed, taken.error()};
  }
  co_return co_await finish(part, answer);
}

// What of `part.out` the client gets, who has read what came before it from another backend.
std::string_view StreamRelay::take_up(Part& part) {
  part.adopted.clear();
  if (!std::exchange(part.counted, true)) note_resumed(part.adopted);
  if (!progress_.foreign()) return part.out;
  progress_.adopt(part.out, part.adopted);
  return part.adopted;
}

// The stream goes on. What the client is told of it is appended to `out`.
void StreamRelay::note_resumed(std::string& out) {
  ++call_.record().resumed;
  const bool exact = progress_.marked();
  (exact ? service_.counters().exact_resumes : service_.counters().best_effort_resumes).add();
  call_.span().event(exact ? "resumed" : "resumed best-effort");
  if (!exact) out += wire::sse_comment("resumed best-effort");
}

// The backend has ended its stream: well, if it has said all that there is to say.
asio::awaitable<Tried> StreamRelay::finish(Part& part, wire::ClientStream& answer) {
  part.out.clear();
  part.marks.finish(part.out);
  if (part.marked() && !progress_.ended()) co_return broken_off("the backend ended its stream in the middle");
  if (!part.marked() && !part.out.empty()) {
    if (beginning_ == Beginning::nothing) beginning_ = beginning_of(dialect_, part.out);
    const bool sent = co_await send(answer, part.out);
    if (!sent) co_return std::nullopt;
  }
  if (!plan_.begun()) {
    if (!part.marked() && dialect_ != Dialect::other) co_return broken_off("the backend's stream is empty");
    const auto started = co_await call_.begin_stream(answer.head().status, response_headers(answer.head().headers));
    if (!started) co_return std::nullopt;
  } else if (!part.marked() && !progress_.end_seen()) {
    co_return broken_off("the backend ended its stream in the middle");
  }
  (void)co_await call_.end();
  co_return std::nullopt;
}

// False: the call is over, because the client has gone or the filter refused.
asio::awaitable<bool> StreamRelay::send(const wire::ClientStream& answer, std::string_view events) {
  if (!plan_.begun()) {
    wire::Headers headers = response_headers(answer.head().headers);
    headers.set("X-Accel-Buffering", "no");  // nginx would collect the stream
    bill_.add_to(headers);
    const auto started = co_await call_.begin_stream(answer.head().status, std::move(headers));
    if (!started) co_return false;
  }
  plan_.note_progress();
  progress_.sent(events);
  if (text_ != nullptr) text_->take_events(events);
  if (progress_.text_begun()) times_.note_text(service_.clock().now());
  if (filter_ != nullptr) {
    filtered_.clear();
    const auto passed = co_await filter_->events(events, filtered_);
    if (!passed) {  // what came before is good
      const bool written = co_await write(filtered_);
      if (written) co_await fail(passed.error());
      co_return false;
    }
    events = filtered_;
  }
  co_return co_await write(events);
}

// As the client reads it.
asio::awaitable<bool> StreamRelay::write(std::string_view events) {
  so_far_.take(events);
  const auto written = co_await call_.write(cost_.add(events));
  co_return written.has_value();
}

asio::awaitable<void> StreamRelay::end_chat() {
  if (!progress_.chat_done()) {
    const auto told = co_await call_.write("data: [DONE]\n\n");
    if (!told) co_return;
  }
  (void)co_await call_.end();
}

asio::awaitable<void> StreamRelay::fail(const Error& error) {
  failed_ = true;
  call_.note_failure(error);
  const std::string event = error_event(dialect_, told_to_clients(error), so_far_);
  const auto told = co_await call_.write(event);
  if (told) (void)co_await call_.end();
}

}  // namespace tidemill::gateway
