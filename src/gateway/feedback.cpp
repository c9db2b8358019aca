#include "gateway/feedback.hpp"

#include <array>
#include <optional>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <fmt/core.h>

#include "base/json.hpp"
#include "base/utf8.hpp"
#include "rollout/pending_decisions.hpp"

namespace tidemill::gateway {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

// Not the name of any tenant's conversations: those are printable.
constexpr std::string_view store_tenant = "\nfeedback";
constexpr auto rated_once_for = std::chrono::hours(24 * 30);

bool is_shared(const Service& service) {
  return service.options()->session.path != ":memory:";
}

std::string record_of(const AnsweredDecision& answered) {
  return json::serialize(json::object{{"route", answered.route->name()},
                                      {"state", answered.route->adaptive()->state_key()},
                                      {"request_id", answered.request_id},
                                      {"response_id", answered.response_id},
                                      {"decision", rollout::to_json(answered.decision)}});
}

Error unknown(std::string_view id) {
  return Error(ErrorCode::not_found,
               fmt::format("no answer that can be rated is known by the id '{}': give the answer's 'id' or its "
                           "x-request-id, of a request to a route with [gateway.route.adaptive], and not too late",
                           base::utf8::prefix(id, 100)))
      .with_param("id");
}

Error rated_before(std::string_view id) {
  return Error(ErrorCode::invalid_argument,
               fmt::format("the answer '{}' has been rated: each is once", base::utf8::prefix(id, 100)))
      .with_param("id");
}

// What the store knows of a decision.
struct Kept {
  std::string route;
  std::string state;
  std::string request_id;
  std::string response_id;  // empty: the answer has none
  rollout::Decision decision;
};

Result<std::optional<Kept>> read_kept(session::SessionStore& store, const RatedId& id) {
  TM_TRY(const std::optional<std::string> text, store.get(store_tenant, id.key()));
  if (!text) return std::optional<Kept>();
  TM_TRY(const json::value parsed, base::parse_json(*text));
  const auto text_of = [&parsed](std::string_view key) {
    const json::value* value = parsed.is_object() ? parsed.get_object().if_contains(key) : nullptr;
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
  };
  const json::value* decision = parsed.is_object() ? parsed.get_object().if_contains("decision") : nullptr;
  if (decision == nullptr) return Error(ErrorCode::corrupt, "a decision in the store is none");
  TM_TRY(rollout::Decision read, rollout::decision_from_json(*decision));
  return std::optional(Kept{text_of("route"), text_of("state"), text_of("request_id"), text_of("response_id"), read});
}

// Whether nobody has rated it yet, at any gateway. By both of its ids, since callers may use an id of requests again,
// and backends one of answers.
Result<bool> claim(session::SharedState& store, std::string_view tenant, const Kept& kept) {
  std::string answer = RatedId{tenant, kept.request_id}.key();
  if (!kept.response_id.empty()) answer += '\n' + kept.response_id;
  const std::array additions = {session::CounterAdd{.key = "feedback/" + answer, .amount = 1, .lives = rated_once_for}};
  TM_TRY(const std::vector<int64_t> counts, store.add(additions));
  return counts.front() == 1;
}

Rating rating_of(const ModelRoute& route, std::string request_id, size_t model) {
  const TargetOptions& target = route.target(model);
  return {.route = route.name(), .target = target.name, .model = target.model, .request_id = std::move(request_id)};
}

// Of a decision that is known here.
std::optional<Result<Rating>> rate_here(const Service& service, const RatedId& id, double score) {
  const auto routes = service.routes();
  for (const auto& route : routes->routes()) {
    if (route->adaptive() == nullptr) continue;
    auto rated = route->adaptive()->rate(id, score);
    if (rated) return rating_of(*route, std::move(rated->request_id), rated->model);
    if (rated.error().code() != ErrorCode::not_found) return rated_before(id.id);
  }
  return std::nullopt;
}

}  // namespace

void share_decision(Service& service, const asio::any_io_executor& executor, AnsweredDecision answered) {
  if (!is_shared(service)) return;
  auto share = [](Service& to, AnsweredDecision what) -> asio::awaitable<void> {
    auto work = [&]() -> Result<void> {
      const std::string record = record_of(what);
      std::vector<session::Record> records = {{RatedId{what.tenant, what.request_id}.key(), record}};
      if (!what.response_id.empty()) records.push_back({RatedId{what.tenant, what.response_id}.key(), record});
      return to.sessions().put(store_tenant, records);
    };
    (void)co_await to.store_pool().run(work);
  };
  asio::co_spawn(executor, share(service, std::move(answered)), asio::detached);
}

asio::awaitable<Result<Rating>> rate(Service& service, RatedId id, double score) {
  if (!is_shared(service)) {
    auto here = rate_here(service, id, score);
    if (here) co_return std::move(*here);
    co_return unknown(id.id);
  }
  auto find = [&]() -> Result<std::optional<Kept>> {
    TM_TRY(std::optional<Kept> kept, read_kept(service.sessions(), id));
    if (!kept) return kept;
    TM_TRY(const bool first, claim(service.store(), id.tenant, *kept));
    if (!first) return rated_before(id.id);
    return kept;
  };
  auto kept = co_await service.store_pool().run(find);
  if (!kept) co_return std::move(kept).error();
  // One that was just made may not have reached the store yet.
  auto here = rate_here(service, id, score);
  if (here) co_return std::move(*here);
  if (!*kept) co_return unknown(id.id);
  const auto route = service.routes()->find((*kept)->route);
  if (!route || route->adaptive() == nullptr || route->adaptive()->state_key() != (*kept)->state ||
      (*kept)->decision.model >= route->plan().targets.size()) {
    co_return unknown(id.id);
  }
  route->adaptive()->rate((*kept)->request_id, (*kept)->decision, score);
  co_return rating_of(*route, (*kept)->request_id, (*kept)->decision.model);
}

}  // namespace tidemill::gateway
