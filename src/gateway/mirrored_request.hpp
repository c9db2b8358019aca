// A request of which the shadow gets a copy: both answers, until they can be compared.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>

#include "gateway/answer_text.hpp"
#include "gateway/answer_times.hpp"
#include "gateway/call.hpp"
#include "gateway/fleet.hpp"
#include "gateway/model_route.hpp"
#include "gateway/relay_end.hpp"
#include "gateway/request_outline.hpp"
#include "gateway/stream_progress.hpp"
#include "rollout/mirror_gate.hpp"

namespace tidemill::gateway {

// Shared by the handler that answers the client and by the coroutine that asks the shadow, both on the thread of the
// client's connection. Neither waits for the other: who ends last has the answers compared, on a thread of the store's.
//
// The copy is a request of its own from the moment it is made: what becomes of the client's changes nothing for it, and
// whatever becomes of it is nobody's business but the report's.
class MirroredRequest : public std::enable_shared_from_this<MirroredRequest> {
 public:
  // Sends a copy of the request if the route has a shadow for `chosen` and there is room for it
  // (rollout/mirror_gate.hpp). Null: it is not copied. `body` and `outline` are the client's.
  static std::shared_ptr<MirroredRequest> start(Service& service, Call& call, std::shared_ptr<ModelRoute> route,
                                                const Chosen& chosen, std::string_view body,
                                                const RequestOutline& outline, const Wanted& wanted);

  // Where what the client gets is to be written to as well.
  AnswerText& answered() { return answered_.text; }
  // The client has its answer, or has none.
  void end(const RelayEnd& end);

 private:
  struct Side {
    explicit Side(Dialect dialect) : text(dialect) {}
    AnswerText text;
    std::optional<rollout::Observation> seen;
  };

  MirroredRequest(Service& service, Call& call, std::shared_ptr<ModelRoute> route, const Chosen& chosen, size_t shadow,
                  rollout::MirrorGate::Ticket room, Dialect dialect);
  asio::awaitable<void> ask_shadow();
  asio::awaitable<bool> read_shadow(wire::ClientStream& answer, StreamProgress& progress, AnswerTimes& times);
  void take_events(const std::string& events, const SseMarks& marks, StreamProgress& progress, AnswerTimes& times);
  void compare_when_both_are_there();

  Service& service_;
  const asio::any_io_executor executor_;
  const Dialect dialect_;
  const std::shared_ptr<ModelRoute> route_;
  const Chosen chosen_;
  const size_t shadow_;  // the target's index
  rollout::MirrorGate::Ticket room_;
  wire::HttpRequest request_;  // without its body
  const std::string id_;
  const observe::SpanContext parent_;
  std::string body_;
  Wanted wanted_;
  RequestOutline outline_;  // its views are empty: the body that they were of is gone
  Side answered_;
  Side shadowed_;
  bool given_up_ = false;
};

}  // namespace tidemill::gateway
