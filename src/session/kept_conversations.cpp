#include "session/kept_conversations.hpp"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/ids.hpp"
#include "base/utf8.hpp"

namespace tidemill::session {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

// A record begins with its revision, a number that no other has: what has another has been changed.
constexpr std::string_view revision_begins = R"({"revision":")";
constexpr int revision_bytes = 16;
constexpr size_t revision_end = revision_begins.size() + size_t{2} * revision_bytes + 1;

// Of changes to one conversation at the same time one at least is done, so that this many others may be in between.
constexpr int most_tries = 100;

Error no_such_conversation(std::string_view id) {
  return Error(ErrorCode::not_found,
               fmt::format("there is no conversation \"{}\": it was never made, was deleted, or is too old",
                           base::utf8::prefix(id, 100)))
      .with_param("conversation");
}

Error no_such_item(const ConversationAsked& asked) {
  return Error(ErrorCode::not_found,
               fmt::format("the conversation \"{}\" has no item \"{}\"", base::utf8::prefix(asked.id, 100),
                           base::utf8::prefix(asked.item, 100)))
      .with_param("item_id");
}

Error taken_id(std::string_view array, size_t index, std::string_view id) {
  return Error(ErrorCode::invalid_argument,
               fmt::format("'{}[{}].id' is \"{}\", of an item that the conversation has already: leave the item out",
                           array, index, base::utf8::prefix(id, 80)))
      .with_param(fmt::format("{}[{}].id", array, index));
}

Error doubled_id(size_t first, size_t index, std::string_view id) {
  return Error(ErrorCode::invalid_argument,
               fmt::format("'items[{}].id' is \"{}\", as 'items[{}].id' is: each item has an id of its own", index,
                           base::utf8::prefix(id, 80), first))
      .with_param(fmt::format("items[{}].id", index));
}

// Empty: none.
std::string_view id_of(const json::value& item) {
  const json::value* id = item.get_object().if_contains("id");
  return id == nullptr || !id->is_string() ? std::string_view() : std::string_view(id->get_string());
}

std::unordered_set<std::string> ids_of(const json::array& items) {
  std::unordered_set<std::string> ids;
  for (const json::value& item : items)
    ids.emplace(id_of(item));
  return ids;
}

std::string new_item_id(std::string_view type) {
  constexpr std::pair<std::string_view, std::string_view> prefixes[] = {
      {"message", "msg_"}, {"function_call", "fc_"}, {"function_call_output", "fco_"}, {"reasoning", "rs_"}};
  for (const auto& [name, prefix] : prefixes)
    if (name == type) return base::random_id(prefix);
  return base::random_id("item_");
}

// What the items from `first` on have left out, as clients may: ids, types, statuses, the array around a text.
void complete_items(json::array& items, size_t first) {
  for (size_t i = first; i < items.size(); ++i) {
    json::object& item = items[i].get_object();
    if (!item.contains("type")) item["type"] = "message";
    const std::string type(item.at("type").is_string() ? std::string_view(item.at("type").get_string()) : "");
    if (id_of(items[i]).empty()) item["id"] = new_item_id(type);
    if (type != "message" && type != "function_call" && type != "function_call_output") continue;
    const json::value* status = item.if_contains("status");
    if (status == nullptr || status->is_null()) item["status"] = "completed";
    json::value* content = type == "message" ? item.if_contains("content") : nullptr;
    if (content == nullptr || !content->is_string()) continue;
    const json::value* role = item.if_contains("role");
    json::object part{{"type", "input_text"}, {"text", *content}};
    if (role != nullptr && *role == "assistant")
      part = {{"type", "output_text"}, {"text", *content}, {"annotations", json::array()}, {"logprobs", json::array()}};
    *content = json::array{std::move(part)};
  }
}

std::string record_of(const KeptConversation& conversation) {
  return json::serialize(json::object{{"revision", base::random_hex(revision_bytes)},
                                      {"conversation", conversation.object},
                                      {"items", conversation.items}});
}

