#include "gateway/conversation.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/core.h>

#include "gateway/json_members.hpp"
#include "gateway/whole_events.hpp"
#include "session/kept_responses.hpp"
#include "wire/conversation_body.hpp"
#include "wire/request_limits.hpp"
#include "wire/sse.hpp"

namespace tidemill::gateway {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

Error wrong_input(std::string message) {
  return Error(ErrorCode::invalid_argument, std::move(message)).with_param("input");
}

Result<json::array> read_input(std::string_view input) {
  if (input.empty()) return json::array();
  auto read = base::parse_json(input);
  if (!read) return std::move(read).error().wrap("'input'").with_param("input");
  json::value parsed = *std::move(read);
  if (parsed.is_string()) {
    const json::object text{{"type", "input_text"}, {"text", parsed.get_string()}};
    return json::array{json::object{{"type", "message"}, {"role", "user"}, {"content", json::array{text}}}};
  }
  if (!parsed.is_array()) return wrong_input("'input' must be a string or an array of items");
  const size_t count = parsed.get_array().size();
  if (count > wire::max_messages) {
    return wrong_input(fmt::format("'input' has {} entries; at most {} are taken", count, wire::max_messages));
  }
  for (const json::value& item : parsed.get_array()) {
    if (!item.is_object()) return wrong_input("'input' must hold objects only");
  }
  return std::move(parsed.get_array());
}

// The id of the conversation that the request names.
Result<std::string> named_conversation(const RequestOutline& outline) {
  auto value = base::parse_json(outline.conversation);
  if (!value) return std::move(value).error().wrap("'conversation'").with_param("conversation");
  TM_TRY(std::string id, wire::conversation_id_of(*value));
  if (!outline.previous_response_id.empty()) return wire::conversation_and_response();
  return id;
}

// What only names an item that the conversation holds is there already.
void drop_held(const session::KeptConversation& kept, json::array& input) {
  const auto is_held = [&kept](const json::value& item) {
    const json::object& object = item.get_object();
    const json::value* type = object.if_contains("type");
    const json::value* id = object.if_contains("id");
    return type != nullptr && *type == "item_reference" && id != nullptr && id->is_string() &&
           kept.holds(std::string_view(id->get_string()));
  };
  input.erase(std::remove_if(input.begin(), input.end(), is_held), input.end());
}

// Items that only name an earlier one become that one. Those that are not known stay: the backend says what is wrong.
Result<void> resolve_references(session::SessionStore& store, std::string_view tenant, json::array& items) {
  for (json::value& item : items) {
    const json::object& object = item.get_object();
    const json::value* type = object.if_contains("type");
    const json::value* id = object.if_contains("id");
    if (type == nullptr || *type != "item_reference" || id == nullptr || !id->is_string()) continue;
    TM_TRY(const std::optional<std::string> kept, store.get(tenant, std::string_view(id->get_string())));
    if (!kept) continue;
    TM_TRY(item, session::parse_record(*kept));
  }
  return {};
}

// `body` with these items as its input; without one, where there is none: to say so is the backend's.
std::string rewrite(std::string_view body, const json::array& items, bool input) {
  std::string out = "{";
  JsonMembers members(body);
  while (const auto member = members.next()) {
    const auto key = json_text(fmt::format("\"{}\"", member->key)).value_or("");
    if (key == "input" || key == "store" || key == "previous_response_id" || key == "conversation") continue;
    out += '"';
    out += member->key;
    out += "\":";
    out += member->value;
    out += ',';
  }
  out += "\"store\":false";
  if (input) out += ",\"input\":" + json::serialize(items);
  out += '}';
  return out;
}

// The events that carry the response, and whether they complete it.
struct Carrier {
  std::string_view event;
  bool complete;
};
constexpr Carrier carriers[] = {
    {"response.created", false},  {"response.queued", false},    {"response.in_progress", false},
    {"response.completed", true}, {"response.incomplete", true}, {"response.failed", false},
};

const Carrier* carrier_of(const WholeEvent& event) {
  if (!event.has_data) return nullptr;
  const std::string_view type = event.type();
  for (const Carrier& carrier : carriers) {
    if (carrier.event == type) return &carrier;
  }
  return nullptr;
}

}  // namespace

Result<Conversation> Conversation::open(session::SessionStore& store, std::string_view tenant, std::string_view body,
                                        const RequestOutline& outline, TurnLock& turn) {
  Conversation conversation;
  if (is_named(outline)) {
    TM_TRY(conversation.id, named_conversation(outline));
  }
  if (!outline.previous_response_id.empty()) {
    TM_TRY(const std::optional<session::KeptResponse> kept,
           session::read_response(store, tenant, outline.previous_response_id));
    if (!kept) return session::no_such_previous_response(outline.previous_response_id);
    conversation.items = kept->conversation();
    // What was kept before sessions were has its own id for one from here on.
    conversation.session = kept->session.empty() ? outline.previous_response_id : kept->session;
  }
  TM_TRY(json::array input, read_input(outline.prompt));
  if (!conversation.id.empty()) {
    TM_CHECK(turn.take(tenant, conversation.id));  // before it is read, so that all earlier turns are in it
    TM_TRY(session::KeptConversation kept, session::read_conversation(store, tenant, conversation.id));
    TM_CHECK(session::check_turn(kept, input));
    drop_held(kept, input);
    conversation.items = std::move(kept.items);
    conversation.known = conversation.items.size();
  }
  TM_CHECK(resolve_references(store, tenant, input));
  for (json::value& item : input)
    conversation.items.push_back(std::move(item));
  const bool has_input = !outline.prompt.empty() || !conversation.items.empty();
  conversation.body = rewrite(body, conversation.items, has_input);
  return conversation;
}

