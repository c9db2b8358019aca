#include "gateway/routed_request.hpp"

#include <algorithm>

#include "gateway/feedback.hpp"
#include "gateway/request_traits.hpp"

namespace tidemill::gateway {

namespace {

// Of 4xx, those that say something of what was asked, and not of who asks or of whom.
bool is_about_content(int status) {
  return status == 400 || status == 413 || status == 415 || status == 422;
}

// A try that failed says something of a version even where a further one succeeded.
rollout::Observation observation_of(const RelayEnd& end) {
  rollout::Observation seen = end.seen;
  seen.failed = seen.failed || end.faulted;
  return seen;
}

}  // namespace

RoutedRequest::RoutedRequest(Service& service, Call& call, std::shared_ptr<ModelRoute> route,
                             const RequestOutline& outline, std::string_view session, int64_t prompt_tokens)
    : service_(service), call_(call), route_(std::move(route)) {
  const wire::HttpRequest& request = call.request();
  rollout::Features features;
  const bool can_choose = route_->adaptive() != nullptr && dialect_of(request.path) != Dialect::other;
  if (can_choose) features = rollout::features_of(traits_of(outline, prompt_tokens));
  const RouteKey key{.request_id = call.id(),
                     .session = session,
                     .headers = [&request](std::string_view name) { return request.headers.find(name); },
                     .features = can_choose ? &features : nullptr};
  chosen_ = route_->choose(key);
  asked_ = chosen_.target;
  others_ = route_->substitutes(chosen_);
  call.set_route(route_->name(), target().name, target().model);
}

RoutedRequest::~RoutedRequest() {
  if (!told_) end({.hung_up = true});
}

Handover RoutedRequest::handover() const {
  if (others_.empty()) return {};
  const bool counts = route_->adaptive() != nullptr && asked_ == route_->adaptive()->reference();
  return {.failures = true, .declines = is_first() && !counts};
}

AnswerText* RoutedRequest::mirror(std::string_view body, const RequestOutline& outline, const Wanted& wanted) {
  if (is_first() && route_->mirror() != nullptr) {
    copy_ = MirroredRequest::start(service_, call_, route_, chosen_, body, outline, wanted);
  }
  return copy_ ? &copy_->answered() : nullptr;
}

void RoutedRequest::end(const RelayEnd& end) {
  told_ = !end.handed_over;
  end_copy(end);
  if (is_first()) {
    judge_chosen(end);
  } else {
    judge_other(end);
  }
  if (chosen_.decision && !end.hung_up && end.declined == 0) learn(end);
  if (end.handed_over) next_target();
}

// Of what the chosen target did not answer, there is nothing to compare.
void RoutedRequest::end_copy(const RelayEnd& end) {
  if (!copy_) return;
  copy_->end(end.handed_over ? RelayEnd{.hung_up = true} : end);
  copy_.reset();
}

void RoutedRequest::judge_chosen(const RelayEnd& end) {
  if (end.hung_up && !end.faulted) {
    route_->abandon(chosen_);
  } else if (end.declined != 0 && end.handed_over) {
    declined_ = end.declined;
    declined_seen_ = end.seen;
    undecided_ = true;
  } else if (end.declined != 0) {
    route_->note(chosen_.target, {});
    route_->abandon(chosen_);
  } else {
    route_->observe(chosen_, observation_of(end));
  }
}

void RoutedRequest::judge_other(const RelayEnd& end) {
  if (undecided_) judge_decline(end);
  if (end.hung_up) return;
  route_->note(asked_, end.declined != 0 ? rollout::Observation() : observation_of(end));
}

// The one that counts has seen the request too.
void RoutedRequest::judge_decline(const RelayEnd& by_other) {
  undecided_ = false;
  const bool taken = !by_other.hung_up && !by_other.seen.failed;
  if (!taken) {
    if (by_other.declined != 0) route_->note(chosen_.target, {});
    route_->abandon(chosen_);
    return;
  }
  route_->observe(chosen_, declined_seen_);
  if (!chosen_.decision) return;
  AdaptiveChoice& choice = *route_->adaptive();
  if (is_about_content(declined_)) {
    choice.declined(call_.id(), *chosen_.decision, declined_seen_.seconds);
  } else {
    choice.failed(call_.id(), *chosen_.decision, declined_seen_.seconds);
  }
}

// The choice, and who answers.
rollout::Decision RoutedRequest::decision() const {
  rollout::Decision decision = *chosen_.decision;
  decision.model = asked_;
  decision.substitute = !is_first();
  return decision;
}

void RoutedRequest::before_last_byte(const std::string& response_id) {
  if (!chosen_.decision || std::exchange(ratable_, true)) return;
  route_->adaptive()->await_rating(call_.tenant(), call_.id(), response_id, decision());
  share_decision(service_, call_.exchange().executor(),
                 {.route = route_,
                  .tenant = call_.tenant(),
                  .request_id = call_.id(),
                  .response_id = response_id,
                  .decision = decision()});
}

void RoutedRequest::learn(const RelayEnd& end) {
  if (end.seen.failed) {
    route_->adaptive()->failed(call_.id(), decision(), end.seen.seconds);
    return;
  }
  before_last_byte(end.response_id);  // of a stream that ends without words for it
  constexpr double nano = 1e-9;
  const double cost = end.cost ? static_cast<double>(end.cost->nanos) * nano : 0;
  route_->adaptive()->answered(call_.id(), decision(), cost, end.seen.seconds);
}

void RoutedRequest::next_target() {
  route_->count_handover(asked_);
  service_.counters().retries.add();
  const auto reference =
      route_->adaptive() == nullptr ? others_.end() : std::ranges::find(others_, route_->adaptive()->reference());
  const auto next = undecided_ && reference != others_.end() ? reference : others_.begin();
  asked_ = *next;
  others_.erase(next);
  call_.set_route(route_->name(), target().name, target().model);
}

}  // namespace tidemill::gateway