// What begins otherwise is a response, or an item, of that id.
bool is_conversation(const std::optional<std::string>& record) {
  return record && record->starts_with(revision_begins) && record->size() >= revision_end;
}

struct Found {
  KeptConversation conversation;
  std::string begins;  // its record, as long as nobody changes it
};

Result<Found> find_conversation(SessionStore& store, std::string_view tenant, std::string_view id) {
  TM_TRY(const std::optional<std::string> value, store.get(tenant, id));
  if (!is_conversation(value)) return no_such_conversation(id);
  TM_TRY(json::value parsed, parse_record(*value));
  json::value* object = parsed.is_object() ? parsed.get_object().if_contains("conversation") : nullptr;
  json::value* items = parsed.is_object() ? parsed.get_object().if_contains("items") : nullptr;
  if (object == nullptr || items == nullptr || !object->is_object() || !items->is_array()) {
    return Error(ErrorCode::corrupt, "the session store holds what is no conversation under the id of one");
  }
  return Found{.conversation = {.object = std::move(object->get_object()),
                                .items = std::move(items->get_array()),
                                .bytes = value->size()},
               .begins = value->substr(0, revision_end)};
}

Error told_of_size(Error error, std::string_view id) {
  if (error.code() != ErrorCode::too_large) return error;
  return Error(
             ErrorCode::too_large,
             fmt::format("the conversation \"{}\" would take more than the session store keeps: delete items, begin a "
                         "new one, or set session.max_size",
                         base::utf8::prefix(id, 100)))
      .with_param("conversation");
}

// Reads the conversation, lets `alter` (which returns a Result<void>) change it, and writes it with `along` beside it;
// begins again if somebody else has written in between. The conversation as it was written.
template <typename Alter>
Result<KeptConversation> change(SessionStore& store, std::string_view tenant, std::string_view id, const Alter& alter,
                                std::vector<Record> along = {}) {
  std::vector<Record> records = std::move(along);
  records.push_back({std::string(id), {}});
  for (int i = 0; i < most_tries; ++i) {
    TM_TRY(Found found, find_conversation(store, tenant, id));
    TM_CHECK(alter(found.conversation));
    records.back().value = record_of(found.conversation);
    auto written = store.put_if(tenant, {.id = id, .begins = found.begins}, records);
    if (!written) return told_of_size(std::move(written).error(), id);
    if (*written) return std::move(found.conversation);
  }
  return Error(ErrorCode::unavailable, "too many others change the conversation at the same time: try again");
}

// Appends items of a request, all or none.
Result<void> add_items(KeptConversation& conversation, const json::array& items) {
  if (conversation.items.size() + items.size() > most_conversation_items) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("the conversation has {} items; with these it would have over "
                             "{}: delete some, or begin a new one",
                             conversation.items.size(), most_conversation_items))
        .with_param("items");
  }
  const std::unordered_set<std::string> ids = ids_of(conversation.items);
  std::unordered_map<std::string_view, size_t> added;
  for (size_t i = 0; i < items.size(); ++i) {
    const std::string_view id = id_of(items[i]);
    if (ids.contains(std::string(id))) return taken_id("items", i, id);
    if (const auto [at, fresh] = added.emplace(id, i); !fresh) return doubled_id(at->second, i, id);
    conversation.items.push_back(items[i]);
  }
  const size_t bytes = conversation.bytes + json::serialize(items).size();
  if (bytes > most_conversation_bytes) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("with these items the conversation would take {} bytes; at most {} are kept: delete some, "
                             "or begin a new one",
                             bytes, most_conversation_bytes))
        .with_param("items");
  }
  return {};
}

json::array::iterator find_item(json::array& items, std::string_view id) {
  return std::find_if(items.begin(), items.end(), [&](const json::value& item) { return id_of(item) == id; });
}

