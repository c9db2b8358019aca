// Export of spans to an OpenTelemetry collector: OTLP/HTTP with JSON bodies
// (https://opentelemetry.io/docs/specs/otlp/#otlphttp). How a body travels is the caller's: this room opens no sockets.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "observe/metrics.hpp"
#include "observe/trace.hpp"

namespace tidemill::observe {

// POSTs `body` (application/json) to `path` ("/v1/traces") of the collector and gives the HTTP status; an error if
// there was no answer. Called from the exporter's thread alone. Must come back within a time limit of its own, since
// the exporter's destructor waits for it.
using OtlpTransport = std::function<base::Result<int>(std::string_view path, std::string body)>;

// Who sends: the resource attributes service.name ("tidemill"), service.version and service.instance.id.
struct OtlpResource {
  std::string version;
  std::string instance_id;
};

struct OtlpOptions {
  OtlpResource resource;                           // an empty instance_id becomes a random one
  std::string advice;                              // for the log, when spans cannot be sent: how to send none
  size_t queue_spans = 4096;                       // spans that wait; past that the oldest is dropped
  size_t batch_spans = 512;                        // spans of one request
  base::Duration delay = std::chrono::seconds(1);  // how long a batch that is not full waits for more

  // 429, 502, 503, 504 and no answer are tried again, each pause twice the one before and shortened by up to half at
  // random, so that replicas do not come back in step. Any other answer than 2xx loses the batch at once.
  int attempts = 5;
  base::Duration first_pause = std::chrono::seconds(1);
  base::Duration longest_pause = std::chrono::seconds(30);
  // How long after the destructor began a retry or another batch may still begin. None does once there was no answer
  // (`unavailable`, `timeout`): who ends does not wait for a collector to come back.
  base::Duration shutdown_limit = std::chrono::seconds(5);

  // Waits between attempts, in place of the thread's own wait, which shutdown cuts short. For tests.
  std::function<void(base::Duration)> pause;
};

// Sends ended spans in batches from a thread of its own. Thread-safe.
//
//   tracer.set_sink([&exporter](const auto& record) { exporter.add(record); });
//
// and tracer.set_sink({}) before the exporter goes. Counts what arrived and what was lost in `metrics`
// (semconv::metric::spans_exported and spans_dropped).
class OtlpExporter {
 public:
  // The metrics and the clock must outlive the exporter.
  OtlpExporter(OtlpTransport transport, OtlpOptions options, Metrics& metrics, const base::Clock& clock);
  // Sends what is queued, within the shutdown limit; the rest is counted as dropped.
  ~OtlpExporter();

  // Queues a span; never waits for the network.
  void add(std::shared_ptr<const SpanRecord> record);

  // Returns when every span added before has been sent or dropped.
  void flush();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The body of a POST to /v1/traces. Ids are hexadecimal and 64-bit integers strings, as OTLP's JSON wants them; bytes
// that are not UTF-8 become U+FFFD.
std::string otlp_traces_body(std::span<const std::shared_ptr<const SpanRecord>> records, const OtlpResource& resource);

}  // namespace tidemill::observe
