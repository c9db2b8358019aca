#include "serve/server.hpp"

#include <algorithm>
#include <mutex>
#include <optional>
#include <utility>

#include <fmt/core.h>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "observe/otlp.hpp"
#include "observe/process_metrics.hpp"
#include "serve/endpoints.hpp"
#include "serve/resumption.hpp"
#include "serve/service.hpp"
#include "serve/tenants.hpp"
#include "serve/warm_up.hpp"
#include "wire/http_metrics.hpp"
#include "wire/http_server.hpp"
#include "wire/listener_options.hpp"
#include "wire/span_export.hpp"

namespace tidemill::serve {

using base::Result;

namespace {

// What the engine says of its options, with the names that users know them by.
base::Error in_terms_of_options(base::Error error) {
  if (error.code() != base::ErrorCode::invalid_argument || error.param().empty()) return error;
  std::string option = "engine." + (error.param() == "kv_bytes" ? "kv_memory" : std::string(error.param()));
  return std::move(error).wrap(option).with_param(option);
}

Result<std::unique_ptr<engine::Engine>> start_engine(const LoadedModel& model, const engine::EngineOptions& options,
                                                     Service& service) {
  if (!model.generates()) {
    return engine::Engine::start(model.encoder(), model.tokenizer(), options, service.tracer(), service.metrics(),
                                 service.clock());
  }
  return engine::Engine::start(model.model(), model.device(), model.tokenizer(), options, service.tracer(),
                               service.metrics(), service.clock());
}

}  // namespace

// The order of the members is the order in which they may rely on each other: the handlers go before the service, the
// exporter after the last span and before the metrics.
struct Server::Impl {
  Impl(ServeOptions given, const base::Clock& clock)
      : service(std::move(given), clock), process_metrics(service.metrics()), http_metrics(service.metrics()) {}
  ~Impl() { (void)stop(base::Duration(0)); }

  wire::Router router() {
    wire::Router router;
    add_generate_endpoints(router, service);
    add_messages_endpoints(router, service);
    add_responses_endpoints(router, service);
    add_conversation_endpoints(router, service);
    add_embedding_endpoints(router, service);
    add_rerank_endpoints(router, service);
    add_token_endpoints(router, service);
    add_model_endpoints(router, service);
    if (service.options().mcp) add_mcp_endpoints(router, service);
    add_status_endpoints(router, service);
    return router;
  }

  // The engine goes on taking what admitted requests have still to hand over: a batch goes to it bit by bit.
  void drain() { service.start_draining(); }

  bool stop(base::Duration limit) {
    const std::lock_guard only_one(stop_mutex);
    if (!http) return true;
    const base::SteadyTime deadline = service.clock().now() + limit;
    drain();
    bool orderly = service.wait_for_requests(limit);
    if (!service.hurried()) {
      keep_prefixes();
    } else if (keeps_prefixes) {
      base::log::warn("the prefixes of this run are not kept: there was no time for it");
    }
    if (const Serving* serving = service.serving()) {
      serving->engine->drain();
      if (!orderly) {
        service.give_up_waiting();
        serving->engine->abort(
            base::Error(base::ErrorCode::unavailable, "the server has stopped before the answer ended"));
        (void)service.wait_until_unused(Service::parting);
      }
    }
    service.close_pools();
    // The last bytes of the last answer may still be on their way to a client.
    orderly = wire::stop_listener(*http, service, deadline - service.clock().now()) && orderly;
    connections_hook = {};
    return orderly;
  }

