#include "gateway/gateway.hpp"

#include <algorithm>
#include <future>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_future.hpp>
#include <fmt/format.h>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "gateway/adaptive_choice.hpp"
#include "gateway/endpoints.hpp"
#include "gateway/line_log.hpp"
#include "gateway/model_route.hpp"
#include "gateway/poller.hpp"
#include "gateway/restart_only.hpp"
#include "gateway/rollout_exchange.hpp"
#include "gateway/roster.hpp"
#include "gateway/route_options.hpp"
#include "gateway/route_plan.hpp"
#include "gateway/service.hpp"
#include "gateway/store_watch.hpp"
#include "observe/process_metrics.hpp"
#include "wire/as_result.hpp"
#include "wire/http_metrics.hpp"
#include "wire/http_server.hpp"
#include "wire/listener_options.hpp"
#include "wire/span_export.hpp"

namespace tidemill::gateway {

using base::Result;

namespace {

// How long lines of the access log may wait for others.
constexpr auto log_interval = std::chrono::milliseconds(250);
// How often gateways tell each other what was used, and how many of these times there are between two looks at the
// store.
constexpr auto keep_interval = std::chrono::milliseconds(100);
constexpr int keeps_between_looks = 10;
// How often waits in the queue are looked at.
constexpr auto expire_interval = std::chrono::milliseconds(100);
// How often they tell each other of rollouts.
constexpr auto rollout_interval = std::chrono::seconds(1);

// What the server has answered by itself; of everything else the call writes the line (call.hpp).
void log_own_answer(Service& service, const wire::ExchangeSummary& summary) {
  if (summary.handled || !service.access_log().enabled()) return;
  AccessRecord record;
  record.time = summary.received;
  record.id = summary.request_id;
  record.peer = summary.peer;
  record.method = summary.method.substr(0, longest_logged_method);
  record.path = summary.path.substr(0, longest_logged_path);
  record.status = summary.status;
  record.duration = summary.duration;
  record.bytes_in = summary.request_bytes;
  record.bytes_out = summary.body_bytes;
  record.error = summary.error;
  service.access_log().write(record);
}

void flush_logs(Service& service) {
  service.access_log().flush();
  const auto table = service.routes();
  for (const auto& route : table->routes())
    if (route->adaptive() != nullptr) route->adaptive()->flush();
}

// Those of routes that stay as they are too: they may have been rotated.
Result<std::vector<std::pair<AdaptiveChoice*, LineFile>>> open_decision_logs(const RouteTable& routes) {
  std::vector<std::pair<AdaptiveChoice*, LineFile>> opened;
  for (const auto& route : routes.routes()) {
    if (route->adaptive() == nullptr) continue;
    TM_TRY(LineFile file, route->adaptive()->open_log());
    opened.emplace_back(route->adaptive(), std::move(file));
  }
  return opened;
}

bool names_backends(const GatewayOptions& options) {
  return !options.backends.empty() || !options.backend_urls.empty() || !options.discover.empty();
}

// A file that is read while it is being written, or that was emptied, would have the gateway let go of all that it has.
Result<void> check_left(const GatewayOptions& before, const GatewayOptions& options) {
  if (names_backends(options) || !names_backends(before)) return {};
  return base::Error(base::ErrorCode::invalid_argument,
                     "no backend is left: there is no [[gateway.backend]], no gateway.backends and no "
                     "[[gateway.discover]], and a gateway that has backends is not left without any by a reload")
      .with_param("gateway.backends");
}

// Of those whose names are all known now.
void warn_of_lonely_targets(const RouteTable& routes, const std::vector<BackendOptions>& backends) {
  for (const auto& route : routes.routes()) {
    for (const TargetOptions& target : route->plan().targets) {
      const AskedBackends asked(target.backends);
      if (std::ranges::any_of(backends, [&](const BackendOptions& each) { return asked.contains(each.name); }))
        continue;
      if (target.backends.empty()) continue;
      base::log::warn("route {}: no backend has a name that its target {} takes ({}), so its requests get 404",
                      route->name(), target.name, fmt::join(target.backends, ", "));
    }
  }
}

asio::awaitable<void> flush_forever(Service& service) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  while (true) {
    timer.expires_after(log_interval);
    (void)co_await timer.async_wait(wire::as_result);
    flush_logs(service);
  }
}

GateOptions gate_options(const GatewayOptions& options, const std::string& name, session::Store& store) {
  return {.keys = options.keys,
          .policy = options.policy,
          .slots = options.slots,
          .max_queued = static_cast<size_t>(options.max_queued),
          .longest_wait = options.longest_wait,
          .gateway = name,
          .store = &store};
}

asio::awaitable<void> keep_gate(Service& service, asio::any_io_executor executor) {
  asio::steady_timer timer(executor);
  StoreWatch watch(service.store());
  for (int round = 0;; ++round) {
    auto work = [&]() -> Result<void> {
      if (round % keeps_between_looks == 0) {
        watch.look();
        service.note_store_lost(watch.lost());
      }
      service.gate().keep();
      return {};
    };
    (void)co_await service.store_pool().run(work);
    timer.expires_after(keep_interval);
    (void)co_await timer.async_wait(wire::as_result);
  }
}

// By itself: what else the gateway does with its store may take longer than a lease lives.
asio::awaitable<void> renew_leases(Service& service) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  while (true) {
    timer.expires_after(HeldLeases::renewed_every);  // from when it begins
    auto work = [&service]() -> Result<void> {
      service.leases().renew(service.store());
      return {};
    };
    (void)co_await service.store_pool().run(work);
    (void)co_await timer.async_wait(wire::as_result);
  }
}

