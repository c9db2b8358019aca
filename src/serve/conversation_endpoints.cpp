// /v1/conversations: OpenAI's Conversations API over the session store.
#include <string>
#include <utility>

#include "base/clock.hpp"
#include "base/json.hpp"
#include "serve/call.hpp"
#include "serve/endpoints.hpp"
#include "session/kept_conversations.hpp"
#include "wire/conversation_body.hpp"

namespace tidemill::serve {

using base::Result;
namespace json = base::json;

namespace {

Result<json::object> answer_conversation_call(Service& service, Call& call) {
  const wire::HttpRequest& request = call.request();
  const auto param = [&request](std::string_view name) { return request.query_param(name); };
  TM_TRY(auto asked, session::ConversationAsked::from(request.method, request.path_rest, param));
  if (asked.has_body()) {
    TM_TRY(auto body, wire::parse_conversation_body(request.body, asked.required(), wire::ItemKinds::own));
    asked.items = std::move(body.items);
    asked.metadata = std::move(body.metadata);
  }
  const int64_t now = base::unix_nanos(service.clock().wall_now()) / 1'000'000'000;
  return session::answer_conversation(service.sessions(), call.tenant(), asked, now);
}

asio::awaitable<void> answer_about_conversation(Service& service, Call& call) {
  auto work = [&] { return answer_conversation_call(service, call); };
  auto made = co_await service.store_pool().run(work);
  if (!made) {
    (void)co_await call.refuse(std::move(made).error());
    co_return;
  }
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(*made)));
}

}  // namespace

void add_conversation_endpoints(wire::Router& router, Service& service) {
  const wire::Handler handler = api_handler(service, Needs::model, answer_about_conversation);
  router.add("POST", "/v1/conversations", handler);
  for (const char* method : {"GET", "POST", "DELETE"})
    router.add(method, "/v1/conversations/*", handler);
}

}  // namespace tidemill::serve
