// A request of a named route, from the choice of its target until what came of it is told.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateway/call.hpp"
#include "gateway/mirrored_request.hpp"
#include "gateway/model_route.hpp"
#include "gateway/relay.hpp"
#include "gateway/relay_end.hpp"
#include "gateway/request_outline.hpp"

namespace tidemill::gateway {

// One target is asked after the other until the client has an answer: the one that was chosen, then those that may
// answer in its place. What each of them did is told to the route.
//
// That a request is at fault (a 4xx) may be said by the chosen target alone, so it is shown to the one that counts, the
// stable version or the reference. If that takes the request, the chosen one has failed; if not, the request was at
// fault, and tells nothing of either. So clients' own faults weigh on no version, whoever sends how many of them.
//
// Lives in the handler's coroutine. Destroyed without an end, it tells the route that nothing is to be learned of it.
class RoutedRequest {
 public:
  // Chooses, and says so in the answer's headers and in the log. `session` is what a sticky route goes by
  // (session_key.hpp); empty: the request is one by itself.
  RoutedRequest(Service& service, Call& call, std::shared_ptr<ModelRoute> route, const RequestOutline& outline,
                std::string_view session, int64_t prompt_tokens);
  RoutedRequest(const RoutedRequest&) = delete;
  RoutedRequest& operator=(const RoutedRequest&) = delete;
  ~RoutedRequest();

  // Who is to answer now.
  const TargetOptions& target() const { return route_->target(asked_); }
  // Of what it does not answer, what is for the one after it.
  Handover handover() const;

  // Before the request goes out: sends a copy to the route's shadow, if it has one. Where what the client gets is to be
  // written to as well; null: there is no copy.
  AnswerText* mirror(std::string_view body, const RequestOutline& outline, const Wanted& wanted);

  // An answer, that calls itself `response_id`, is about to be whole at the client, who may rate it at once.
  void before_last_byte(const std::string& response_id);
  // Whether that is to be told.
  bool is_rated() const { return chosen_.decision.has_value(); }

  // The answer has gone to the client, or did not, or the next target is asked, which is target() from now on.
  void end(const RelayEnd& end);

 private:
  bool is_first() const { return asked_ == chosen_.target; }
  void end_copy(const RelayEnd& end);
  void judge_chosen(const RelayEnd& end);
  void judge_other(const RelayEnd& end);
  void judge_decline(const RelayEnd& by_other);
  rollout::Decision decision() const;
  void learn(const RelayEnd& end);
  void next_target();

  Service& service_;
  Call& call_;
  std::shared_ptr<ModelRoute> route_;
  Chosen chosen_;
  size_t asked_ = 0;            // the target's index
  std::vector<size_t> others_;  // that have not been asked, in order
  // The chosen target has declined the request with this status, and `declined_seen_` is what it did; 0: it has not.
  int declined_ = 0;
  rollout::Observation declined_seen_{};
  bool undecided_ = false;  // whether rightly, is not known yet
  std::shared_ptr<MirroredRequest> copy_;
  bool ratable_ = false;  // the answer is
  bool told_ = false;
};

}  // namespace tidemill::gateway
