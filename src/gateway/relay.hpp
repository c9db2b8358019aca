// One request on its way to a backend, and the answer on its way back: tried elsewhere as long as the client has got
// nothing, taken up elsewhere when a stream breaks off, and never ended in silence.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "base/result.hpp"
#include "gateway/answer_filter.hpp"
#include "gateway/backend.hpp"
#include "gateway/call.hpp"
#include "gateway/fleet.hpp"
#include "gateway/foreign_chat.hpp"
#include "gateway/gate.hpp"
#include "gateway/request_outline.hpp"
#include "gateway/resumption.hpp"
#include "gateway/retry_plan.hpp"
#include "gateway/service.hpp"
#include "gateway/sse_marks.hpp"
#include "gateway/stream_error.hpp"
#include "gateway/token_usage.hpp"
#include "wire/client_pool.hpp"

namespace tidemill::gateway {

// What to send, and to whom. The body must outlive the relay.
struct RelayRequest {
  std::string_view body;
  RequestOutline outline;
  Wanted wanted;
  AnswerFilter* filter = nullptr;  // may be none
  Passage* passage = nullptr;      // may be none
  int64_t prompt_tokens = 0;       // estimated
};

// Lives in the handler's coroutine.
class Relay {
 public:
  Relay(Service& service, Call& call, RelayRequest request);

  // Answers the call, one way or another, and settles its passage if there was an answer.
  asio::awaitable<void> run();

 private:
  struct Failure {
    Outcome outcome;
    base::Error error;
  };
  // nullopt: the call is answered.
  using Tried = std::optional<Failure>;
  // How the stream that the client is reading can be taken up.
  enum class Resume { none, exact, best_effort };

  static Failure gone();
  bool begun() const { return plan_.begun(); }
  asio::awaitable<void> try_backends();
  std::optional<access::Money> settle();
  void add_rates(wire::Headers& headers) const;
  asio::awaitable<Tried> attempt(Lease& lease);
  wire::Headers make_headers(const Backend& backend, const observe::Span& span);
  base::Result<std::string> make_resume_body() const;
  asio::awaitable<Tried> relay_whole(wire::ClientStream& answer);
  asio::awaitable<Tried> relay_events(Lease& lease, wire::ClientStream& answer, HangUp& hang_up);
  asio::awaitable<Tried> finish_stream(const SseMarks& marks, std::string out, wire::ClientStream& answer);
  base::Result<void> take(SseMarks& marks, std::string_view bytes, std::string& out);
  asio::awaitable<bool> send(const wire::ClientStream& answer, std::string_view bytes);
  asio::awaitable<void> fail_stream(const base::Error& error);
  asio::awaitable<void> keep_refusal(wire::ClientStream& answer);
  asio::awaitable<void> conclude(const Failure& failure);
  asio::awaitable<void> end_foreign_chat();
  Resume ways_on() const;
  TokenUsage usage() const;
  bool may_go_on(const Failure& failure);
  void note_resumed(std::string& out);

  Service& service_;
  Call& call_;
  RelayRequest request_;
  std::shared_ptr<const GatewayOptions> options_;
  Dialect dialect_;
  RetryPlan plan_;
  std::vector<const Backend*> tried_;
  std::optional<wire::HttpResponse> refusal_;  // the last backend's that was one

  // The stream, over all backends that have worked on it.
  SseMarks::Kind kind_ = SseMarks::Kind::undecided;
  std::string resume_mode_;  // of the backend that began it
  Resumption progress_;
  std::optional<ForeignChat> chat_;
  StreamEnd stream_end_;
  TokenUsage usage_;
  int denials_ = 0;
  std::string filtered_;
  std::string cost_;  // empty: it has no price, or none yet
};

}  // namespace tidemill::gateway
