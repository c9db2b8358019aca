// GET /v1/models and /v1/models/{id}.
#include <string>
#include <utility>

#include "serve/call.hpp"
#include "serve/endpoints.hpp"

namespace tidemill::serve {

namespace json = base::json;

namespace {

json::object model_card(const Serving& serving) {
  return {{"id", serving.model->name()},
          {"object", "model"},
          {"created", serving.since},
          {"owned_by", "tidemill"},
          {"max_model_len", serving.engine->max_context()}};
}

asio::awaitable<void> list_models(Service& service, Call& call) {
  const json::object list{{"object", "list"}, {"data", json::array{model_card(*service.serving())}}};
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(list)));
}

asio::awaitable<void> get_model(Service& service, Call& call) {
  const Serving& serving = *service.serving();
  auto known = check_model(serving, call.request().path_rest);
  if (known) {
    (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(model_card(serving))));
  } else {
    (void)co_await call.refuse(std::move(known).error());
  }
}

}  // namespace

void add_model_endpoints(wire::Router& router, Service& service) {
  router.add("GET", "/v1/models", api_handler(service, Needs::model, list_models, Notice::little));
  router.add("GET", "/v1/models/*", api_handler(service, Needs::model, get_model));
}

}  // namespace tidemill::serve
