// How conversations (OpenAI's Conversations API) lie in a session store: the same for servers and gateways, so that
// each of them may take any turn.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"
#include "session/kept_responses.hpp"
#include "session/leases.hpp"
#include "session/session_store.hpp"

namespace tidemill::session {

// How much one may hold before nothing is added to it any more.
inline constexpr size_t most_conversation_items = 16'384;
inline constexpr size_t most_conversation_bytes = size_t{16} << 20;

// One record, with all items, so that a conversation ends, and makes room for others, as a whole. Its time begins anew
// with each change. Each item has an id that no other of the conversation has, its type and, where it has one, its
// status; the content of a message is an array of parts.
struct KeptConversation {
  base::json::object object;  // as clients see it: "id", "object", "created_at", "metadata"
  base::json::array items;    // the oldest first
  size_t bytes = 0;           // of the record

  bool holds(std::string_view item_id) const;
};

// Errors, here and below: the store's, and not_found with param "conversation", where there is none (any more).
base::Result<KeptConversation> read_conversation(SessionStore& store, std::string_view tenant, std::string_view id);

// Whether a turn with this input may go on from it. invalid_argument: an item has the id of one that the conversation
// holds (one that refers to it has not: it is of type "item_reference"), or the conversation is full.
base::Result<void> check_turn(const KeptConversation& conversation, const base::json::array& input);

// How a response that is complete is kept.
struct TurnKeeping {
  std::string conversation{};  // empty: it is of none
  bool store = true;           // by itself, too
  size_t known = 0;            // the first so many of its items are those of the conversation, or what came before
  std::string session{};       // as of records_of
};
// Keeps the response, made from `items`, by itself, and appends what is new of its items, then its output, to its
// conversation: both or neither, in one step, after whatever other turns have appended since this one began. An item
// whose id the conversation has got meanwhile is kept under another.
base::Result<void> keep_turn(SessionStore& store, std::string_view tenant, const base::json::object& response,
                             base::json::array items, const TurnKeeping& keeping);

// The lease (leases.hpp) of who adds to a conversation: a turn, from before it reads the conversation until it is kept,
// or somebody who appends items. So each sees what those before it have added. `holder` is new each time. Nothing is
// lost where one has lapsed: see keep_turn.
Lease lease_of(std::string_view tenant, std::string_view conversation);
// What is told to whoever comes in between; exhausted with param "conversation", as it may come again.
base::Error conversation_locked();

// What a request to /v1/conversations, or below it, asks for.
struct ConversationAsked {
  enum class Kind : uint8_t { create, retrieve, update, remove, list_items, add_items, retrieve_item, remove_item };
  Kind kind = Kind::create;
  std::string_view id{};          // of the conversation; empty: create
  std::string_view item{};        // its id
  PageAsked page{};               // of list_items
  base::json::array items{};      // of the body, checked
  base::json::object metadata{};  // likewise

  bool has_body() const { return kind == Kind::create || kind == Kind::update || kind == Kind::add_items; }
  // The member that the body must have; empty: none.
  std::string_view required() const {
    return kind == Kind::update ? "metadata" : kind == Kind::add_items ? "items" : "";
  }

  // `rest` is what stands behind "/v1/conversations/". `param` as of KeptAsked. not_found: there is no such endpoint.
  static base::Result<ConversationAsked> from(
      std::string_view method, std::string_view rest,
      const std::function<std::optional<std::string_view>(std::string_view name)>& param);
};

// The body of the answer; `now` in seconds since the Unix epoch. Errors: as above, those of page_of, not_found with
// param "item_id", invalid_argument (an id that is taken, a conversation that is full), unavailable (so many others
// change the conversation that this change never came to its turn).
base::Result<base::json::object> answer_conversation(SessionStore& store, std::string_view tenant,
                                                     const ConversationAsked& asked, int64_t now);

}  // namespace tidemill::session
