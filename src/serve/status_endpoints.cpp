// What probes, scrapers and people ask: health, readiness, metrics, traces, version. Open without an API key and
// neither logged nor traced, except for the traces themselves.
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/core.h>

#include "base/version.hpp"
#include "observe/traces_json.hpp"
#include "serve/call.hpp"
#include "serve/endpoints.hpp"
#include "wire/unready.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

constexpr size_t most_traces = 1000;
constexpr size_t usual_traces = 100;

asio::awaitable<void> send(wire::Exchange& exchange, wire::HttpResponse response) {
  (void)co_await exchange.respond(std::move(response));
}

asio::awaitable<void> send_json(wire::Exchange& exchange, int status, json::object body) {
  return send(exchange, wire::HttpResponse::json(status, json::serialize(body)));
}

asio::awaitable<void> ready(Service& service, wire::Exchange& exchange) {
  const auto why = service.unready();
  if (!why) return send_json(exchange, 200, {{"status", "ready"}});
  json::object body{{"status", *why}};
  if (const auto refusal = service.refusal()) body["reason"] = refusal->message();
  wire::HttpResponse response = wire::HttpResponse::json(503, json::serialize(body));
  response.headers.set("Retry-After", std::to_string(service.retry_after_s()));
  wire::say_unready(response, why);
  return send(exchange, std::move(response));
}

json::object overview(const Service& service) {
  json::object body{{"name", "tidemill"}, {"version", base::version()}};
  if (const Serving* serving = service.serving()) body["model"] = serving->model->name();
  body["endpoints"] = json::array{"POST /v1/chat/completions",
                                  "POST /v1/completions",
                                  "POST /v1/responses",
                                  "POST /v1/conversations",
                                  "POST /v1/messages",
                                  "POST /v1/messages/count_tokens",
                                  "POST /v1/embeddings",
                                  "POST /v1/rerank",
                                  "GET /v1/models",
                                  "POST /tokenize",
                                  "POST /detokenize",
                                  "GET /health",
                                  "GET /ready",
                                  "GET /metrics",
                                  "GET /debug/traces",
                                  "GET /version"};
  if (service.options().mcp) body["endpoints"].get_array().emplace_back("POST /mcp");
  return body;
}

Result<size_t> parse_limit(std::string_view text) {
  size_t limit = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (fault != std::errc() || end != text.data() + text.size() || limit < 1 || limit > most_traces) {
    return Error(ErrorCode::invalid_argument, fmt::format("'limit' must be an integer from 1 to {}", most_traces))
        .with_param("limit");
  }
  return limit;
}

asio::awaitable<void> traces(Service& service, Call& call) {
  const std::string trace_id(call.request().query_param("trace_id").value_or(""));
  const auto given = call.request().query_param("limit");
  Result<size_t> limit = given ? parse_limit(*given) : Result<size_t>(usual_traces);
  if (!limit) {
    (void)co_await call.refuse(std::move(limit).error());
    co_return;
  }
  std::string body = observe::traces_json(service.tracer(), trace_id, *limit);
  (void)co_await call.respond(wire::HttpResponse::json(200, std::move(body)));
}

}  // namespace

void add_status_endpoints(wire::Router& router, Service& service) {
  router.add("GET", "/health", [](wire::Exchange& exchange) { return send_json(exchange, 200, {{"status", "ok"}}); });
  router.add("GET", "/ready", [&service](wire::Exchange& exchange) { return ready(service, exchange); });
  router.add("GET", "/metrics", [&service](wire::Exchange& exchange) {
    return send(exchange,
                wire::HttpResponse::text(200, service.metrics().render(), std::string(observe::Metrics::content_type)));
  });
  router.add("GET", "/version", [](wire::Exchange& exchange) {
    return send_json(exchange, 200, {{"version", base::version()}});
  });
  router.add("GET", "/", [&service](wire::Exchange& exchange) { return send_json(exchange, 200, overview(service)); });
  router.add("GET", "/debug/traces", api_handler(service, Needs::nothing, traces));
}

}  // namespace tidemill::serve
