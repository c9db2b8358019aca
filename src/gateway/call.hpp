// One request to the gateway, from its first byte to its line in the access log: id, span, answer.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <boost/asio/awaitable.hpp>

#include "base/result.hpp"
#include "gateway/access_log.hpp"
#include "gateway/gate.hpp"
#include "gateway/service.hpp"
#include "gateway/token_usage.hpp"
#include "observe/trace.hpp"
#include "wire/error_body.hpp"
#include "wire/http_server.hpp"

namespace tidemill::gateway {

namespace asio = boost::asio;

// How much is made of a request in access log and trace.
enum class Notice : uint8_t {
  full,
  // Gateways and load balancers ask all the time: neither line nor span, unless it fails, its caller traces it, or
  // gateway.log_polls wants them.
  little,
};

// Lives in its handler's coroutine, and is used by that alone. The service and the exchange outlive it.
class Call {
 public:
  // Opens the server span, under the caller's traceparent and beginning when the request's first byte came.
  Call(Service& service, wire::Exchange& exchange, Notice notice = Notice::full);
  // Ends the span and writes the log line.
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  wire::Exchange& exchange() { return exchange_; }
  wire::HttpRequest& request() { return exchange_.request(); }
  // x-request-id: the caller's, or a new one.
  const std::string& id() const { return id_; }
  // Whose conversations, limits and money it concerns; empty where nobody is told apart.
  const std::string& tenant() const { return tenant_; }
  void set_caller(const Caller& caller);
  // What it took, for the log and the span.
  void note_usage(const TokenUsage& usage, std::string cost);
  observe::Span& span() { return span_; }
  wire::ErrorStyle error_style() const { return error_style_; }

  // What the log line says beside what the exchange knows.
  AccessRecord& record() { return record_; }
  void set_model(std::string_view model);
  void set_backend(const std::string& name);
  // The named route that answers, by which of its targets, and by which model: every answer says so in the headers
  // x-tidemill-route, x-tidemill-target and x-tidemill-model.
  void set_route(const std::string& route, const std::string& target, const std::string& model);

  // The answer, each with x-request-id (and with request-id, which Anthropic's clients read). A 503 of a gateway that
  // drains says so (wire/unready.hpp). See wire::Exchange.
  asio::awaitable<base::Result<void>> respond(wire::HttpResponse response);
  // `retry_after` is said where the error's face has it (wire/error_body.hpp), in whole seconds, at least one.
  asio::awaitable<base::Result<void>> refuse(const base::Error& error, base::Duration retry_after = {});
  asio::awaitable<base::Result<void>> refuse(const Refused& refused);
  asio::awaitable<base::Result<void>> begin_stream(int status, wire::Headers headers);
  asio::awaitable<base::Result<void>> write(std::string_view bytes);
  std::optional<base::Result<void>> write_now(std::string_view bytes);
  asio::awaitable<base::Result<void>> write_rest() { return exchange_.write_rest(); }
  asio::awaitable<base::Result<void>> end();
  // What is done once before the client hears how the request has ended, so that it may come again at once: by respond,
  // refuse and end, and by who says it within a stream. What it refers to must outlive that, or be cleared.
  using LastAct = std::function<asio::awaitable<void>()>;
  void before_end(LastAct act) { last_act_ = std::move(act); }
  asio::awaitable<void> act_before_end();
  // The client has been sent the head of a stream, and what becomes of the request has to be told within that.
  bool streaming() const { return streaming_; }
  // The client has been sent all of the answer.
  bool complete() const { return complete_; }
  // Says in span and log that the answer failed, with the causes that the client is not told (told_error.hpp).
  void note_failure(const base::Error& error);

 private:
  void open_span();
  void write_line();
  void name_itself(wire::Headers& headers) const;
  void note_status(int status);
  void note_absence();

  Service& service_;
  wire::Exchange& exchange_;
  wire::ErrorStyle error_style_;
  const bool quiet_;
  std::string id_;
  std::string tenant_;
  std::string key_;
  std::string cost_;
  std::string path_;
  std::string model_;
  std::string backend_;
  std::string route_;
  std::string target_;
  std::string target_model_;
  std::string error_;
  std::string asked_;
  LastAct last_act_;
  bool streaming_ = false;
  bool complete_ = false;
  AccessRecord record_;
  observe::Span span_;
};

// An endpoint of the API, called with who calls.
using Endpoint = asio::awaitable<void> (*)(Service& service, Call& call, const Caller& caller);

// `endpoint` behind the keys; with a `scope`, also behind that. The service must outlive the handler.
wire::Handler for_callers(Service& service, Endpoint endpoint, std::string_view scope = {},
                          Notice notice = Notice::full);

}  // namespace tidemill::gateway