// Not beside the store's work: a store that is slow would hold up who waits for something else.
asio::awaitable<void> expire_waits(Service& service) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  while (true) {
    timer.expires_after(expire_interval);
    (void)co_await timer.async_wait(wire::as_result);
    service.gate().expire();
  }
}

asio::awaitable<void> exchange_rollouts(Service& service, RolloutExchange& exchange) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  while (true) {
    timer.expires_after(rollout_interval);
    (void)co_await timer.async_wait(wire::as_result);
    const auto routes = service.routes();
    if (routes->routes().empty()) continue;
    auto work = [&exchange, &routes]() -> Result<void> {
      exchange.exchange(*routes);
      return {};
    };
    (void)co_await service.store_pool().run(work);
  }
}

}  // namespace

// The order of the members is the order in which they may rely on each other.
struct Gateway::Impl {
  Impl(const GatewayOptions& options, const base::Clock& clock)
      : started(options),
        service(options, clock),
        process_metrics(service.metrics()),
        http_metrics(service.metrics()),
        running(service.metrics().gauge({"tidemill_gateway_requests_running"},
                                        "Requests that have a slot (gateway.slots)")),
        queued(service.metrics().gauge({"tidemill_gateway_requests_queued"}, "Requests that wait for a slot")) {}
  ~Impl() { (void)stop(base::Duration(0)); }

  wire::Router router() {
    wire::Router router;
    add_proxy_endpoints(router, service);
    add_responses_endpoints(router, service);
    add_conversation_endpoints(router, service);
    add_model_endpoints(router, service);
    add_feedback_endpoints(router, service);
    add_rollout_endpoints(router, service);
    add_status_endpoints(router, service);
    return router;
  }

  void set_gauges() {
    http_metrics.set_connections(http->connections());
    const access::Admission::State queue = service.gate().queue();
    running.set(static_cast<double>(queue.running));
    queued.set(static_cast<double>(queue.queued));
    const auto table = service.routes();
    for (const auto& route : table->routes())
      route->set_gauges();
  }

  bool stop(base::Duration limit) {
    const std::lock_guard only_one(stop_mutex);
    if (!http) return true;
    const base::SteadyTime deadline = service.clock().now() + limit;
    service.start_draining();
    bool orderly = service.wait_for_requests(limit);
    if (!orderly) {
      service.end_tries();
      (void)service.wait_until_unused(Service::parting);
    }
    const std::lock_guard no_reload(reload_mutex);
    // The last bytes of the last answer may still be on their way to a client.
    service.store_pool().close();
    if (roster) roster->stop();
    orderly = wire::stop_listener(*http, service, deadline - service.clock().now()) && orderly;
    connections_hook = {};
    roster.reset();
    http.reset();
    service.gate().share_books();
    flush_logs(service);
    return orderly;
  }

  const GatewayOptions started;  // what was read since counts, but for restart_only()
  const std::string name = "gateway-" + base::random_hex(8);
  Service service;
  std::optional<RolloutExchange> rollout_exchange;
  observe::ProcessMetrics process_metrics;
  wire::HttpMetrics http_metrics;
  observe::Gauge& running;
  observe::Gauge& queued;
  std::unique_ptr<wire::SpanExport> span_export;
  std::mutex stop_mutex;
  std::mutex reload_mutex;  // taken after the other
  std::unique_ptr<wire::HttpServer> http;
  std::unique_ptr<Roster> roster;
  uint16_t port = 0;
  std::string url;
  observe::CollectHook connections_hook;
};

