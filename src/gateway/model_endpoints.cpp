// GET /v1/models and /v1/models/{id}: what all backends serve, as far as the caller may call it.
#include <map>
#include <string>

#include <fmt/core.h>

#include "base/json.hpp"
#include "base/utf8.hpp"
#include "gateway/call.hpp"
#include "gateway/endpoints.hpp"
#include "gateway/model_route.hpp"

namespace tidemill::gateway {

namespace json = base::json;

namespace {

// What may be asked for: the backends' models, and the routes, of which holds what holds of their targets' models.
std::map<std::string, ModelCard> all_models(const Service& service) {
  std::map<std::string, ModelCard> models;
  for (const auto& backend : service.fleet().backends()) {
    for (ModelCard& card : backend->model_cards()) {
      const auto [at, is_new] = models.try_emplace(card.id, card);
      if (!is_new) at->second.join(card);
    }
  }
  std::map<std::string, ModelCard> routed;
  const auto table = service.routes();
  for (const auto& route : table->routes()) {
    ModelCard card{.id = route->name()};
    for (const TargetOptions& target : route->plan().targets) {
      if (const auto known = models.find(target.model); known != models.end()) card.join(known->second);
    }
    routed[card.id] = card;
  }
  routed.merge(models);  // a route goes before a model of its name
  return routed;
}

asio::awaitable<void> list_models(Service& service, Call& call, const Caller& caller) {
  json::array cards;
  for (const auto& [name, card] : all_models(service)) {
    if (!Gate::check(caller, "read", name)) cards.push_back(to_json(card));
  }
  const json::object list{{"object", "list"}, {"data", std::move(cards)}};
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(list)));
}

asio::awaitable<void> get_model(Service& service, Call& call, const Caller& caller) {
  const std::string& wanted = call.request().path_rest;
  if (const auto denied = Gate::check(caller, "read", wanted)) {
    (void)co_await call.refuse(*denied);
    co_return;
  }
  const auto models = all_models(service);
  if (const auto known = models.find(wanted); known != models.end()) {
    (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(to_json(known->second))));
    co_return;
  }
  const auto error = base::Error(base::ErrorCode::not_found,
                                 fmt::format("no backend serves the model '{}'", base::utf8::prefix(wanted, 100)))
                         .with_param("model");
  (void)co_await call.refuse(error);
}

}  // namespace

void add_model_endpoints(wire::Router& router, Service& service) {
  router.add("GET", "/v1/models", for_callers(service, list_models, "read", Notice::little));
  router.add("GET", "/v1/models/*", for_callers(service, get_model, "read"));
}

}  // namespace tidemill::gateway
