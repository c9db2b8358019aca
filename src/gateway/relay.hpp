// One request on its way to a backend, and the answer on its way back: tried elsewhere as long as the client has got
// nothing, taken up elsewhere when a stream breaks off, and never ended in silence.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "base/result.hpp"
#include "gateway/answer_filter.hpp"
#include "gateway/answer_text.hpp"
#include "gateway/backend.hpp"
#include "gateway/bill.hpp"
#include "gateway/call.hpp"
#include "gateway/fleet.hpp"
#include "gateway/gate.hpp"
#include "gateway/relay_end.hpp"
#include "gateway/request_outline.hpp"
#include "gateway/retry_plan.hpp"
#include "gateway/service.hpp"
#include "gateway/stream_relay.hpp"
#include "gateway/token_usage.hpp"
#include "wire/client_pool.hpp"

namespace tidemill::gateway {

// What another, who is asked next, may answer in place of these backends, as long as the client has got nothing. Then
// the relay ends without having answered (RelayEnd::handed_over).
struct Handover {
  bool failures = false;  // a try failed by the backend's own fault, or none of them can be asked or wants to
  bool declines = false;  // a backend says that the request is at fault, which may be true of itself alone
};

// What to send, and to whom. The body and its outline must outlive the relay.
struct RelayRequest {
  std::string_view body;
  const RequestOutline& outline;
  Wanted wanted;
  AnswerFilter* filter = nullptr;  // may be none
  Passage* passage = nullptr;      // may be none
  int64_t prompt_tokens = 0;       // estimated
  AnswerText* text = nullptr;      // gets what the client gets; may be none
  Handover handover{};
  // Is told how an answer of 200 calls itself, once, before its last byte goes out; may be none.
  BeforeLastByte before_last_byte{};
};

// Lives in the handler's coroutine.
class Relay {
 public:
  // The request must outlive it, and is its own meanwhile.
  Relay(Service& service, Call& call, RelayRequest& request);
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  // Answers the call, one way or another, unless another is to do so; settles its passage if there was an answer, and
  // says how it ended.
  asio::awaitable<RelayEnd> run();

 private:
  // An empty lease: the call is over.
  asio::awaitable<Lease> find_backend(base::Result<Lease> picked);
  void note_tried(const Backend& backend);
  bool may_go_on(const Failure& failure);
  bool hands_over(const Failure& failure) const;
  bool is_at_fault(const Failure& failure) const;
  Outcome told_by(const Tried& failure) const;
  asio::awaitable<Tried> attempt(Lease& lease);
  void note_sent_again(Backend& backend);
  asio::awaitable<Tried> relay_answer(Lease& lease, wire::ClientStream& answer, HangUp& hang_up);
  asio::awaitable<Tried> relay_whole(wire::ClientStream& answer);
  asio::awaitable<Failure> refused(Lease& lease, wire::ClientStream& answer);
  asio::awaitable<bool> keep_refusal(wire::ClientStream& answer);
  asio::awaitable<Tried> tell_within_stream(wire::ClientStream& answer);
  asio::awaitable<void> refuse(const base::Error& error, base::Duration retry_after = {});
  asio::awaitable<void> conclude();
  asio::awaitable<void> try_backends();
  RelayEnd end() const;
  bool begun() const { return plan_.begun(); }
  // Made for the first stream that comes: most answers are none.
  StreamRelay& stream();
  const StreamProgress& progress() const { return stream_->progress(); }
  int64_t events() const { return stream_ ? progress().events() : 0; }
  TokenUsage usage() const { return begun() ? progress().usage() : usage_; }

  Service& service_;
  Call& call_;
  RelayRequest& request_;
  std::shared_ptr<const GatewayOptions> options_;
  Dialect dialect_;
  RetryPlan plan_;
  Bill bill_;
  AnswerTimes times_;
  std::unique_ptr<StreamRelay> stream_;
  std::vector<const Backend*> tried_;
  std::vector<const Backend*> unready_;        // those that have said so to this request
  Tried failure_;                              // of the last try
  bool counts_ = false;                        // a backend took that try, or might have
  int status_ = 0;                             // that the last backend answered; 0: none
  Beginning beginning_ = Beginning::nothing;   // of its stream, if it sent one
  bool faulted_ = false;                       // a try failed by the backend's own fault
  bool handed_over_ = false;                   // another is to answer
  size_t denials_ = 0;                         // of backends that were asked to go on with the stream
  std::optional<wire::HttpResponse> refusal_;  // the last backend's that was one
  TokenUsage usage_;                           // of an answer that is no stream
  std::string response_id_;                    // likewise
};

}  // namespace tidemill::gateway