Result<std::unique_ptr<Gateway>> Gateway::start(const GatewayOptions& options, const base::Clock& clock,
                                                Resolve resolve, Companion companion) {
  TM_TRY(std::vector<BackendOptions> backends, all_backends(options));
  TM_TRY(std::vector<BackendSource> sources, all_sources(options));
  TM_CHECK(check_tls(options));
  TM_CHECK(check_prices(options.routes, options.policy));
  auto impl = std::make_unique<Impl>(options, clock);
  Service& service = impl->service;
  service.set_companion(companion);
  TM_TRY(auto routes, RouteTable::create(options.routes, *service.routes(), service.metrics(), clock));
  if (sources.empty()) warn_of_lonely_targets(*routes, backends);
  service.set_routes(std::move(routes));
  TM_CHECK(service.access_log().open(options.access_log));
  if (!options.otlp_endpoint.empty()) {
    TM_TRY(impl->span_export,
           wire::SpanExport::start(options.otlp_endpoint, service.tracer(), service.metrics(), clock));
  }
  TM_TRY(auto sessions, session::open_store(options.session, clock));
  service.set_sessions(std::move(sessions));
  TM_TRY(auto gate, Gate::open(gate_options(options, impl->name, service.store()), clock));
  service.set_gate(std::move(gate));
  wire::HttpServerOptions http = server_options(options);
  http.on_exchange = [&service](const wire::ExchangeSummary& summary) { log_own_answer(service, summary); };
  TM_TRY(impl->http, wire::start_listener(std::move(http), impl->router(), "gateway", impl->http_metrics, clock));
  impl->port = impl->http->port();
  impl->url = impl->http->url();
  impl->connections_hook = service.metrics().on_collect([raw = impl.get()] { raw->set_gauges(); });
  impl->roster = std::make_unique<Roster>(service, impl->http->executor(), std::move(resolve));
  impl->roster->set(std::move(backends), std::move(sources));
  const asio::any_io_executor executor = impl->http->executor();
  asio::co_spawn(executor, flush_forever(service), asio::detached);
  asio::co_spawn(executor, keep_gate(service, executor), asio::detached);
  asio::co_spawn(executor, renew_leases(service), asio::detached);
  asio::co_spawn(executor, expire_waits(service), asio::detached);
  impl->rollout_exchange.emplace(impl->name, service.store(), clock);
  asio::co_spawn(executor, exchange_rollouts(service, *impl->rollout_exchange), asio::detached);
  return std::unique_ptr<Gateway>(new Gateway(std::move(impl)));
}

void Gateway::look() {
  const std::lock_guard not_while_it_ends(impl_->reload_mutex);
  if (!impl_->http) return;
  std::vector<std::future<void>> looks;
  for (auto& backend : impl_->service.fleet().backends()) {
    looks.push_back(asio::co_spawn(impl_->http->executor(), poll_backend(impl_->service, backend), asio::use_future));
  }
  for (auto& look : looks)
    look.wait();
}

Result<void> Gateway::reload(const GatewayOptions& options) {
  const std::lock_guard one_at_a_time(impl_->reload_mutex);
  if (!impl_->http) return base::Error(base::ErrorCode::unavailable, "the gateway has stopped: start it anew");
  Service& service = impl_->service;
  TM_CHECK(check_left(*service.options(), options));
  TM_TRY(std::vector<BackendOptions> backends, all_backends(options));
  TM_TRY(std::vector<BackendSource> sources, all_sources(options));
  TM_CHECK(check_tls(options));
  TM_CHECK(wire::check_origins(options.cors_origins, "gateway"));
  TM_CHECK(check_prices(options.routes, options.policy));
  TM_TRY(auto routes, RouteTable::create(options.routes, *service.routes(), service.metrics(), service.clock()));
  TM_TRY(auto policy, Gate::load_policy(options.policy));
  TM_TRY(auto tls, impl_->http->read_tls());
  TM_TRY(auto access_log, service.access_log().prepare(options.access_log));
  TM_TRY(auto decision_logs, open_decision_logs(*routes));
  // Nothing fails from here on, so that nothing is changed by half.
  impl_->http->use_tls(std::move(tls));
  service.access_log().use(std::move(access_log));
  for (auto& [adaptive, file] : decision_logs)
    adaptive->use_log(std::move(file));
  service.gate().use_policy(std::move(policy));
  service.gate().set_queue(options.slots, static_cast<size_t>(options.max_queued), options.longest_wait);
  service.fleet().set_max_open(options.max_open);
  // With each reload for as long as they differ from what runs.
  const auto later = restart_only(impl_->started, options);
  if (!later.empty()) {
    base::log::warn("these settings have changed, and count from the next start only: {}", fmt::join(later, ", "));
  }
  service.set_options(std::make_shared<const GatewayOptions>(options));
  if (sources.empty()) warn_of_lonely_targets(*routes, backends);
  service.set_routes(std::move(routes));
  impl_->roster->set(std::move(backends), std::move(sources));
  return {};
}

Gateway::Gateway(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Gateway::~Gateway() = default;

uint16_t Gateway::port() const {
  return impl_->port;
}
std::string Gateway::url() const {
  return impl_->url;
}
void Gateway::drain() {
  impl_->service.start_draining();
}
bool Gateway::stop(base::Duration limit) {
  return impl_->stop(limit);
}
void Gateway::hurry() {
  impl_->service.hurry();
}

}  // namespace tidemill::gateway
