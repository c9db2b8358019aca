#include "gateway/routed_request.hpp"

#include "gateway/feedback.hpp"
#include "gateway/request_traits.hpp"

namespace tidemill::gateway {

RoutedRequest::RoutedRequest(Service& service, Call& call, std::shared_ptr<ModelRoute> route,
                             const RequestOutline& outline, int64_t prompt_tokens)
    : service_(service), call_(call), route_(std::move(route)) {
  const wire::HttpRequest& request = call.request();
  rollout::Features features;
  const bool can_choose = route_->adaptive() != nullptr && dialect_of(request.path) != Dialect::other;
  if (can_choose) features = rollout::features_of(traits_of(outline, prompt_tokens));
  const RouteKey key{.request_id = call.id(),
                     .session = request.headers.find("x-session-token").value_or(""),
                     .headers = [&request](std::string_view name) { return request.headers.find(name); },
                     .features = can_choose ? &features : nullptr};
  chosen_ = route_->choose(key);
  call.set_route(route_->name(), target().name, target().model);
}

RoutedRequest::~RoutedRequest() {
  if (!told_) end({.hung_up = true});
}

AnswerText* RoutedRequest::mirror(std::string_view body, const RequestOutline& outline, const Wanted& wanted) {
  if (route_->mirror() != nullptr) {
    copy_ = MirroredRequest::start(service_, call_, route_, chosen_, body, outline, wanted);
  }
  return copy_ ? &copy_->answered() : nullptr;
}

void RoutedRequest::end(const RelayEnd& end) {
  told_ = true;
  if (copy_) copy_->end(end);
  if (end.hung_up) {
    route_->abandon(chosen_);
    return;
  }
  route_->observe(chosen_, end.seen);
  if (chosen_.decision && !end.seen.failed) learn(end);
}

void RoutedRequest::learn(const RelayEnd& end) {
  constexpr double nano = 1e-9;
  const double cost = end.cost ? static_cast<double>(end.cost->nanos) * nano : 0;
  route_->adaptive()->answered(call_.tenant(), call_.id(), end.response_id, *chosen_.decision, cost, end.seen.seconds);
  share_decision(service_, call_.exchange().executor(),
                 {.route = route_,
                  .tenant = call_.tenant(),
                  .request_id = call_.id(),
                  .response_id = end.response_id,
                  .decision = *chosen_.decision});
}

}  // namespace tidemill::gateway