  Result<void> warm_up(const Serving& serving, const std::function<bool()>& cancelled) {
    const ServeOptions& options = service.options();
    if (!options.prefix_cache || !serving.model->generates()) {
      const bool wanted = !options.prefix_file.empty() || !options.preload.empty();
      if (wanted) {
        base::log::warn("{}: engine.preload and engine.prefix_file have no effect",
                        options.prefix_cache ? "the model is an encoder" : "engine.prefix_cache is off");
      }
      return {};
    }
    if (!options.prefix_file.empty()) {
      TM_TRY(const PrefixFileUse use, check_prefix_file(options.prefix_file));
      keeps_prefixes = use == PrefixFileUse::read_and_kept;
      if (use != PrefixFileUse::none) restore_prefixes(*serving.engine, *serving.model, options.prefix_file);
    }
    if (options.preload.empty()) return {};
    TM_TRY(const std::vector<SharedPrefix> prefixes,
           read_prefixes(options.preload, *serving.model, serving.engine->max_context()));
    return preload(*serving.engine, prefixes, tenants_of(options.api_keys), cancelled);
  }

  void keep_prefixes() {
    const Serving* serving = service.serving();
    if (serving == nullptr || !std::exchange(keeps_prefixes, false)) return;
    save_prefixes(*serving->engine, *serving->model, service.options().prefix_file);
  }

  Service service;
  observe::ProcessMetrics process_metrics;
  wire::HttpMetrics http_metrics;
  std::unique_ptr<wire::SpanExport> span_export;
  std::mutex stop_mutex;
  std::unique_ptr<wire::HttpServer> http;
  observe::CollectHook connections_hook;
  int64_t kv_bytes = 0;
  bool keeps_prefixes = false;  // still to be done, when the server has drained
};

Result<std::unique_ptr<Server>> Server::start(ServeOptions options, const base::Clock& clock) {
  auto impl = std::make_unique<Impl>(std::move(options), clock);
  Service& service = impl->service;
  if (!service.options().otlp_endpoint.empty()) {
    TM_TRY(impl->span_export,
           wire::SpanExport::start(service.options().otlp_endpoint, service.tracer(), service.metrics(), clock));
  }
  TM_TRY(auto sessions, session::open_store(session_options(service.options()), clock));
  service.set_sessions(std::move(sessions));
  TM_TRY(impl->http, wire::start_listener(wire::http_options(service.options()), impl->router(), "server",
                                          impl->http_metrics, clock));
  impl->connections_hook =
      service.metrics().on_collect([raw = impl.get()] { raw->http_metrics.set_connections(raw->http->connections()); });
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Result<void> Server::serve(std::unique_ptr<LoadedModel> model, const std::function<bool()>& cancelled) {
  Service& service = impl_->service;
  const size_t available = base::memory_available_bytes();
  engine::EngineOptions options =
      engine_options(service.options(), *model, available - std::min(available, model->mapped_bytes()));
  options.model_name = model->name();
  auto serving = std::make_unique<Serving>();
  serving->fingerprint = fingerprint(*model, service.options().kv_type);
  serving->model = std::move(model);
  serving->since = base::unix_nanos(service.clock().wall_now()) / 1'000'000'000;
  auto started = start_engine(*serving->model, options, service);
  if (!started) return in_terms_of_options(std::move(started).error());
  serving->engine = std::move(*started);
  impl_->kv_bytes = options.kv_bytes;
  TM_CHECK(impl_->warm_up(*serving, cancelled));
  service.set_serving(std::move(serving));
  return {};
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

uint16_t Server::port() const {
  return impl_->http->port();
}
std::string Server::url() const {
  return impl_->http->url();
}
const LoadedModel& Server::model() const {
  return *impl_->service.serving()->model;
}
engine::Engine& Server::engine() {
  return *impl_->service.serving()->engine;
}
observe::Metrics& Server::metrics() {
  return impl_->service.metrics();
}
const observe::Tracer& Server::tracer() {
  return impl_->service.tracer();
}
int64_t Server::kv_bytes() const {
  return impl_->kv_bytes;
}
void Server::drain() {
  impl_->drain();
}
bool Server::stop(base::Duration limit) {
  return impl_->stop(limit);
}
void Server::hurry() {
  impl_->service.hurry();
}

}  // namespace tidemill::serve