bool Conversation::is_named(const RequestOutline& outline) {
  return !outline.conversation.empty() && outline.conversation != "null";
}

Error store_failed(Error error) {
  if (!error.param().empty()) return error;  // which is the request's
  switch (error.code()) {
    case ErrorCode::unavailable:
    case ErrorCode::exhausted:
    case ErrorCode::timeout:
    case ErrorCode::io:
      return Error(ErrorCode::unavailable,
                   "the session store cannot be used at the moment: try again, or send 'store': false and the whole "
                   "conversation")
          .caused_by(std::move(error));
    case ErrorCode::corrupt:
    case ErrorCode::internal:
      return Error(ErrorCode::internal, "the session store holds what is no conversation").caused_by(std::move(error));
    default:
      return error;
  }
}

ResponseKeeper::ResponseKeeper(Service& service, std::string tenant, const RequestOutline& outline,
                               Conversation& conversation, TurnLock& turn, std::string session)
    : service_(service),
      tenant_(std::move(tenant)),
      previous_response_id_(outline.previous_response_id),
      turn_(turn),
      keeping_{.conversation = conversation.id,
               .store = outline.store,
               .known = conversation.known,
               .session = std::move(session)},
      items_(std::move(conversation.items)) {}

asio::awaitable<Result<void>> ResponseKeeper::adopt(json::object& response, bool complete) {
  response["store"] = keeping_.store;
  response["previous_response_id"] =
      previous_response_id_.empty() ? json::value(nullptr) : json::value(previous_response_id_);
  if (!keeping_.conversation.empty()) response["conversation"] = json::object{{"id", keeping_.conversation}};
  if (!complete) co_return Result<void>();
  const json::value* status = response.if_contains("status");
  if (status != nullptr && *status == "failed") keeping_.conversation.clear();  // which goes on from the turn before
  if (!keeping_.store && keeping_.conversation.empty()) co_return Result<void>();
  const json::value* id = response.if_contains("id");
  const json::value* output = response.if_contains("output");
  if (id == nullptr || !id->is_string() || output == nullptr || !output->is_array()) {
    co_return Error(ErrorCode::corrupt, "the backend's response has no id or no output to keep");
  }
  for (const json::value& item : output->get_array()) {
    const json::value* item_id = item.is_object() ? item.get_object().if_contains("id") : nullptr;
    if (item_id == nullptr || !item_id->is_string()) {
      co_return Error(ErrorCode::corrupt, "the backend's response has an item without an id");
    }
  }
  auto keep = [&] { return session::keep_turn(service_.sessions(), tenant_, response, std::move(items_), keeping_); };
  auto write = [&] { return turn_.end_after(keep); };
  auto kept = co_await service_.store_pool().run(write);
  if (!kept && store_failed(kept.error()).code() == ErrorCode::unavailable) service_.note_store_lost(true);
  if (!kept) co_return store_failed(std::move(kept).error().wrap("the response could not be kept"));
  co_return Result<void>();
}

asio::awaitable<Result<void>> ResponseKeeper::events(std::string_view events, std::string& out) {
  WholeEvents walk(events);
  while (const auto event = walk.next()) {
    const Carrier* carrier = carrier_of(*event);
    const bool fails = carrier == nullptr ? event->has_data && event->type() == "error"
                                          : carrier->event == std::string_view("response.failed");
    if (fails) co_await turn_.end_on(service_.store_pool());
    if (carrier == nullptr) {
      out += event->text;
      continue;
    }
    auto body = base::parse_json(event->data);
    json::value* response = body && body->is_object() ? body->get_object().if_contains("response") : nullptr;
    if (response == nullptr || !response->is_object()) {
      out += event->text;
      continue;
    }
    auto adopted = co_await adopt(response->get_object(), carrier->complete);
    if (!adopted) co_return adopted;
    wire::append_sse(out, json::serialize(*body), carrier->event);
  }
  co_return Result<void>();
}

asio::awaitable<Result<void>> ResponseKeeper::whole(wire::HttpResponse& response) {
  if (response.status != 200) co_return Result<void>();
  auto body = base::parse_json(response.body);
  if (!body || !body->is_object()) co_return Error(ErrorCode::corrupt, "the backend's response is no JSON object");
  json::object& object = body->get_object();
  const json::value* status = object.if_contains("status");
  const bool complete = status != nullptr && (*status == "completed" || *status == "incomplete");
  auto adopted = co_await adopt(object, complete);
  if (!adopted) co_return adopted;
  response.body = json::serialize(*body);
  co_return Result<void>();
}

}  // namespace tidemill::gateway
