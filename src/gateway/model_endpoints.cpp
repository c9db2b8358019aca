// GET /v1/models and /v1/models/{id}: what all backends serve, as far as the caller may call it.
#include <algorithm>
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

json::object model_card(const std::string& name) {
  return {{"id", name}, {"object", "model"}, {"created", 0}, {"owned_by", "tidemill"}};
}

// What may be asked for: the backends' models and the routes.
std::vector<std::string> all_models(const Service& service) {
  std::vector<std::string> names = service.fleet().models();
  const auto table = service.routes();
  for (const auto& route : table->routes())
    names.push_back(route->name());
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

asio::awaitable<void> list_models(Service& service, Call& call, const Caller& caller) {
  json::array cards;
  for (const std::string& name : all_models(service)) {
    if (!Gate::check(caller, "read", name)) cards.push_back(model_card(name));
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
  if (std::find(models.begin(), models.end(), wanted) != models.end()) {
    (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(model_card(wanted))));
    co_return;
  }
  const auto error = base::Error(base::ErrorCode::not_found,
                                 fmt::format("no backend serves the model '{}'", base::utf8::prefix(wanted, 100)))
                         .with_param("model");
  (void)co_await call.refuse(error);
}

}  // namespace

void add_model_endpoints(wire::Router& router, Service& service) {
  router.add("GET", "/v1/models", for_callers(service, list_models, "read"));
  router.add("GET", "/v1/models/*", for_callers(service, get_model, "read"));
}

}  // namespace tidemill::gateway
