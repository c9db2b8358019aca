// What goes to a backend.
#include <functional>
#include <string>
#include <utility>

#include "gateway/call.hpp"
#include "gateway/conversation.hpp"
#include "gateway/endpoints.hpp"
#include "gateway/relay.hpp"
#include "gateway/request_outline.hpp"

namespace tidemill::gateway {

using base::Result;

namespace {

// As much of a prompt's start as tells conversations apart: a system prompt may be the same for all of them.
constexpr size_t affinity_bytes = 4096;

// Requests of one session meet again, and so do the turns of one conversation, whose prompts begin alike.
uint64_t affinity_of(const wire::HttpRequest& request, const RequestOutline& outline) {
  const std::hash<std::string_view> hash;
  if (const auto session = request.headers.find("x-session-token"); session && !session->empty()) return hash(*session);
  return hash(outline.system) ^ (hash(outline.prompt.substr(0, affinity_bytes)) << 1);
}

// A turn of a conversation that the gateway keeps.
asio::awaitable<void> converse(Service& service, Call& call, const RequestOutline& outline) {
  const wire::HttpRequest& request = call.request();
  auto open = [&] { return Conversation::open(service.sessions(), call.tenant(), request.body, outline); };
  const bool refers =
      !outline.previous_response_id.empty() || outline.prompt.find("item_reference") != outline.prompt.npos;
  Result<Conversation> conversation = Conversation();
  if (refers) {
    conversation = co_await service.run_store_work(open);
  } else {
    conversation = open();
  }
  if (!conversation) {
    (void)co_await call.refuse(conversation.error());
    co_return;
  }
  auto resolved = RequestOutline::read(conversation->body);
  if (!resolved) {
    (void)co_await call.refuse(resolved.error());
    co_return;
  }
  ResponseKeeper keeper(service, call.tenant(), outline, std::move(conversation->items));
  RelayRequest relayed{.body = conversation->body, .outline = *resolved, .wanted = {}, .filter = &keeper};
  relayed.wanted.model = relayed.outline.model;
  relayed.wanted.affinity = affinity_of(request, *resolved);
  Relay relay(service, call, std::move(relayed));
  co_await relay.run();
}

asio::awaitable<void> proxy(Service& service, wire::Exchange& exchange) {
  Call call(service, exchange);
  if (service.draining()) {
    co_return (void) co_await call.refuse({base::ErrorCode::unavailable, "the gateway is stopping"});
  }
  const wire::HttpRequest& request = call.request();
  auto outline = RequestOutline::read(request.body);
  if (!outline) {
    // Other endpoints may take what is no JSON.
    if (dialect_of(request.path) != Dialect::other) {
      (void)co_await call.refuse(outline.error());
      co_return;
    }
    outline = RequestOutline();
  }
  call.set_model(outline->model);
  if (dialect_of(request.path) == Dialect::responses && (outline->store || !outline->previous_response_id.empty())) {
    co_await converse(service, call, *outline);
    co_return;
  }
  RelayRequest relayed{.body = request.body, .outline = *outline, .wanted = {}, .filter = nullptr};
  relayed.wanted.model = relayed.outline.model;
  relayed.wanted.affinity = affinity_of(request, *outline);
  Relay relay(service, call, std::move(relayed));
  co_await relay.run();
}

}  // namespace

void add_proxy_endpoints(wire::Router& router, Service& service) {
  const auto handler = [&service](wire::Exchange& exchange) { return proxy(service, exchange); };
  for (const char* path : {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages",
                           "/v1/messages/count_tokens", "/v1/embeddings", "/v1/*", "/tokenize", "/detokenize"}) {
    router.add("POST", path, handler);
  }
}

}  // namespace tidemill::gateway
