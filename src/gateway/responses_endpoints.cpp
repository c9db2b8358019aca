// GET and DELETE of what /v1/responses has kept.
#include <optional>
#include <string>
#include <utility>

#include "base/json.hpp"
#include "gateway/call.hpp"
#include "gateway/conversation.hpp"
#include "gateway/endpoints.hpp"
#include "session/kept_responses.hpp"

namespace tidemill::gateway {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

// What the store said, or that there is no such response.
template <typename T>
Error refusal_of(const Result<T>& found, std::string_view id) {
  if (!found) return store_failed(found.error());
  return session::no_such_response(id);
}

// GET /v1/responses/{id} and /v1/responses/{id}/input_items.
asio::awaitable<void> retrieve(Service& service, Call& call, const Caller&) {
  constexpr std::string_view items_suffix = "/input_items";
  std::string id = call.request().path_rest;
  const bool of_items = id.ends_with(items_suffix);
  if (of_items) id.resize(id.size() - items_suffix.size());
  auto read = [&] { return session::read_response(service.sessions(), call.tenant(), id); };
  auto kept = co_await service.run_store_work(read);
  if (!kept || !*kept) {
    (void)co_await call.refuse(refusal_of(kept, id));
    co_return;
  }
  const wire::HttpRequest& request = call.request();
  if (!of_items) {
    if (request.query_param("stream").value_or("false") == "true") {
      const Error error = Error(ErrorCode::unsupported, "a kept response is not streamed again").with_param("stream");
      (void)co_await call.refuse(error);
      co_return;
    }
    (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize((*kept)->response)));
    co_return;
  }
  const session::PageAsked asked{.limit = request.query_param("limit").value_or(""),
                                 .order = request.query_param("order").value_or(""),
                                 .after = request.query_param("after").value_or("")};
  auto page = session::page_of(asked, std::move((*kept)->items));
  if (!page) {
    (void)co_await call.refuse(page.error());
    co_return;
  }
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(*page)));
}

asio::awaitable<void> remove(Service& service, Call& call, const Caller&) {
  const std::string id = call.request().path_rest;
  auto work = [&] { return session::forget_response(service.sessions(), call.tenant(), id); };
  auto removed = co_await service.run_store_work(work);
  if (!removed || !*removed) {
    (void)co_await call.refuse(refusal_of(removed, id));
    co_return;
  }
  const json::object answer{{"id", id}, {"object", "response"}, {"deleted", true}};
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(answer)));
}

}  // namespace

void add_responses_endpoints(wire::Router& router, Service& service) {
  router.add("GET", "/v1/responses/*", for_callers(service, retrieve, "read"));
  router.add("DELETE", "/v1/responses/*", for_callers(service, remove, "read"));
}

}  // namespace tidemill::gateway
