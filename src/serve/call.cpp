#include "serve/call.hpp"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "base/utf8.hpp"
#include "observe/semantic_conventions.hpp"
#include "serve/tenants.hpp"
#include "wire/error_body.hpp"
#include "wire/sse.hpp"
#include "wire/unready.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace attribute = observe::semconv::attribute;

namespace {

constexpr size_t max_logged_target = 200;

// In time that does not depend on where the two differ.
bool equal_secrets(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i)
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  return difference == 0;
}

// Without the query, which may hold what is nobody's business.
std::string loggable_target(const wire::HttpRequest& request) {
  const std::string_view target(request.target);
  return base::utf8::sanitize(target.substr(0, std::min(target.find('?'), max_logged_target)));
}

}  // namespace

Call::Call(Service& service, wire::Exchange& exchange, bool traced, bool quiet)
    : service_(service),
      exchange_(exchange),
      error_style_(wire::error_style(exchange.request().path)),
      id_(wire::request_id(exchange.request())),
      quiet_(quiet) {
  service_.enter();
  if (!traced) return;
  const wire::HttpRequest& request = exchange_.request();
  span_ = service_.tracer().start_at(fmt::format("{} {}", request.method, request.route), request.trace,
                                     request.received_wall, observe::SpanKind::server);
  span_.set(attribute::http_method, request.method);
  span_.set(attribute::http_route, request.route);
  span_.set("http.request.header.x-request-id", id_);
  receive_ = service_.tracer().start_at(observe::semconv::span::receive, span_.context(), request.received_wall);
}

Call::~Call() {
  receive_.end();  // before its parent
  const bool vanished = status_ == 0 && exchange_.disconnected();
  const int status = vanished ? 499 : status_;
  span_.set(attribute::http_status, int64_t{status});
  if (vanished && failure_.empty()) {
    note_failure(Error(ErrorCode::cancelled, "the client has closed the connection"));
  }
  span_.end();
  const wire::HttpRequest& request = exchange_.request();
  const double ms = 1e3 * base::seconds(service_.clock().now() - request.received);
  const std::string error = failure_.empty() ? std::string() : fmt::format(" error=\"{}\"", failure_);
  const auto level = quiet_ && failure_.empty() && status < 500 ? base::log::Level::debug : base::log::Level::info;
  if (base::log::enabled(level)) {
    base::log::write(level, fmt::format("{} {} {} {:.1f} ms prompt={} cached={} completion={} id={} peer={}{}",
                                        request.method, loggable_target(request), status, ms, usage_.prompt_tokens,
                                        usage_.cached_tokens, usage_.completion_tokens, id_, request.peer, error));
  }
  service_.leave();
}

bool Call::authorise(wire::HttpResponse& response) {
  const std::vector<std::string>& keys = service_.options().api_keys;
  if (keys.empty()) return true;
  std::string_view given = request().bearer_token();
  const bool anthropic = error_style_ == wire::ErrorStyle::anthropic;
  if (given.empty() && anthropic) given = request().headers.find("x-api-key").value_or("");
  for (const std::string& key : keys) {
    if (!given.empty() && equal_secrets(key, given)) {
      tenant_ = tenant_of(key);
      return true;
    }
  }
  const std::string_view message =
      !given.empty() ? "the API key is not one of this server's"
      : anthropic    ? "an API key is required: send it as 'x-api-key: KEY' or 'Authorization: Bearer KEY'"
                     : "an API key is required: send it as 'Authorization: Bearer KEY'";
  response = wire::error_response(401, message, "authentication_error", "invalid_api_key", error_style_, id_);
  response.headers.set("WWW-Authenticate", "Bearer");
  return false;
}

void Call::note_usage(const wire::Usage& usage, std::vector<std::string> finish_reasons) {
  usage_ = usage;
  span_.set(attribute::input_tokens, usage.prompt_tokens);
  span_.set(attribute::output_tokens, usage.completion_tokens);
  span_.set(attribute::cached_input_tokens, usage.cached_tokens);
  if (!finish_reasons.empty()) span_.set(attribute::finish_reasons, std::move(finish_reasons));
}

void Call::note_failure(const Error& error) {
  failure_ = error.to_string();
  span_.set(attribute::error_type, std::string(base::to_string(error.code())));
  span_.fail(failure_);
}

Result<void> Call::noted(Result<void> written) {
  if (!written) note_failure(written.error());
  return written;
}

void Call::name_itself(wire::Headers& headers) const {
  wire::set_request_id(headers, id_, error_style_);
}

asio::awaitable<Result<void>> Call::respond(wire::HttpResponse response) {
  receive_.end();
  status_ = response.status;
  name_itself(response.headers);
  auto written = co_await exchange_.respond(std::move(response));
  co_return noted(std::move(written));
}

asio::awaitable<Result<void>> Call::refuse(Error error) {
  wire::HttpResponse response = wire::error_response(error, service_.retry_after_s(), error_style_, id_);
  wire::say_unready(response, service_.unready());
  // The conventions call only the server's own failures errors of a server span.
  if (response.status >= 500) note_failure(error);
  co_return co_await respond(std::move(response));
}

asio::awaitable<Result<void>> Call::begin_event_stream() {
  receive_.end();
  status_ = 200;
  wire::Headers headers;
  headers.add("Content-Type", std::string(wire::sse_content_type));
  headers.add("Cache-Control", "no-cache");
  headers.add("X-Accel-Buffering", "no");  // nginx would collect the stream
  name_itself(headers);
  auto begun = co_await exchange_.begin_stream(200, std::move(headers));
  co_return noted(std::move(begun));
}

asio::awaitable<Result<void>> Call::end_event_stream() {
  auto ended = co_await exchange_.end();
  co_return noted(std::move(ended));
}

namespace {

asio::awaitable<void> handle(Service& service, Needs needs, Endpoint endpoint, Notice notice,
                             wire::Exchange& exchange) {
  const bool quiet = notice == Notice::little;
  const bool traced = needs != Needs::nothing && (!quiet || exchange.request().trace.valid());
  Call call(service, exchange, traced, quiet);
  wire::HttpResponse unauthorised;
  if (!call.authorise(unauthorised)) {
    (void)co_await call.respond(std::move(unauthorised));
    co_return;
  }
  std::optional<Error> refusal = service.refusal();
  const bool refused =
      needs == Needs::engine ? refusal.has_value() : needs == Needs::model && service.serving() == nullptr;
  if (refused) {
    (void)co_await call.refuse(std::move(*refusal));
    co_return;
  }
  co_await endpoint(service, call);
}

}  // namespace

wire::Handler api_handler(Service& service, Needs needs, Endpoint endpoint, Notice notice) {
  return [&service, needs, endpoint, notice](wire::Exchange& exchange) {
    return handle(service, needs, endpoint, notice, exchange);
  };
}

Result<void> check_model(const Serving& serving, std::string_view wanted) {
  const LoadedModel& model = *serving.model;
  if (model.answers_to(wanted)) return {};
  return Error(ErrorCode::not_found, fmt::format("the model '{}' is not served here; this server has '{}'",
                                                 base::utf8::prefix(wanted, 100), model.name()))
      .with_param("model");
}

}  // namespace tidemill::serve
