// /v1/responses: OpenAI's Responses API over the session store.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/utf8.hpp"
#include "serve/call.hpp"
#include "serve/endpoints.hpp"
#include "serve/generate_pipeline.hpp"
#include "session/session_store.hpp"
#include "wire/responses_answer.hpp"
#include "wire/responses_request.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

constexpr size_t usual_page = 20;
constexpr size_t longest_page = 100;

// What a record of a response holds: {"response": ..., "items": [...]}, the items being those of its input with all
// that came before. An item is kept under its id as well, for references to it.
struct Kept {
  json::object response;
  json::array items;
};

Result<std::optional<Kept>> read_kept(session::SessionStore& store, const std::string& tenant, const std::string& id) {
  TM_TRY(const std::optional<std::string> value, store.get(tenant, id));
  if (!value) return std::optional<Kept>();
  TM_TRY(const json::value parsed, base::parse_json(*value));
  const json::object* object = parsed.if_object();
  const json::value* response = object == nullptr ? nullptr : object->if_contains("response");
  const json::value* items = object == nullptr ? nullptr : object->if_contains("items");
  if (response == nullptr || items == nullptr || !response->is_object() || !items->is_array()) {
    return std::optional<Kept>();  // an item, whose id is no response's
  }
  return std::optional(Kept{response->get_object(), items->get_array()});
}

// What a request refers to.
struct Earlier {
  json::array items;  // of the response before, its output last
  std::map<std::string, json::value> referenced;
  size_t bytes = 0;
};

Result<Earlier> read_earlier(session::SessionStore& store, const std::string& tenant,
                             const wire::ResponsesRequest& asked) {
  Earlier earlier;
  if (!asked.previous_response_id.empty()) {
    TM_TRY(std::optional<Kept> kept, read_kept(store, tenant, asked.previous_response_id));
    if (!kept) {
      return Error(ErrorCode::invalid_argument,
                   fmt::format("there is no response \"{}\": it was never kept, was deleted, or is too old",
                               base::utf8::prefix(asked.previous_response_id, 100)))
          .with_param("previous_response_id");
    }
    earlier.items = std::move(kept->items);
    if (const json::value* output = kept->response.if_contains("output"); output != nullptr && output->is_array()) {
      for (const json::value& item : output->get_array())
        earlier.items.push_back(item);
    }
    earlier.bytes = json::serialize(earlier.items).size();
  }
  for (const std::string& id : asked.references) {
    TM_TRY(const std::optional<std::string> value, store.get(tenant, id));
    if (!value) continue;
    TM_TRY(earlier.referenced[id], base::parse_json(*value));
    earlier.bytes += value->size();
  }
  return earlier;
}

// Items without an id get one.
void name_items(const std::string& response_id, json::array& items) {
  for (size_t i = 0; i < items.size(); ++i) {
    json::object& item = items[i].get_object();
    if (!item.contains("type")) item["type"] = "message";
    if (item.contains("id") && item.at("id").is_string()) continue;
    item["id"] = fmt::format("item_{}_{:02}", response_id.substr(std::min<size_t>(5, response_id.size())), i);
  }
}

std::vector<session::Record> records_of(const json::object& response, json::array items) {
  const std::string id(response.at("id").get_string());
  name_items(id, items);
  std::vector<session::Record> records;
  for (const json::value& item : response.at("output").get_array())
    records.push_back({std::string(item.at("id").get_string()), json::serialize(item)});
  const json::object whole{{"response", response}, {"items", std::move(items)}};
  records.push_back({id, json::serialize(whole)});
  return records;
}

asio::awaitable<void> create(Service& service, Call& call) {
  const std::string& body = call.request().body;
  auto parse = [&] { return wire::parse_responses_request(body); };
  auto parsed = co_await service.run_text_work(body.size(), parse);
  if (!parsed) {
    (void)co_await call.refuse(std::move(parsed).error());
    co_return;
  }
  wire::ResponsesRequest& asked = *parsed;
  Earlier earlier;
  if (!asked.previous_response_id.empty() || !asked.references.empty()) {
    auto read = [&] { return read_earlier(service.sessions(), call.tenant(), asked); };
    auto found = co_await service.run_store_work(read);
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
    if (!asked.store) co_return Result<void>();
    auto write = [&] { return service.sessions().put(call.tenant(), records_of(response, std::move(asked.items))); };
    co_return co_await service.run_store_work(write);
  };
  co_await generate(service, call, std::move(pipeline));
}

