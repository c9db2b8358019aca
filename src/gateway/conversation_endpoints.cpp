// /v1/conversations: OpenAI's Conversations API, answered from the session store.
#include <string>
#include <utility>

#include "base/clock.hpp"
#include "base/json.hpp"
#include "gateway/call.hpp"
#include "gateway/conversation.hpp"
#include "gateway/endpoints.hpp"
#include "gateway/turn_lock.hpp"
#include "session/kept_conversations.hpp"
#include "session/session_store.hpp"
#include "wire/conversation_body.hpp"

namespace tidemill::gateway {

using base::Result;
namespace json = base::json;

namespace {

Result<json::object> answer_conversation_call(Service& service, Call& call) {
  const wire::HttpRequest& request = call.request();
  const auto param = [&request](std::string_view name) { return request.query_param(name); };
  TM_TRY(auto asked, session::ConversationAsked::from(request.method, request.path_rest, param));
  if (asked.has_body()) {
    // What a backend can go on from, it alone knows.
    TM_TRY(auto body, wire::parse_conversation_body(request.body, asked.required(), wire::ItemKinds::any));
    asked.items = std::move(body.items);
    asked.metadata = std::move(body.metadata);
  }
  const int64_t now = base::unix_nanos(service.clock().wall_now()) / 1'000'000'000;
  TurnLock turn(service.store(), service.leases());
  const bool adds = asked.kind == session::ConversationAsked::Kind::add_items;
  if (adds) TM_CHECK(turn.take(call.tenant(), asked.id));  // or a turn that runs would not have seen them
  return turn.end_after([&] { return session::answer_conversation(service.sessions(), call.tenant(), asked, now); });
}

asio::awaitable<void> answer_about_conversation(Service& service, Call& call, const Caller&) {
  auto work = [&] { return answer_conversation_call(service, call); };
  auto made = co_await service.store_pool().run(work);
  if (!made) {
    const base::Error failed = store_failed(std::move(made).error());
    (void)co_await call.refuse(failed, session::longest_pause);
    co_return;
  }
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(*made)));
}

}  // namespace

// What may generate may keep what it goes on from, and forget it; reading is as of responses.
void add_conversation_endpoints(wire::Router& router, Service& service) {
  router.add("POST", "/v1/conversations", for_callers(service, answer_about_conversation, "generate"));
  for (const char* method : {"POST", "DELETE"})
    router.add(method, "/v1/conversations/*", for_callers(service, answer_about_conversation, "generate"));
  router.add("GET", "/v1/conversations/*", for_callers(service, answer_about_conversation, "read"));
}

}  // namespace tidemill::gateway
