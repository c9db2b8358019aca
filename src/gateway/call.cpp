#include "gateway/call.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/core.h>

#include "base/utf8.hpp"
#include "gateway/told_error.hpp"
#include "observe/semantic_conventions.hpp"
#include "wire/unready.hpp"

namespace tidemill::gateway {

using base::Error;
using base::Result;
namespace attribute = observe::semconv::attribute;

namespace {

constexpr size_t max_logged_model = 200;              // characters
constexpr size_t max_logged_body = size_t{64} << 10;  // characters
constexpr int client_closed_request = 499;            // nginx's word for it

}  // namespace

Call::Call(Service& service, wire::Exchange& exchange, Notice notice)
    : service_(service),
      exchange_(exchange),
      error_style_(wire::error_style(exchange.request().path)),
      quiet_(notice == Notice::little && !exchange.request().trace.valid() && !service.options()->log_polls),
      id_(wire::request_id(exchange.request())) {
  service_.enter();
  const wire::HttpRequest& request = exchange_.request();
  const std::string_view target(request.target);
  path_ =
      target.substr(0, std::min(target.find('?'), longest_logged_path));  // a query may hold what is nobody's business
  record_.bytes_in = request.body.size();
  if (service_.access_log().enabled() && service_.options()->log_prompts)
    asked_ = base::utf8::prefix(request.body, max_logged_body);
  if (!quiet_) open_span();
}

void Call::open_span() {
  const wire::HttpRequest& request = exchange_.request();
  span_ = service_.tracer().start_at(request.method + ' ' + request.route, request.trace, request.received_wall,
                                     observe::SpanKind::server);
  span_.set(attribute::http_method, request.method);
  span_.set(attribute::http_route, request.route);
  span_.set("http.request.header.x-request-id", id_);
}

Call::~Call() {
  if (!complete_ && exchange_.disconnected()) note_absence();
  const bool failed = record_.status == 0 || record_.status >= 400 || !error_.empty();
  if (quiet_ && failed) {
    open_span();
    const bool refused = record_.status >= 400 && record_.status < client_closed_request;
    if (!refused && !error_.empty()) span_.fail(error_);
  }
  span_.set(attribute::http_status, int64_t{record_.status});
  if (service_.access_log().enabled() && (!quiet_ || failed)) write_line();
  span_.end();
  service_.leave();
}

void Call::write_line() {
  const wire::HttpRequest& request = exchange_.request();
  const std::array<char, 32> trace = span_.context().trace_text();
  record_.time = request.received_wall;
  record_.id = id_;
  if (span_.context().valid()) record_.trace_id = std::string_view(trace.data(), trace.size());
  record_.peer = request.peer;
  record_.tenant = tenant_;
  record_.key = key_;
  record_.cost = cost_;
  record_.method = request.method;
  record_.path = path_;
  record_.model = model_;
  record_.backend = backend_;
  record_.route = route_;
  record_.target = target_;
  record_.error = error_;
  record_.asked = asked_;
  record_.duration = service_.clock().now() - request.received;
  service_.access_log().write(record_);
}

// The client has not got what it asked for, or not all of it.
void Call::note_absence() {
  if (record_.status == 0) record_.status = client_closed_request;
  if (!error_.empty()) return;
  error_ = exchange_.stalled()   ? "client took nothing for gateway.write_timeout and was cut off"
           : service_.draining() ? "the connection was closed while the gateway stopped"
                                 : "client went away";
  span_.fail(error_);
}

void Call::set_model(std::string_view model) {
  model_ = base::utf8::prefix(model, max_logged_model);
  if (!model_.empty()) span_.set(attribute::request_model, model_);
}

void Call::set_backend(const std::string& name) {
  backend_ = name;
}

void Call::set_route(const std::string& route, const std::string& target, const std::string& model) {
  route_ = route;
  target_ = target;
  target_model_ = model;
  span_.set("tidemill.route", route);
  span_.set("tidemill.target", target);
}

void Call::set_caller(const Caller& caller) {
  tenant_ = caller.tenant;
  key_ = caller.key_id;
}

void Call::note_usage(const TokenUsage& usage, std::string cost) {
  cost_ = std::move(cost);
  const auto note = [this](observe::AttributeKey name, const std::optional<int64_t>& count, int64_t& field) {
    if (!count) return;
    field = *count;
    span_.set(name, *count);
  };
  note(attribute::input_tokens, usage.prompt_tokens, record_.prompt_tokens);
  note(attribute::cached_input_tokens, usage.cached_tokens, record_.cached_tokens);
  note(attribute::output_tokens, usage.output_tokens, record_.output_tokens);
}

void Call::note_failure(const Error& error) {
  error_ = error.to_string();
  span_.set(attribute::error_type, std::string(base::to_string(error.code())));
  span_.fail(error_);
  service_.failures().note(id_, error, service_.clock().now());
}

void Call::name_itself(wire::Headers& headers) const {
  wire::set_request_id(headers, id_, error_style_);
  if (route_.empty()) return;
  headers.set("X-Tidemill-Route", route_);
  headers.set("X-Tidemill-Target", target_);
  headers.set("X-Tidemill-Model", target_model_);
}

void Call::note_status(int status) {
  record_.status = status;
  record_.first_byte = service_.clock().now() - exchange_.request().received;
  service_.counters().first_byte.observe(base::seconds(record_.first_byte));
}

asio::awaitable<void> Call::act_before_end() {
  const LastAct act = std::exchange(last_act_, nullptr);
  if (act) co_await act();
}

asio::awaitable<Result<void>> Call::respond(wire::HttpResponse response) {
  if (last_act_) co_await act_before_end();
  note_status(response.status);
  record_.bytes_out = response.body.size();
  wire::say_unready(response, service_.unready());
  name_itself(response.headers);
  auto sent = co_await exchange_.respond(std::move(response));
  complete_ = sent.has_value();
  co_return sent;
}

asio::awaitable<Result<void>> Call::refuse(const Error& error, base::Duration retry_after) {
  wire::HttpResponse response = wire::error_response(told_to_clients(error), 1, error_style_, id_);
  if (response.headers.has("Retry-After"))
    response.headers.set("Retry-After", access::retry_after_seconds(retry_after));
  error_ = error.to_string();
  // The conventions call only the server's own failures errors of a server span.
  if (response.status >= 500) note_failure(error);
  co_return co_await respond(std::move(response));
}

asio::awaitable<Result<void>> Call::refuse(const Refused& refused) {
  error_ = refused.message;
  wire::HttpResponse response =
      wire::error_response(refused.status, refused.message, refused.type, refused.code, error_style_, id_);
  if (refused.status == 401) response.headers.set("WWW-Authenticate", "Bearer");
  if (refused.retry_after) response.headers.set("Retry-After", access::retry_after_seconds(*refused.retry_after));
  for (const auto& [name, value] : refused.headers)
    response.headers.set(name, value);
  co_return co_await respond(std::move(response));
}

asio::awaitable<Result<void>> Call::begin_stream(int status, wire::Headers headers) {
  note_status(status);
  streaming_ = true;
  name_itself(headers);
  co_return co_await exchange_.begin_stream(status, std::move(headers));
}

asio::awaitable<Result<void>> Call::write(std::string_view bytes) {
  record_.bytes_out += bytes.size();
  return exchange_.write(bytes);
}

std::optional<Result<void>> Call::write_now(std::string_view bytes) {
  record_.bytes_out += bytes.size();
  return exchange_.write_now(bytes);
}

asio::awaitable<Result<void>> Call::end() {
  if (last_act_) co_await act_before_end();
  auto ended = co_await exchange_.end();
  complete_ = ended.has_value();
  co_return ended;
}

namespace {

asio::awaitable<void> handle(Service& service, Endpoint endpoint, std::string_view scope, Notice notice,
                             wire::Exchange& exchange) {
  Call call(service, exchange, notice);
  auto [caller, denied] = service.gate().identify(call.request());
  call.set_caller(caller);
  if (!denied && !scope.empty()) denied = Gate::check(caller, scope, {});
  if (denied) {
    (void)co_await call.refuse(*denied);
    co_return;
  }
  co_await endpoint(service, call, caller);
}

}  // namespace

wire::Handler for_callers(Service& service, Endpoint endpoint, std::string_view scope, Notice notice) {
  return [&service, endpoint, scope, notice](wire::Exchange& exchange) {
    return handle(service, endpoint, scope, notice, exchange);
  };
}

}  // namespace tidemill::gateway