Error no_such_response(std::string_view id) {
  return Error(ErrorCode::not_found, fmt::format("there is no response \"{}\"", base::utf8::prefix(id, 100)))
      .with_param("response_id");
}

// What the store said, or that there is no such response.
template <typename T>
Error refusal_of(const Result<T>& found, std::string_view id) {
  if (!found) return found.error();
  return no_such_response(id);
}

// A page of the items, the latest first unless "order" is "asc".
Result<json::object> page_of(const wire::HttpRequest& request, json::array items) {
  size_t limit = usual_page;
  if (const auto given = request.query_param("limit")) {
    limit = 0;
    for (const char c : given->substr(0, 4))
      limit = c >= '0' && c <= '9' ? limit * 10 + static_cast<size_t>(c - '0') : longest_page + 1;
    if (limit < 1 || limit > longest_page) {
      return Error(ErrorCode::invalid_argument, fmt::format("'limit' must be an integer from 1 to {}", longest_page))
          .with_param("limit");
    }
  }
  if (request.query_param("order").value_or("desc") != "asc") std::reverse(items.begin(), items.end());
  size_t from = 0;
  if (const auto after = request.query_param("after")) {
    const auto is_it = [&](const json::value& item) { return item.at("id") == json::value(*after); };
    const auto found = std::find_if(items.begin(), items.end(), is_it);
    if (found == items.end()) {
      return Error(ErrorCode::invalid_argument, "'after' must be the id of an item of this list").with_param("after");
    }
    from = static_cast<size_t>(found - items.begin()) + 1;
  }
  const size_t to = std::min(items.size(), from + limit);
  json::array data(items.begin() + static_cast<std::ptrdiff_t>(from), items.begin() + static_cast<std::ptrdiff_t>(to));
  json::object page{{"object", "list"}, {"has_more", to < items.size()}};
  page["first_id"] = data.empty() ? json::value(nullptr) : data.front().at("id");
  page["last_id"] = data.empty() ? json::value(nullptr) : data.back().at("id");
  page["data"] = std::move(data);
  return page;
}

// GET /v1/responses/{id} and /v1/responses/{id}/input_items.
asio::awaitable<void> retrieve(Service& service, Call& call) {
  constexpr std::string_view items_suffix = "/input_items";
  std::string id = call.request().path_rest;
  const bool of_items = id.ends_with(items_suffix);
  if (of_items) id.resize(id.size() - items_suffix.size());
  auto read = [&] { return read_kept(service.sessions(), call.tenant(), id); };
  auto kept = co_await service.run_store_work(read);
  if (!kept || !*kept) {
    (void)co_await call.refuse(refusal_of(kept, id));
    co_return;
  }
  if (!of_items) {
    if (call.request().query_param("stream").value_or("false") == "true") {
      (void)co_await call.refuse(
          Error(ErrorCode::unsupported, "a kept response is not streamed again").with_param("stream"));
      co_return;
    }
    (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize((*kept)->response)));
    co_return;
  }
  auto page = page_of(call.request(), std::move((*kept)->items));
  if (!page) {
    (void)co_await call.refuse(std::move(page).error());
    co_return;
  }
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(*page)));
}

// The response and its items.
Result<bool> forget(session::SessionStore& store, const std::string& tenant, const std::string& id) {
  TM_TRY(const std::optional<Kept> kept, read_kept(store, tenant, id));
  if (!kept) return false;
  for (const json::value& item : kept->response.at("output").get_array())
    TM_CHECK(store.remove(tenant, std::string_view(item.at("id").get_string())));
  return store.remove(tenant, id);
}

asio::awaitable<void> remove(Service& service, Call& call) {
  const std::string id = call.request().path_rest;
  auto work = [&] { return forget(service.sessions(), call.tenant(), id); };
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
  router.add("POST", "/v1/responses", api_handler(service, Needs::engine, create));
  router.add("GET", "/v1/responses/*", api_handler(service, Needs::model, retrieve));
  router.add("DELETE", "/v1/responses/*", api_handler(service, Needs::model, remove));
}

}  // namespace tidemill::serve
