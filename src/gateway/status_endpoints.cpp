// What probes, scrapers and people ask of the gateway itself. Neither logged nor traced.
#include <charconv>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/core.h>

#include "base/json.hpp"
#include "base/version.hpp"
#include "gateway/endpoints.hpp"
#include "observe/traces_json.hpp"
#include "wire/error_body.hpp"

namespace tidemill::gateway {

namespace json = base::json;
namespace asio = boost::asio;

namespace {

constexpr size_t most_traces = 1000;
constexpr size_t usual_traces = 100;

asio::awaitable<void> send(wire::Exchange& exchange, wire::HttpResponse response) {
  (void)co_await exchange.respond(std::move(response));
}

asio::awaitable<void> send_json(wire::Exchange& exchange, int status, const json::value& body) {
  return send(exchange, wire::HttpResponse::json(status, json::serialize(body)));
}

json::array backend_states(const Service& service) {
  json::array states;
  for (const auto& backend : service.fleet().backends()) {
    const BackendLoad load = backend->load();
    const auto marks = backend->sends_marks();
    json::array models;
    for (const std::string& name : backend->models())
      models.emplace_back(json::string(name));
    states.push_back(json::object{{"name", backend->name()},
                                  {"url", backend->options().url},
                                  {"ready", backend->reachable()},
                                  {"available", backend->available()},
                                  {"in_flight", backend->in_flight()},
                                  {"running", load.running},
                                  {"waiting", load.waiting},
                                  {"kv_usage", load.kv_usage},
                                  {"exact_resume", marks ? json::value(*marks) : json::value(nullptr)},
                                  {"models", std::move(models)}});
  }
  return states;
}

asio::awaitable<void> ready(const Service& service, wire::Exchange& exchange) {
  bool any = false;
  for (const auto& backend : service.fleet().backends())
    any = any || backend->reachable();
  if (any && !service.draining()) return send_json(exchange, 200, json::object{{"status", "ready"}});
  const char* status = service.draining() ? "draining" : "no backend is ready";
  wire::HttpResponse response = wire::HttpResponse::json(503, json::serialize(json::object{{"status", status}}));
  response.headers.set("Retry-After", "1");
  return send(exchange, std::move(response));
}

asio::awaitable<void> traces(Service& service, wire::Exchange& exchange) {
  const wire::HttpRequest& request = exchange.request();
  size_t limit = usual_traces;
  if (const auto given = request.query_param("limit")) {
    const auto [end, fault] = std::from_chars(given->data(), given->data() + given->size(), limit);
    if (fault != std::errc() || end != given->data() + given->size() || limit < 1 || limit > most_traces) {
      const auto error = base::Error(base::ErrorCode::invalid_argument,
                                     fmt::format("'limit' must be an integer from 1 to {}", most_traces))
                             .with_param("limit");
      return send(exchange, wire::error_response(error));
    }
  }
  const std::string trace_id(request.query_param("trace_id").value_or(""));
  return send(exchange, wire::HttpResponse::json(200, observe::traces_json(service.tracer(), trace_id, limit)));
}

}  // namespace

void add_status_endpoints(wire::Router& router, Service& service) {
  router.add("GET", "/health", [](wire::Exchange& exchange) {
    return send_json(exchange, 200, json::object{{"status", "ok"}});
  });
  router.add("GET", "/ready", [&service](wire::Exchange& exchange) { return ready(service, exchange); });
  router.add("GET", "/metrics", [&service](wire::Exchange& exchange) {
    return send(exchange,
                wire::HttpResponse::text(200, service.metrics().render(), std::string(observe::Metrics::content_type)));
  });
  router.add("GET", "/version", [](wire::Exchange& exchange) {
    return send_json(exchange, 200, json::object{{"version", base::version()}});
  });
  router.add("GET", "/", [](wire::Exchange& exchange) {
    return send_json(exchange, 200, json::object{{"name", "tidemill gateway"}, {"version", base::version()}});
  });
  router.add("GET", "/backends", [&service](wire::Exchange& exchange) {
    return send_json(exchange, 200, json::object{{"backends", backend_states(service)}});
  });
  router.add("GET", "/debug/traces", [&service](wire::Exchange& exchange) { return traces(service, exchange); });
}

}  // namespace tidemill::gateway