Result<json::object> create_conversation(SessionStore& store, std::string_view tenant, const ConversationAsked& asked,
                                         int64_t now) {
  const std::string id = base::random_id("conv_");
  KeptConversation made;
  made.object = {{"id", id}, {"object", "conversation"}, {"created_at", now}, {"metadata", asked.metadata}};
  json::array items = asked.items;
  complete_items(items, 0);
  TM_CHECK(add_items(made, items));
  const std::vector<Record> records = {{id, record_of(made)}};
  if (auto kept = store.put(tenant, records); !kept) return told_of_size(std::move(kept).error(), id);
  return std::move(made.object);
}

Result<json::object> add_to_conversation(SessionStore& store, std::string_view tenant, const ConversationAsked& asked) {
  json::array items = asked.items;
  complete_items(items, 0);
  const auto add = [&](KeptConversation& conversation) { return add_items(conversation, items); };
  TM_CHECK(change(store, tenant, asked.id, add));
  return page_of({.limit = "100", .order = "asc", .after = ""}, std::move(items));
}

Result<json::object> remove_conversation(SessionStore& store, std::string_view tenant, std::string_view id) {
  TM_TRY(const std::optional<std::string> value, store.get(tenant, id));
  if (!is_conversation(value)) return no_such_conversation(id);  // nor is one that cannot be read kept for ever
  TM_TRY(const bool removed, store.remove(tenant, id));
  if (!removed) return no_such_conversation(id);
  return json::object{{"id", id}, {"object", "conversation.deleted"}, {"deleted", true}};
}

Result<json::object> remove_item(SessionStore& store, std::string_view tenant, const ConversationAsked& asked) {
  const auto removal = [&](KeptConversation& conversation) -> Result<void> {
    const auto at = find_item(conversation.items, asked.item);
    if (at == conversation.items.end()) return no_such_item(asked);
    conversation.items.erase(at);
    return {};
  };
  TM_TRY(KeptConversation left, change(store, tenant, asked.id, removal));
  return std::move(left.object);
}

}  // namespace

bool KeptConversation::holds(std::string_view item_id) const {
  return std::any_of(items.begin(), items.end(), [&](const json::value& item) { return id_of(item) == item_id; });
}

Result<KeptConversation> read_conversation(SessionStore& store, std::string_view tenant, std::string_view id) {
  TM_TRY(Found found, find_conversation(store, tenant, id));
  return std::move(found.conversation);
}

Result<void> check_turn(const KeptConversation& conversation, const json::array& input) {
  if (conversation.bytes >= most_conversation_bytes ||
      conversation.items.size() + input.size() > most_conversation_items) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("the conversation is full: it has {} items of {} bytes, and at most {} items and {} bytes "
                             "are kept; delete some, or begin a new one",
                             conversation.items.size(), conversation.bytes, most_conversation_items,
                             most_conversation_bytes))
        .with_param("conversation");
  }
  const std::unordered_set<std::string> ids = ids_of(conversation.items);
  for (size_t i = 0; i < input.size(); ++i) {
    const json::value* type = input[i].get_object().if_contains("type");
    if (type != nullptr && *type == "item_reference") continue;
    const std::string id(id_of(input[i]));
    if (!id.empty() && ids.contains(id)) return taken_id("input", i, id);
  }
  return {};
}

