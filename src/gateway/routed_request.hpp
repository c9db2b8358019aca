// A request of a named route, from the choice of its target until what came of it is told.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "gateway/call.hpp"
#include "gateway/mirrored_request.hpp"
#include "gateway/model_route.hpp"
#include "gateway/relay_end.hpp"
#include "gateway/request_outline.hpp"

namespace tidemill::gateway {

// Lives in the handler's coroutine. Destroyed without an end, it tells the route that nothing is to be learned of it.
class RoutedRequest {
 public:
  // Chooses, and says so in the answer's headers and in the log.
  RoutedRequest(Service& service, Call& call, std::shared_ptr<ModelRoute> route, const RequestOutline& outline,
                int64_t prompt_tokens);
  RoutedRequest(const RoutedRequest&) = delete;
  RoutedRequest& operator=(const RoutedRequest&) = delete;
  ~RoutedRequest();

  const TargetOptions& target() const { return route_->target(chosen_.target); }

  // Before the request goes out: sends a copy to the route's shadow, if it has one. Where what the client gets is to be
  // written to as well; null: there is no copy.
  AnswerText* mirror(std::string_view body, const RequestOutline& outline, const Wanted& wanted);

  // The answer has gone to the client, or did not.
  void end(const RelayEnd& end);

 private:
  void learn(const RelayEnd& end);

  Service& service_;
  Call& call_;
  std::shared_ptr<ModelRoute> route_;
  Chosen chosen_;
  std::shared_ptr<MirroredRequest> copy_;
  bool told_ = false;
};

}  // namespace tidemill::gateway
