// A request to /v1/responses that belongs to a conversation, one of the Conversations API or one by its responses
// alone: resolved before it goes to a backend, which sees all of it in its input, and kept when the answer is complete.
// So any backend can answer any turn, and any gateway take it.
#pragma once

#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"
#include "gateway/answer_filter.hpp"
#include "gateway/request_outline.hpp"
#include "gateway/service.hpp"
#include "gateway/turn_lock.hpp"
#include "session/kept_conversations.hpp"
#include "session/session_store.hpp"

namespace tidemill::gateway {

struct Conversation {
  std::string body;         // what goes to the backend: "store" is false, and nothing is referred to
  base::json::array items;  // of the input, with all that came before
  std::string id;           // of the Conversations API; empty: it is none of those
  size_t known = 0;         // the first so many of the items are its own
  std::string session;      // by which a version was chosen for the turns before (session_key.hpp); empty: none was

  // Whether the request names one of the Conversations API, rightly or not.
  static bool is_named(const RequestOutline& outline);
  // Reads what the request refers to, with `turn` taken of a conversation that it names, which the caller has to end
  // whatever comes of this; blocks on the store. Errors: invalid_argument (the input, or an earlier response that is
  // not known), not_found (a conversation that is not), exhausted (another turn of it runs), and the store's.
  static base::Result<Conversation> open(session::SessionStore& store, std::string_view tenant, std::string_view body,
                                         const RequestOutline& outline, TurnLock& turn);
};

// What a client is told when the store fails, whichever way: mostly 503, to be tried again. What the store said is the
// cause. An error that is the request's own stays as it is.
base::Error store_failed(base::Error error);

// Writes into the answer what the client asked for ("store", "previous_response_id", "conversation"), and keeps the
// response, by itself and in its conversation, before the client hears that it is complete, so that it can go on at
// once, anywhere.
class ResponseKeeper final : public AnswerFilter {
 public:
  // Takes the items of `conversation`. `turn` is ended before the client hears that the response has. `session`: by
  // which a version of a route is chosen for this turn and those that follow; empty: none is.
  ResponseKeeper(Service& service, std::string tenant, const RequestOutline& outline, Conversation& conversation,
                 TurnLock& turn, std::string session);

  asio::awaitable<base::Result<void>> events(std::string_view events, std::string& out) override;
  asio::awaitable<base::Result<void>> whole(wire::HttpResponse& response) override;

 private:
  asio::awaitable<base::Result<void>> adopt(base::json::object& response, bool complete);

  Service& service_;
  const std::string tenant_;
  const std::string previous_response_id_;
  TurnLock& turn_;
  session::TurnKeeping keeping_;
  base::json::array items_;
};

}  // namespace tidemill::gateway
