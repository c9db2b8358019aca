#include "gateway/stream_relay.hpp"

#include <utility>

#include "gateway/proxy_headers.hpp"
#include "gateway/told_error.hpp"
#include "gateway/whole_events.hpp"
#include "wire/sse.hpp"

namespace tidemill::gateway {

using base::Error;
using base::ErrorCode;

namespace {

// Of what only announces an answer. A server that says more of that is believed to have begun.
constexpr size_t most_announced = size_t{1} << 20;

Failure broken_off(std::string_view why) {
  return {Outcome::failed, Error(ErrorCode::unavailable, std::string(why))};
}

Failure only_kept_awake() {
  return {Outcome::failed,
          Error(ErrorCode::timeout, "the backend's stream carried no event for gateway.event_timeout, only comments")};
}

// Half a stream's bytes are no use, and a further backend would say as much.
Failure not_taken(Error error) {
  if (error.code() != ErrorCode::too_large) return {Outcome::failed, std::move(error)};
  return beyond_limit(Error(ErrorCode::invalid_argument,
                            error.message() + " (gateway.max_event): ask for fewer probabilities (top_logprobs), a "
                                              "shorter answer, or less that it has to repeat of the request"));
}

}  // namespace

Failure beyond_limit(Error error) {
  return {.outcome = Outcome::declined, .error = std::move(error), .certain = true};
}

Failure client_gone() {
  return {Outcome::abandoned, Error(ErrorCode::cancelled, "the client has closed the connection")};
}

struct StreamRelay::Part {
  const bool resumed;    // it goes on with what another began
  const int64_t tokens;  // that marks told of before
  SseMarks marks;
  int64_t told;             // tokens that marks have told of when it was last looked at
  base::Duration silent{};  // how long the backend has been waited for since its last event, or word of a token
  bool said = false;        // something of the answer
  bool counted = false;     // as resumed
  bool arriving = false;    // it was silent for too long, but for an event of which the beginning had come
  std::string out{};        // what has come
  std::string awake{};      // of it, what only keeps the client's connection awake
  std::string held{};       // of all that has come, what only announces an answer
  std::string adopted{};