Result<void> keep_turn(SessionStore& store, std::string_view tenant, const json::object& response, json::array items,
                       const TurnKeeping& keeping) {
  if (keeping.conversation.empty()) {
    if (!keeping.store) return {};
    return store.put(tenant, records_of(response, std::move(items), keeping.session));
  }
  complete_items(items, keeping.known);
  json::array added(items.begin() + static_cast<std::ptrdiff_t>(keeping.known), items.end());
  for (const json::value& item : response.at("output").get_array())
    added.push_back(item);
  complete_items(added, 0);
  const auto append = [&](KeptConversation& conversation) -> Result<void> {
    std::unordered_set<std::string> ids = ids_of(conversation.items);
    for (const json::value& item : added) {
      json::object own = item.get_object();
      if (!ids.emplace(id_of(item)).second)
        own["id"] = new_item_id(own.at("type").is_string() ? std::string_view(own.at("type").get_string()) : "");
      conversation.items.push_back(std::move(own));
    }
    return {};
  };
  std::vector<Record> along;
  if (keeping.store) along = records_of(response, std::move(items), keeping.session);
  TM_CHECK(change(store, tenant, keeping.conversation, append, std::move(along)));
  return {};
}

Lease lease_of(std::string_view tenant, std::string_view conversation) {
  return {.key = fmt::format("turn:{}:{}:{}", tenant.size(), tenant, conversation), .holder = base::random_id("turn_")};
}

Error conversation_locked() {
  return Error(
             ErrorCode::exhausted,
             "another response is made for this conversation, or items are added to it, at the moment: try again when "
             "that is done")
      .with_param("conversation");
}

Result<ConversationAsked> ConversationAsked::from(
    std::string_view method, std::string_view rest,
    const std::function<std::optional<std::string_view>(std::string_view name)>& param) {
  constexpr std::string_view items = "/items";
  const size_t slash = std::min(rest.find('/'), rest.size());
  const std::string_view behind = rest.substr(slash);
  const bool get = method == "GET" || method == "HEAD";
  ConversationAsked asked{.id = rest.substr(0, slash)};
  if (behind.empty() && (method == "POST" || !asked.id.empty())) {
    asked.kind = asked.id.empty()   ? Kind::create
                 : get              ? Kind::retrieve
                 : method == "POST" ? Kind::update
                                    : Kind::remove;
    return asked;
  }
  const bool of_one = !asked.id.empty();
  if (of_one && behind == items && (get || method == "POST")) {
    asked.kind = get ? Kind::list_items : Kind::add_items;
    asked.page = KeptAsked::from({}, param).page;
    return asked;
  }
  if (of_one && behind.starts_with("/items/") && behind.size() > items.size() + 1 && method != "POST") {
    asked.kind = get ? Kind::retrieve_item : Kind::remove_item;
    asked.item = behind.substr(items.size() + 1);
    return asked;
  }
  return Error(ErrorCode::not_found, fmt::format("there is no endpoint {} /v1/conversations/{}", method,
                                                 base::utf8::prefix(base::utf8::sanitize(rest), 200)));
}

Result<json::object> answer_conversation(SessionStore& store, std::string_view tenant, const ConversationAsked& asked,
                                         int64_t now) {
  using Kind = ConversationAsked::Kind;
  switch (asked.kind) {
    case Kind::create:
      return create_conversation(store, tenant, asked, now);
    case Kind::add_items:
      return add_to_conversation(store, tenant, asked);
    case Kind::remove:
      return remove_conversation(store, tenant, asked.id);
    case Kind::remove_item:
      return remove_item(store, tenant, asked);
    case Kind::update: {
      const auto update = [&](KeptConversation& conversation) -> Result<void> {
        conversation.object["metadata"] = asked.metadata;
        return {};
      };
      TM_TRY(KeptConversation updated, change(store, tenant, asked.id, update));
      return std::move(updated.object);
    }
    case Kind::retrieve:
    case Kind::list_items:
    case Kind::retrieve_item:
      break;
  }
  TM_TRY(KeptConversation kept, read_conversation(store, tenant, asked.id));
  if (asked.kind == Kind::retrieve) return std::move(kept.object);
  if (asked.kind == Kind::list_items) return page_of(asked.page, std::move(kept.items));
  const auto item = find_item(kept.items, asked.item);
  if (item == kept.items.end()) return no_such_item(asked);
  return std::move(item->get_object());
}

}  // namespace tidemill::session
