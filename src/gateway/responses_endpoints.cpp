// GET and DELETE of what /v1/responses has kept.
#include <string>
#include <utility>

#include "base/json.hpp"
#include "gateway/call.hpp"
#include "gateway/conversation.hpp"
#include "gateway/endpoints.hpp"
#include "session/kept_responses.hpp"
#include "session/session_store.hpp"

namespace tidemill::gateway {

using base::Result;
namespace json = base::json;

namespace {

asio::awaitable<void> answer(Call& call, Result<json::object> made) {
  if (!made) {
    const base::Error failed = store_failed(std::move(made).error());
    (void)co_await call.refuse(failed, session::longest_pause);
    co_return;
  }
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(*made)));
}

asio::awaitable<void> retrieve(Service& service, Call& call, const Caller&) {
  const wire::HttpRequest& request = call.request();
  const auto asked = session::KeptAsked::from(request.path_rest,
                                              [&request](std::string_view name) { return request.query_param(name); });
  auto read = [&] { return session::answer_get(service.sessions(), call.tenant(), asked); };
  auto made = co_await service.store_pool().run(read);
  co_await answer(call, std::move(made));
}

asio::awaitable<void> remove(Service& service, Call& call, const Caller&) {
  auto work = [&] { return session::answer_delete(service.sessions(), call.tenant(), call.request().path_rest); };
  auto made = co_await service.store_pool().run(work);
  co_await answer(call, std::move(made));
}

}  // namespace

void add_responses_endpoints(wire::Router& router, Service& service) {
  router.add("GET", "/v1/responses/*", for_callers(service, retrieve, "read"));
  router.add("DELETE", "/v1/responses/*", for_callers(service, remove, "generate"));
}

}  // namespace tidemill::gateway
