// One API request from its first byte to its line in the access log: span, request id, answer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "base/result.hpp"
#include "observe/trace.hpp"
#include "serve/service.hpp"
#include "wire/error_body.hpp"
#include "wire/http_server.hpp"
#include "wire/request.hpp"

namespace tidemill::serve {

// Lives in its handler's coroutine, and is used by that alone. The service and the exchange outlive it.
class Call {
 public:
  // With `traced`, opens the server span, under the caller's traceparent and beginning when the request's first byte
  // came. With `quiet`, the log line is for those who look for faults, unless the server has failed.
  Call(Service& service, wire::Exchange& exchange, bool traced, bool quiet = false);
  // Ends the span and writes the log line.
  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  wire::Exchange& exchange() { return exchange_; }
  wire::HttpRequest& request() { return exchange_.request(); }
  // x-request-id: the caller's, or a new one.
  const std::string& id() const { return id_; }
  // Which of the configured API keys the caller has sent; empty where none are configured. Salts the prefix cache.
  const std::string& tenant() const { return tenant_; }
  observe::Span& span() { return span_; }
  // The child span `receive`: reading, parsing, templating, tokenizing. Ends with the first of submit or answer.
  void end_receive() { receive_.end(); }

  // Whose words errors are told in.
  wire::ErrorStyle error_style() const { return error_style_; }

  // False, with the refusal in `response`, where keys are configured and the caller sent none of them, neither as
  // bearer token nor, to Anthropic's endpoints, as x-api-key.
  bool authorise(wire::HttpResponse& response);

  // What was computed for it, also where that was in vain; call before the answer is complete, or when it is given up.
  void note_usage(const wire::Usage& usage, std::vector<std::string> finish_reasons);

  // The answer, each with x-request-id (and with request-id, which Anthropic's clients read). See wire::Exchange.
  asio::awaitable<base::Result<void>> respond(wire::HttpResponse response);
  asio::awaitable<base::Result<void>> refuse(base::Error error);
  asio::awaitable<base::Result<void>> begin_event_stream();
  // Completes the stream; where the client has gone, that is noted.
  asio::awaitable<base::Result<void>> end_event_stream();
  // Says in span and log that the answer failed after its status had been sent, or that there was nobody to answer.
  void note_failure(const base::Error& error);

 private:
  void name_itself(wire::Headers& headers) const;
  // What came of writing to the client, which is noted if that has gone.
  base::Result<void> noted(base::Result<void> written);

  Service& service_;
  wire::Exchange& exchange_;
  wire::ErrorStyle error_style_;
  std::string id_;
  std::string tenant_;
  observe::Span span_;
  observe::Span receive_;
  const bool quiet_;
  int status_ = 0;
  std::string failure_;  // as it was noted last
  wire::Usage usage_;
};

// An endpoint of the API: called when the caller is authorised.
using Endpoint = asio::awaitable<void> (*)(Service& service, Call& call);

enum class Needs : uint8_t {
  nothing,  // answers in any state, and leaves no span
  model,    // 503 while the model loads
  engine,   // 503 while the model loads or the server drains
};

// How much is made of a request in log and trace.
enum class Notice : uint8_t {
  full,
  little,  // gateways ask all the time: a span only under the caller's own, and no line that everybody sees
};

// `endpoint` with the checks that come before it. The service must outlive the handler.
wire::Handler api_handler(Service& service, Needs needs, Endpoint endpoint, Notice notice = Notice::full);

// `not_found` with param "model", naming what is served, unless `wanted` is it.
base::Result<void> check_model(const Serving& serving, std::string_view wanted);

}  // namespace tidemill::serve
