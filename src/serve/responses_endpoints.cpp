// /v1/responses: OpenAI's Responses API over the session store.
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "serve/call.hpp"
#include "serve/endpoints.hpp"
#include "serve/generate_pipeline.hpp"
#include "session/kept_conversations.hpp"
#include "session/kept_responses.hpp"
#include "wire/responses_answer.hpp"
#include "wire/responses_request.hpp"

namespace tidemill::serve {

using base::Result;
namespace json = base::json;

namespace {

// What a request refers to.
struct Earlier {
  json::array items;  // of the conversation, or of the response before, its output last
  std::map<std::string, json::value> referenced;
  size_t bytes = 0;
};

Result<Earlier> read_earlier(session::SessionStore& store, const std::string& tenant,
                             const wire::ResponsesRequest& asked) {
  Earlier earlier;
  std::map<std::string, const json::value*> held;  // by the conversation
  if (!asked.previous_response_id.empty()) {
    TM_TRY(const std::optional<session::KeptResponse> kept,
           session::read_response(store, tenant, asked.previous_response_id));
    if (!kept) return session::no_such_previous_response(asked.previous_response_id);
    earlier.items = kept->conversation();
    earlier.bytes = json::serialize(earlier.items).size();
  } else if (!asked.conversation.empty()) {
    TM_TRY(session::KeptConversation kept, session::read_conversation(store, tenant, asked.conversation));
    TM_CHECK(session::check_turn(kept, asked.items));
    earlier.bytes = kept.bytes;
    earlier.items = std::move(kept.items);
    for (const json::value& item : earlier.items)
      held[std::string(item.at("id").get_string())] = &item;
  }
  for (const std::string& id : asked.references) {
    if (const auto own = held.find(id); own != held.end()) {
      earlier.referenced[id] = *own->second;
      continue;
    }
    TM_TRY(const std::optional<std::string> value, store.get(tenant, id));
    if (!value) continue;
    TM_TRY(earlier.referenced[id], session::parse_record(*value));
    earlier.bytes += value->size();
  }
  return earlier;
}

asio::awaitable<void> create(Service& service, Call& call) {
  const std::string& body = call.request().body;
  auto parse = [&] { return wire::parse_responses_request(body); };
  auto parsed = co_await service.run_text_work(body.size(), &call.exchange(), parse);
  if (!parsed) {
    (void)co_await call.refuse(std::move(parsed).error());
    co_return;
  }
  wire::ResponsesRequest& asked = *parsed;
  Earlier earlier;
  if (!asked.previous_response_id.empty() || !asked.conversation.empty() || !asked.references.empty()) {
    auto read = [&] { return read_earlier(service.sessions(), call.tenant(), asked); };
    auto found = co_await service.store_pool().run(read);
    if (!found) {
      (void)co_await call.refuse(std::move(found).error());
      co_return;
    }
    earlier = std::move(*found);
  }
  wire::ResponsesAnswer* answer = nullptr;  // the pipeline's
  Pipeline pipeline;
  pipeline.id_prefix = "resp_";
  pipeline.more_text_bytes = earlier.bytes;
  pipeline.parse = [&](std::string_view) -> Result<wire::Asked> {
    TM_CHECK(wire::join_conversation(asked, earlier.items, earlier.referenced));
    const auto write = [&](const wire::AnswerInfo& info) {
      auto made = std::make_unique<wire::ResponsesAnswer>(asked.form, info);
      answer = made.get();
      return made;
    };
    return wire::Asked{std::move(asked.request), write};
  };
  pipeline.keep = [&](const wire::Usage& usage) -> asio::awaitable<Result<void>> {
    const int64_t now = base::unix_nanos(service.clock().wall_now()) / 1'000'000'000;
    const json::object& response = answer->complete(usage, now);
    if (!asked.store && asked.conversation.empty()) co_return Result<void>();
    auto write = [&] {
      const session::TurnKeeping keeping{
          .conversation = asked.conversation, .store = asked.store, .known = earlier.items.size()};
      return session::keep_turn(service.sessions(), call.tenant(), response, std::move(asked.items), keeping);
    };
    co_return co_await service.store_pool().run(write);
  };
  co_await generate(service, call, std::move(pipeline));
}

asio::awaitable<void> answer(Call& call, Result<json::object> made) {
  if (!made) {
    (void)co_await call.refuse(std::move(made).error());
    co_return;
  }
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(*made)));
}

// GET /v1/responses/{id} and /v1/responses/{id}/input_items.
asio::awaitable<void> retrieve(Service& service, Call& call) {
  const wire::HttpRequest& request = call.request();
  const auto asked = session::KeptAsked::from(request.path_rest,
                                              [&request](std::string_view name) { return request.query_param(name); });
  auto read = [&] { return session::answer_get(service.sessions(), call.tenant(), asked); };
  auto made = co_await service.store_pool().run(read);
  co_await answer(call, std::move(made));
}

asio::awaitable<void> remove(Service& service, Call& call) {
  auto work = [&] { return session::answer_delete(service.sessions(), call.tenant(), call.request().path_rest); };
  auto made = co_await service.store_pool().run(work);
  co_await answer(call, std::move(made));
}

}  // namespace

void add_responses_endpoints(wire::Router& router, Service& service) {
  router.add("POST", "/v1/responses", api_handler(service, Needs::engine, create));
  router.add("GET", "/v1/responses/*", api_handler(service, Needs::model, retrieve));
  router.add("DELETE", "/v1/responses/*", api_handler(service, Needs::model, remove));
}

}  // namespace tidemill::serve