  bool marked() const { return marks.kind() == SseMarks::Kind::marked; }
};

asio::awaitable<Tried> StreamRelay::relay(Lease& lease, wire::ClientStream& answer, HangUp& hang_up) {
  Backend& backend = *lease;
  const base::Duration longest_silence = service_.options()->event_timeout;
  if (!plan_.begun()) progress_.start_over();
  const int64_t tokens = progress_.marked_tokens();
  Part part{.resumed = plan_.begun(),
            .tokens = tokens,
            .marks = SseMarks(service_.options()->max_event.bytes),
            .told = tokens};
  beginning_ = Beginning::nothing;
  base::SteadyTime asked = service_.clock().now();
  while (true) {
    auto piece = co_await answer.next();
    if (!piece && progress_.ended()) break;  // nothing is missing but the end of the connection
    if (!piece) co_return Failure{Outcome::failed, std::move(piece).error()};
    if (piece->empty()) break;
    if (call_.exchange().disconnected()) co_return client_gone();
    const base::SteadyTime now = service_.clock().now();
    hang_up.note_heard(now);
    part.silent += now - std::exchange(asked, now);
    clear_and_shrink(part.out);
    auto taken = progress_.take(part.marks, *piece, part.out);
    if (part.marks.kind() != SseMarks::Kind::undecided && backend.sends_marks() != part.marked()) {
      backend.note_marks(part.marked());
    }
    if (part.resumed && progress_.marked() && part.marks.kind() == SseMarks::Kind::foreign) {
      co_return Failure{Outcome::answered,
                        Error(ErrorCode::unavailable, "the backend cannot take up a stream exactly")};
    }
    // Nearly every piece goes straight on, and at once: a coroutine for each step would cost more than the step.
    const bool straight = goes_straight_on(part);
    std::optional<bool> passed;
    if (straight) passed = hand_on(part.out);
    if (!passed) {
      if (straight) {
        passed = co_await write_rest();
      } else {
        passed = co_await pass(part, lease, answer);
      }
      asked = service_.clock().now();  // while a client takes its time, its backend is not silent
    }
    if (!*passed) co_return std::nullopt;
    if (!taken) co_return not_taken(std::move(taken).error());
    if (moves(part)) {
      part.silent = {};
      part.arriving = false;
    } else if (part.silent >= longest_silence) {
      // An event that is on its way may come to its end, for as long again.
      if (part.arriving || !part.marks.holds_event()) co_return only_kept_awake();
      part.silent = {};
      part.arriving = true;
    }
  }
  co_return co_await finish(part, lease, answer);
}

// What has come needs no looking at, nor anything put before it.
bool StreamRelay::goes_straight_on(const Part& part) const {
  const bool goes_on = !part.resumed || (part.counted && progress_.marked());
  return part.said && goes_on && filter_ == nullptr && call_.streaming();
}

// nullopt: `write_rest` has to go on.
std::optional<bool> StreamRelay::hand_on(std::string_view events) {
  if (events.empty()) return true;
  note_sent(events);
  return write_now(events);
}

// Whether the backend has got on with the answer since this was last asked.
bool StreamRelay::moves(Part& part) const {
  const int64_t told = progress_.marked_tokens();
  return std::exchange(part.told, told) != told || !only_keep_awake(dialect_, part.out);
}

// Hands on what has come. What a server of marked streams says that takes one up is never held: the marks tell of it.
// False: the call is over.
asio::awaitable<bool> StreamRelay::pass(Part& part, Lease& lease, const wire::ClientStream& answer) {
  if (part.said) {
    if (part.out.empty()) co_return true;
    co_return co_await send(answer, take_up(part, part.out));
  }
  sort(part);
  if (!part.awake.empty()) {
    const bool told = co_await keep_awake(answer, part.awake);
    if (!told) co_return false;
  }
  if (says_something(part)) {
    begin(part, lease);
  } else if (!part.resumed || !progress_.marked() || part.held.empty()) {
    co_return true;
  }
  const std::string events = std::exchange(part.held, {});
  co_return co_await send(answer, take_up(part, events));
}

void StreamRelay::sort(Part& part) {
  part.awake.clear();
  WholeEvents walk(part.out);
  while (const auto event = walk.next()) {
    if (keeps_awake(dialect_, *event)) {
      // Another backend's words may come next, which must not be taken for the rest of a line.
      const bool whole = event->text.ends_with('\n') || event->text.ends_with('\r');
      if (whole && event->text.find(':') != std::string_view::npos) part.awake += event->text;
      continue;
    }
    part.held += event->text;
    if (beginning_ != Beginning::nothing) continue;
    const Beginning begins = beginning_of(dialect_, *event);
    if (!part.marked() || begins != Beginning::content) beginning_ = begins;  // marks tell of content
  }
}

bool StreamRelay::says_something(const Part& part) const {
  if (beginning_ != Beginning::nothing || part.held.size() > most_announced) return true;
  return part.marked() && (progress_.ended() || progress_.marked_tokens() > part.tokens);
}

void StreamRelay::begin(Part& part, Lease& lease) {
  part.said = true;
  if (!plan_.begun()) progress_.begin(part.marks.kind(), (*lease).options().resume);
  plan_.note_progress();
  if (beginning_ == Beginning::nothing) beginning_ = Beginning::content;
  if (beginning_ != Beginning::content) return;
  lease.begin_answer();
  bill_.first_token();
}

// What of `events` the client gets, who may have read what came before them from another backend.
std::string_view StreamRelay::take_up(Part& part, std::string_view events) {
  if (!part.resumed) return events;
  part.adopted.clear();
  if (part.said && !std::exchange(part.counted, true)) note_resumed(part.adopted);
  if (!progress_.foreign()) return events;
  progress_.adopt(events, part.adopted);
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

// The backend has ended its stream: well, if it has said all that there is to say. Half an event that it ended in is
// left out, so that whatever comes next begins with a line of its own.
asio::awaitable<Tried> StreamRelay::finish(Part& part, Lease& lease, wire::ClientStream& answer) {
  part.out.clear();
  if (dialect_ == Dialect::other) {
    part.marks.finish_unread(part.out);
  } else {
    part.marks.finish(part.out);
  }
  if (part.marked() && !progress_.ended()) co_return broken_off("the backend ended its stream in the middle");
  if (!part.marked()) {
    const bool passed = co_await pass(part, lease, answer);
    if (!passed) co_return std::nullopt;
  }
  if (!plan_.begun()) {
    if (dialect_ != Dialect::other) co_return broken_off("the backend's stream has nothing of an answer");
    const bool begun = co_await begin_stream(answer);
    if (!begun) co_return std::nullopt;
  } else if (!part.marked() && !progress_.end_seen()) {
    co_return broken_off("the backend ended its stream in the middle");
  }
  (void)co_await call_.end();
  co_return std::nullopt;
}

// Sends the head, if the client has none yet. False: the client has gone.
asio::awaitable<bool> StreamRelay::begin_stream(const wire::ClientStream& answer) {
  if (call_.streaming()) co_return true;
  wire::Headers headers = response_headers(answer.head().headers);
  headers.set("X-Accel-Buffering", "no");  // nginx would collect the stream
  bill_.add_to(headers);
  const auto started = co_await call_.begin_stream(answer.head().status, std::move(headers));
  co_return started.has_value();
}

// False: the client has gone.
asio::awaitable<bool> StreamRelay::keep_awake(const wire::ClientStream& answer, std::string_view comments) {
  plan_.note_work();
  const bool begun = co_await begin_stream(answer);
  if (!begun) co_return false;
  const auto written = co_await call_.write(comments);
  co_return written.has_value();
}

// False: the call is over, because the client has gone or the filter refused.
asio::awaitable<bool> StreamRelay::send(const wire::ClientStream& answer, std::string_view events) {
  const bool begun = co_await begin_stream(answer);
  if (!begun) co_return false;
  note_sent(events);
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

void StreamRelay::note_sent(std::string_view events) {
  progress_.sent(events);
  if (text_ != nullptr) text_->take_events(events);
  if (progress_.text_begun()) times_.note_text(service_.clock().now());
  if (before_last_byte_ && (progress_.ended() || progress_.end_seen())) tell_of_last_byte();
}

void StreamRelay::tell_of_last_byte() {
  if (!before_last_byte_ || std::exchange(told_of_last_byte_, true)) return;
  before_last_byte_(progress_.response_id());
}

// As the client reads it.
asio::awaitable<bool> StreamRelay::write(std::string_view events) {
  const auto written = write_now(events);
  if (written) co_return *written;
  co_return co_await write_rest();
}

// nullopt: `write_rest` has to go on, and `events` to stay until then.
std::optional<bool> StreamRelay::write_now(std::string_view events) {
  so_far_.take(events);
  const auto written = call_.write_now(cost_.add(events));
  return written ? std::optional(written->has_value()) : std::nullopt;
}

asio::awaitable<bool> StreamRelay::write_rest() {
  const auto written = co_await call_.write_rest();
  co_return written.has_value();
}

asio::awaitable<void> StreamRelay::end_chat(const Error& failure) {
  if (!progress_.chat_done()) {
    std::string last;
    if (progress_.misses_usage()) {
      service_.counters().lost_usages.add();
      call_.note_failure(
          Error(ErrorCode::unavailable, "the stream broke off before its usage was told").caused_by(failure));
      last = wire::sse_comment("the text is whole, but the stream broke off before its usage was told");
    }
    wire::append_sse(last, "[DONE]");
    tell_of_last_byte();
    const auto told = co_await call_.write(last);
    if (!told) co_return;
  }
  (void)co_await call_.end();
}

asio::awaitable<void> StreamRelay::fail(const Error& error) {
  failed_ = true;
  call_.note_failure(error);
  const std::string event = error_event(dialect_, told_to_clients(error), so_far_);
  co_await call_.act_before_end();
  const auto told = co_await call_.write(event);
  if (told) (void)co_await call_.end();
}

}  // namespace tidemill::gateway
