// POST /v1/messages and /v1/messages/count_tokens, Anthropic's API.
#include <string>
#include <utility>

#include "serve/call.hpp"
#include "serve/endpoints.hpp"
#include "serve/generate_pipeline.hpp"
#include "wire/anthropic_request.hpp"

namespace tidemill::serve {

namespace json = base::json;

namespace {

asio::awaitable<void> messages(Service& service, Call& call) {
  return generate(service, call, {.id_prefix = "msg_", .parse = wire::ask_messages, .keep = {}});
}

// The same way to a prompt as messages go, so that the count is theirs.
asio::awaitable<void> count_tokens(Service& service, Call& call) {
  const std::string body = std::move(call.request().body);
  const Pipeline pipeline{.id_prefix = {}, .parse = wire::ask_count_tokens, .only_counts = true, .keep = {}};
  auto prepared = co_await prepare(service, call, pipeline, body, new_origin(service, "count-"), EngineCheck::spared);
  if (!prepared) {
    (void)co_await call.refuse(std::move(prepared).error());
    co_return;
  }
  const json::object counted{{"input_tokens", prepared->work.requests.front().prompt.size()}};
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(counted)));
}

}  // namespace

void add_messages_endpoints(wire::Router& router, Service& service) {
  router.add("POST", "/v1/messages", api_handler(service, Needs::engine, messages));
  router.add("POST", "/v1/messages/count_tokens", api_handler(service, Needs::model, count_tokens));
}

}  // namespace tidemill::serve
