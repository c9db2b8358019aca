// POST /v1/chat/completions and /v1/completions.
#include "serve/call.hpp"
#include "serve/endpoints.hpp"
#include "serve/generate_pipeline.hpp"
#include "wire/openai_request.hpp"

namespace tidemill::serve {

namespace {

asio::awaitable<void> chat_completions(Service& service, Call& call) {
  return generate(service, call, {.id_prefix = "chatcmpl-", .parse = wire::ask_chat, .keep = {}});
}
asio::awaitable<void> completions(Service& service, Call& call) {
  return generate(service, call, {.id_prefix = "cmpl-", .parse = wire::ask_completion, .keep = {}});
}

}  // namespace

void add_generate_endpoints(wire::Router& router, Service& service) {
  router.add("POST", "/v1/chat/completions", api_handler(service, Needs::engine, chat_completions));
  router.add("POST", "/v1/completions", api_handler(service, Needs::engine, completions));
}

}  // namespace tidemill::serve
