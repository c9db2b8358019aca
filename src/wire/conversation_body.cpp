#include "wire/conversation_body.hpp"

#include <utility>

#include <fmt/core.h>

#include "wire/json_fields.hpp"
#include "wire/openai_notes.hpp"
#include "wire/request_limits.hpp"
#include "wire/responses_items.hpp"

namespace tidemill::wire {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

constexpr size_t most_added = 20;       // items at a time
constexpr size_t longest_item_id = 64;  // bytes

Result<void> check_kept_item(const JsonFields& item, ItemKinds kinds) {
  TM_TRY(const auto id, item.string("id"));
  if (id && (id->empty() || id->size() > longest_item_id)) {
    return item.invalid("id", fmt::format("'{}' must have 1 to {} characters", item.path("id"), longest_item_id));
  }
  TM_TRY(const auto type, item.string("type"));
  if (type == "item_reference") {
    return item.invalid("type", fmt::format("'{}' is \"item_reference\", which stands for an item of a request to "
                                            "/v1/responses: send the item itself",
                                            item.path("type")));
  }
  return kinds == ItemKinds::own ? check_item(item) : Result<void>();
}

}  // namespace

Result<ConversationBody> parse_conversation_body(std::string_view body, std::string_view required, ItemKinds kinds) {
  TM_TRY(const json::object object, parse_body(body.empty() ? "{}" : body));
  const JsonFields fields(object);
  if (required == "metadata" && !object.contains("metadata"))
    return fields.invalid("metadata", "'metadata' is required: an object of strings, or null");
  ConversationBody read;
  TM_CHECK(check_metadata(fields));
  TM_TRY(const json::object* metadata, fields.object("metadata"));
  if (metadata != nullptr) read.metadata = *metadata;
  TM_TRY(const json::array* items, fields.array("items", most_added));
  const size_t count = items == nullptr ? 0 : items->size();
  if (required == "items" && count == 0)
    return fields.invalid("items", fmt::format("'items' is required: an array of 1 to {} items", most_added));
  PartCount parts;
  for (size_t i = 0; i < count; ++i) {
    const std::string place = fmt::format("items[{}]", i);
    const json::object* each = (*items)[i].if_object();
    if (each == nullptr) return fields.mismatch(place, "an object", (*items)[i]);
    const JsonFields item(*each, place);
    TM_CHECK(parts.add(item, {"content", "summary", "output"}));
    TM_CHECK(check_kept_item(item, kinds));
    read.items.push_back(*each);
  }
  return read;
}

Result<std::string> conversation_id_of(const json::value& conversation) {
  const json::object whole{{"conversation", conversation}};
  const JsonFields fields(whole);
  if (const json::object* object = conversation.if_object()) {
    const JsonFields members(*object, "conversation");
    TM_TRY(std::string id, members.required_string("id"));
    if (id.empty()) return members.invalid("id", "'conversation.id' must be the id of a conversation, not empty");
    return id;
  }
  if (!conversation.is_string())
    return fields.mismatch("conversation", "the id of a conversation or {\"id\": ...}", conversation);
  if (conversation.get_string().empty())
    return fields.invalid("conversation", "'conversation' must be the id of a conversation, not empty");
  return std::string(conversation.get_string());
}

Error conversation_and_response() {
  return Error(ErrorCode::invalid_argument,
               "'conversation' and 'previous_response_id' exclude each other: send one of them")
      .with_param("conversation");
}

}  // namespace tidemill::wire
