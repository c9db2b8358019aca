// What probes, scrapers and people ask of the gateway itself. Probes and scrapers need no key, and leave no line in the
// log; what tells of backends and requests is for administrators.
#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "access/refusal.hpp"
#include "base/json.hpp"
#include "base/version.hpp"
#include "gateway/call.hpp"
#include "gateway/endpoints.hpp"
#include "observe/traces_json.hpp"
#include "wire/unready.hpp"

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

json::value number(const std::optional<int64_t>& value) {
  return value ? json::value(*value) : json::value(nullptr);
}

json::object backend_state(const Backend& backend, const route::BackendView& view) {
  const route::BackendReport report = backend.report();
  const auto marks = backend.sends_marks();
  json::array models;
  for (const std::string& name : backend.models())
    models.emplace_back(json::string(name));
  return {{"name", backend.name()},
          {"url", backend.options().url},
          {"ready", backend.ready()},
          {"health", route::to_string(view.health)},
          {"share", view.ramp},
          {"in_flight", backend.in_flight()},
          {"running", number(report.running)},
          {"waiting", number(report.waiting)},
          {"kv_usage", report.kv_usage ? json::value(*report.kv_usage) : json::value(nullptr)},
          {"prefill_tokens_per_second", view.tokens_per_second},
          {"backlog_seconds", view.backlog_seconds},
          {"exact_resume", marks ? json::value(*marks) : json::value(nullptr)},
          {"models", std::move(models)}};
}

json::array backend_states(const Service& service) {
  json::array states;
  const std::vector<route::BackendView> views = service.fleet().view();
  for (const auto& backend : service.fleet().backends()) {
    const auto is_its = [&](const route::BackendView& view) { return view.address == backend->name(); };
    const auto view = std::find_if(views.begin(), views.end(), is_its);
    states.push_back(backend_state(*backend, view == views.end() ? route::BackendView() : *view));
  }
  return states;
}

asio::awaitable<void> ready(const Service& service, wire::Exchange& exchange) {
  bool any = false;
  for (const auto& backend : service.fleet().backends())
    any = any || backend->ready();
  if (any && !service.draining()) return send_json(exchange, 200, json::object{{"status", "ready"}});
  const char* status = service.draining() ? "draining" : "no backend is ready";
  wire::HttpResponse response = wire::HttpResponse::json(503, json::serialize(json::object{{"status", status}}));
  response.headers.set("Retry-After", access::retry_after_seconds(service.next_chance({})));
  wire::say_unready(response, service.unready());
  return send(exchange, std::move(response));
}

asio::awaitable<void> list_backends(Service& service, Call& call, const Caller&) {
  const json::object body{{"backends", backend_states(service)}};
  (void)co_await call.respond(wire::HttpResponse::json(200, json::serialize(body)));
}

base::Result<size_t> parse_limit(std::string_view text) {
  size_t limit = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (fault == std::errc() && end == text.data() + text.size() && limit >= 1 && limit <= most_traces) return limit;
  return base::Error(base::ErrorCode::invalid_argument,
                     fmt::format("'limit' must be an integer from 1 to {}", most_traces))
      .with_param("limit");
}

asio::awaitable<void> traces(Service& service, Call& call, const Caller&) {
  const auto given = call.request().query_param("limit");
  const base::Result<size_t> limit = given ? parse_limit(*given) : base::Result<size_t>(usual_traces);
  if (!limit) {
    (void)co_await call.refuse(limit.error());
    co_return;
  }
  const std::string trace_id(call.request().query_param("trace_id").value_or(""));
  std::string body = observe::traces_json({&service.tracer(), service.companion().tracer}, trace_id, *limit);
  (void)co_await call.respond(wire::HttpResponse::json(200, std::move(body)));
}

}  // namespace

void add_status_endpoints(wire::Router& router, Service& service) {
  router.add("GET", "/health", [](wire::Exchange& exchange) {
    return send_json(exchange, 200, json::object{{"status", "ok"}});
  });
  router.add("GET", "/ready", [&service](wire::Exchange& exchange) { return ready(service, exchange); });
  router.add("GET", "/metrics", [&service](wire::Exchange& exchange) {
    return send(exchange, wire::HttpResponse::text(200, service.metrics().render_with(service.companion().metrics),
                                                   std::string(observe::Metrics::content_type)));
  });
  router.add("GET", "/version", [](wire::Exchange& exchange) {
    return send_json(exchange, 200, json::object{{"version", base::version()}});
  });
  router.add("GET", "/", [](wire::Exchange& exchange) {
    return send_json(exchange, 200, json::object{{"name", "tidemill gateway"}, {"version", base::version()}});
  });
  router.add("GET", "/backends", for_callers(service, list_backends, "admin"));
  router.add("GET", "/debug/traces", for_callers(service, traces, "admin"));
}

}  // namespace tidemill::gateway
