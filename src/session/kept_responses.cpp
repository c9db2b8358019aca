#include "session/kept_responses.hpp"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "base/utf8.hpp"

namespace tidemill::session {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

// What the record of a response begins with (records_of), and that of an item does not.
constexpr std::string_view response_begins = R"({"response":)";

constexpr size_t usual_page = 20;
constexpr size_t longest_page = 100;

void name_items(const std::string& response_id, json::array& items) {
  for (size_t i = 0; i < items.size(); ++i) {
    json::object& item = items[i].get_object();
    if (!item.contains("type")) item["type"] = "message";
    if (item.contains("id") && item.at("id").is_string()) continue;
    item["id"] = fmt::format("item_{}_{:02}", response_id.substr(std::min<size_t>(5, response_id.size())), i);
  }
}

Result<size_t> parse_limit(std::string_view given) {
  if (given.empty()) return usual_page;
  size_t limit = 0;
  for (const char c : given.substr(0, 4))
    limit = c >= '0' && c <= '9' ? limit * 10 + static_cast<size_t>(c - '0') : longest_page + 1;
  if (limit >= 1 && limit <= longest_page) return limit;
  return Error(ErrorCode::invalid_argument, fmt::format("'limit' must be an integer from 1 to {}", longest_page))
      .with_param("limit");
}

}  // namespace

json::array KeptResponse::conversation() const {
  json::array all = items;
  if (const json::value* output = response.if_contains("output"); output != nullptr && output->is_array()) {
    for (const json::value& item : output->get_array())
      all.push_back(item);
  }
  return all;
}

Result<json::value> parse_record(std::string_view value) {
  auto parsed = base::parse_json(value);
  if (parsed) return parsed;
  return Error(ErrorCode::corrupt, "the session store has a record that cannot be read")
      .caused_by(std::move(parsed).error());
}

Result<std::optional<KeptResponse>> read_response(SessionStore& store, std::string_view tenant, std::string_view id) {
  TM_TRY(const std::optional<std::string> value, store.get(tenant, id));
  if (!value) return std::optional<KeptResponse>();
  TM_TRY(const json::value parsed, parse_record(*value));
  const json::object* object = parsed.if_object();
  const json::value* response = object == nullptr ? nullptr : object->if_contains("response");
  const json::value* items = object == nullptr ? nullptr : object->if_contains("items");
  if (response == nullptr || items == nullptr || !response->is_object() || !items->is_array()) {
    return std::optional<KeptResponse>();  // an item, whose id is no response's
  }
  KeptResponse kept{.response = response->get_object(), .items = items->get_array()};
  const json::value* session = object->if_contains("session");
  if (session != nullptr && session->is_string()) kept.session = session->get_string();
  return std::optional(std::move(kept));
}

std::vector<Record> records_of(const json::object& response, json::array items, std::string_view session) {
  const std::string id(response.at("id").get_string());
  name_items(id, items);
  std::vector<Record> records;
  for (const json::value& item : response.at("output").get_array())
    records.push_back({std::string(item.at("id").get_string()), json::serialize(item)});
  json::object whole{{"response", response}, {"items", std::move(items)}};
  if (!session.empty()) whole["session"] = session;
  records.push_back({id, json::serialize(whole)});
  return records;
}

Result<bool> forget_response(SessionStore& store, std::string_view tenant, std::string_view id) {
  auto read = read_response(store, tenant, id);
  if (!read && read.error().code() == ErrorCode::corrupt) {
    // Its items are not known, and go when their time is over.
    TM_TRY(const std::optional<std::string> value, store.get(tenant, id));
    if (!value || !value->starts_with(response_begins)) return false;
    return store.remove(tenant, id);
  }
  TM_TRY(const std::optional<KeptResponse> kept, std::move(read));
  if (!kept) return false;
  for (const json::value& item : kept->response.at("output").get_array())
    TM_CHECK(store.remove(tenant, std::string_view(item.at("id").get_string())));
  return store.remove(tenant, id);
}

Result<json::object> page_of(const PageAsked& asked, json::array items) {
  TM_TRY(const size_t limit, parse_limit(asked.limit));
  if (!asked.order.empty() && asked.order != "asc" && asked.order != "desc") {
    return Error(ErrorCode::invalid_argument, fmt::format("'order' must be \"asc\" or \"desc\", not \"{}\"",
                                                          base::utf8::prefix(base::utf8::sanitize(asked.order), 40)))
        .with_param("order");
  }
  if (asked.order != "asc") std::reverse(items.begin(), items.end());
  size_t from = 0;
  if (!asked.after.empty()) {
    const auto is_it = [&](const json::value& item) { return item.at("id") == json::value(asked.after); };
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

KeptAsked KeptAsked::from(std::string_view rest,
                          const std::function<std::optional<std::string_view>(std::string_view name)>& param) {
  return {.rest = rest,
          .stream = param("stream") == "true",
          .page = {.limit = param("limit").value_or(""),
                   .order = param("order").value_or(""),
                   .after = param("after").value_or("")}};
}

Result<json::object> answer_get(SessionStore& store, std::string_view tenant, const KeptAsked& asked) {
  constexpr std::string_view items_suffix = "/input_items";
  std::string_view id = asked.rest;
  const bool of_items = id.ends_with(items_suffix);
  if (of_items) id.remove_suffix(items_suffix.size());
  TM_TRY(std::optional<KeptResponse> kept, read_response(store, tenant, id));
  if (!kept) return no_such_response(id);
  if (of_items) return page_of(asked.page, std::move(kept->items));
  if (asked.stream) {
    return Error(ErrorCode::unsupported, "a kept response is not streamed again").with_param("stream");
  }
  return std::move(kept->response);
}

Result<json::object> answer_delete(SessionStore& store, std::string_view tenant, std::string_view id) {
  TM_TRY(const bool removed, forget_response(store, tenant, id));
  if (!removed) return no_such_response(id);
  return json::object{{"id", id}, {"object", "response"}, {"deleted", true}};
}

Error no_such_response(std::string_view id) {
  return Error(ErrorCode::not_found, fmt::format("there is no response \"{}\"", base::utf8::prefix(id, 100)))
      .with_param("response_id");
}

Error no_such_previous_response(std::string_view id) {
  return Error(ErrorCode::invalid_argument,
               fmt::format("there is no response \"{}\": it was never kept, was deleted, or is too old",
                           base::utf8::prefix(id, 100)))
      .with_param("previous_response_id");
}

}  // namespace tidemill::session
