// A stream on its way from backends to the client: one backend after the other says a part of it, and the client reads
// one whole.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>

#include "base/result.hpp"
#include "gateway/answer_filter.hpp"
#include "gateway/answer_text.hpp"
#include "gateway/answer_times.hpp"
#include "gateway/bill.hpp"
#include "gateway/call.hpp"
#include "gateway/fleet.hpp"
#include "gateway/retry_plan.hpp"
#include "gateway/service.hpp"
#include "gateway/stream_beginning.hpp"
#include "gateway/stream_cost.hpp"
#include "gateway/stream_error.hpp"
#include "gateway/stream_progress.hpp"
#include "wire/client_pool.hpp"

namespace tidemill::gateway {

// Why a try at a backend has not answered the call.
struct Failure {
  Outcome outcome;
  base::Error error;
  bool reached = true;   // false: no connection could be made, so nothing was asked
  bool certain = false;  // whoever answers fails alike: nobody else is asked, and the client hears this error itself
};
// nullopt: the call is answered.
using Tried = std::optional<Failure>;
// An answer that is larger than the gateway passes on, which is no fault of the backend's. `error` names the limit.
Failure beyond_limit(base::Error error);
// The client has hung up between two reads, where there was nothing to be ended.
Failure client_gone();

// Called with how an answer calls itself, empty if it does not.
using BeforeLastByte = std::function<void(const std::string& response_id)>;

// One request's. Lives in the handler's coroutine; what it is given outlives it.
//
// The client gets a backend's comments at once, so that its connection stays awake, and nothing else before there is
// something of the answer (stream_beginning.hpp): until then any other backend may begin anew.
class StreamRelay {
 public:
  StreamRelay(Service& service, Call& call, Bill& bill, AnswerTimes& times, RetryPlan& plan, AnswerFilter* filter,
              AnswerText* text, Dialect dialect, StreamProgress progress, const BeforeLastByte& before_last_byte)
      : service_(service),
        call_(call),
        bill_(bill),
        times_(times),
        plan_(plan),
        filter_(filter),
        text_(text),
        dialect_(dialect),
        progress_(std::move(progress)),
        before_last_byte_(before_last_byte),
        cost_([&bill](const TokenUsage& usage) { return bill.price(usage); }),
        so_far_(dialect) {}

  const StreamProgress& progress() const { return progress_; }
  // The request that asks the next backend to go on (StreamProgress::resume_body).
  base::Result<std::string> resume_body() { return progress_.resume_body(); }
  // It has ended with an error.
  bool failed() const { return failed_; }
  // What the latest backend has said first; nothing: no word of the answer, or where it was to go on, none beyond.
  Beginning beginning() const { return beginning_; }

  // Hands on what the backend of `lease` streams, from the beginning or where the last one broke off.
  asio::awaitable<Tried> relay(Lease& lease, wire::ClientStream& answer, HangUp& hang_up);
  // Only the last words of a chat are missing, because of `failure`. If one of them is the usage that the client has
  // asked for, which nobody else can tell, that is said.
  asio::awaitable<void> end_chat(const base::Error& failure);
  // Tells the client that the stream has failed, and ends it.
  asio::awaitable<void> fail(const base::Error& error);

 private:
  struct Part;  // one backend's
  bool goes_straight_on(const Part& part) const;
  std::optional<bool> hand_on(std::string_view events);
  bool moves(Part& part) const;
  asio::awaitable<bool> pass(Part& part, Lease& lease, const wire::ClientStream& answer);
  void sort(Part& part);
  bool says_something(const Part& part) const;
  void begin(Part& part, Lease& lease);
  std::string_view take_up(Part& part, std::string_view events);
  asio::awaitable<Tried> finish(Part& part, Lease& lease, wire::ClientStream& answer);
  asio::awaitable<bool> begin_stream(const wire::ClientStream& answer);
  asio::awaitable<bool> keep_awake(const wire::ClientStream& answer, std::string_view comments);
  asio::awaitable<bool> send(const wire::ClientStream& answer, std::string_view events);
  void note_sent(std::string_view events);
  void tell_of_last_byte();
  asio::awaitable<bool> write(std::string_view events);
  std::optional<bool> write_now(std::string_view events);
  asio::awaitable<bool> write_rest();
  void note_resumed(std::string& out);

  Service& service_;
  Call& call_;
  Bill& bill_;
  AnswerTimes& times_;
  RetryPlan& plan_;
  AnswerFilter* filter_;  // may be none
  AnswerText* text_;      // may be none
  Dialect dialect_;
  StreamProgress progress_;
  const BeforeLastByte& before_last_byte_;  // may be none
  StreamCost cost_;
  ResponseSoFar so_far_;
  std::string filtered_;
  bool told_of_last_byte_ = false;
  bool failed_ = false;
  Beginning beginning_ = Beginning::nothing;
};

}  // namespace tidemill::gateway
