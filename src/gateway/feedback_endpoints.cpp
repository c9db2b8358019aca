// POST /v1/feedback: what an answer was worth to whoever got it.
#include <optional>
#include <string>
#include <utility>

#include "base/json.hpp"
#include "gateway/call.hpp"
#include "gateway/conversation.hpp"
#include "gateway/endpoints.hpp"
#include "gateway/feedback.hpp"
#include "session/session_store.hpp"

namespace tidemill::gateway {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

struct Feedback {
  std::string id;
  double score = 0;
};

Error wrong(const char* param, std::string message) {
  return Error(ErrorCode::invalid_argument, std::move(message)).with_param(param);
}

Result<Feedback> read_feedback(std::string_view body) {
  const auto parsed = base::parse_json(body);
  const json::object* object = parsed ? parsed->if_object() : nullptr;
  if (object == nullptr) {
    return Error(ErrorCode::invalid_argument,
                 R"(the body must be a JSON object, as in {"id": "chatcmpl-...", "score": 1})");
  }
  const json::value* id = object->if_contains("id");
  if (id == nullptr || !id->is_string() || id->get_string().empty()) {
    return wrong("id", "'id' must be the id of an answer, or the x-request-id that came with it");
  }
  const json::value* score = object->if_contains("score");
  if (score == nullptr || !score->is_number() ||
      !(score->to_number<double>() >= 0 && score->to_number<double>() <= 1)) {
    return wrong("score", "'score' must be a number from 0 (worthless) to 1 (as good as can be)");
  }
  return Feedback{.id = std::string(id->get_string()), .score = score->to_number<double>()};
}

asio::awaitable<void> take_feedback(Service& service, Call& call, const Caller&) {
  const auto feedback = read_feedback(call.request().body);
  if (!feedback) {
    (void)co_await call.refuse(feedback.error());
    co_return;
  }
  const RatedId id{.tenant = call.tenant(), .id = feedback->id};
  auto rated = co_await rate(service, id, feedback->score);
  if (!rated) {
    const Error failed = store_failed(std::move(rated).error());
    (void)co_await call.refuse(failed, session::longest_pause);
    co_return;
  }
  const json::object answer{{"object", "feedback"},           {"id", feedback->id},      {"score", feedback->score},
                            {"route", rated->route},          {"target", rated->target}, {"model", rated->model},
                            {"request_id", rated->request_id}};
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(answer)));
}

}  // namespace

void add_feedback_endpoints(wire::Router& router, Service& service) {
  router.add("POST", "/v1/feedback", for_callers(service, take_feedback, "feedback"));
}

}  // namespace tidemill::gateway
