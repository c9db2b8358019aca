// How responses (OpenAI's Responses API) lie in a session store: the same for servers and gateways, so that either can
// go on with what the other has kept.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "session/session_store.hpp"

namespace tidemill::session {

// A record of a response is {"response": ..., "items": [...]}, the items being those of its input with all that came
// before, and where its gateway has chosen a version for the conversation, also "session": what it was chosen by. An
// item is kept under its id as well, for references to it.
struct KeptResponse {
  base::json::object response;
  base::json::array items;
  std::string session{};

  // What a following response's input begins with: the items, then the output.
  base::json::array conversation() const;
};

// What a record says. corrupt: it is no JSON, which is the store's fault and not that of whoever asks.
base::Result<base::json::value> parse_record(std::string_view value);

// Errors, here and below: the store's.
base::Result<std::optional<KeptResponse>> read_response(SessionStore& store, std::string_view tenant,
                                                        std::string_view id);

// What to put into the store for a complete response. Items without an id get one. `session` as above; empty: none.
std::vector<Record> records_of(const base::json::object& response, base::json::array items,
                               std::string_view session = {});

// The response and its output's items; of one that cannot be read, itself alone. Whether there was one.
base::Result<bool> forget_response(SessionStore& store, std::string_view tenant, std::string_view id);

// A page of items, as GET /v1/responses/{id}/input_items gives it: the latest first unless `order` is "asc" ("desc" or
// empty otherwise), at most `limit` (20 if empty), beginning after the item named `after`. invalid_argument with the
// parameter at fault.
struct PageAsked {
  std::string_view limit;
  std::string_view order;
  std::string_view after;
};
base::Result<base::json::object> page_of(const PageAsked& asked, base::json::array items);

// What GET /v1/responses/{rest} asks for: a response, or with "/input_items" behind its id, a page of its input.
struct KeptAsked {
  std::string_view rest;
  bool stream = false;
  PageAsked page;

  // `param` is asked for the parameters of the query, by name; what it gives must outlive this.
  static KeptAsked from(std::string_view rest,
                        const std::function<std::optional<std::string_view>(std::string_view name)>& param);
};
// The body of the answer. Errors: not_found, those of page_of, unsupported (`stream`).
base::Result<base::json::object> answer_get(SessionStore& store, std::string_view tenant, const KeptAsked& asked);
// The body of the answer to DELETE /v1/responses/{id}. Error: not_found.
base::Result<base::json::object> answer_delete(SessionStore& store, std::string_view tenant, std::string_view id);

// What a request for an id that the store does not know is told.
base::Error no_such_response(std::string_view id);           // not_found, param "response_id"
base::Error no_such_previous_response(std::string_view id);  // invalid_argument, param "previous_response_id"

}  // namespace tidemill::session
