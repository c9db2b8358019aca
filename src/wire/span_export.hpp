// Sends the spans of a tracer to an OpenTelemetry collector over HTTP.
#pragma once

#include <memory>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "observe/metrics.hpp"
#include "observe/otlp.hpp"
#include "observe/trace.hpp"
#include "wire/http_client.hpp"

namespace tidemill::wire {

// From start() until it is destroyed, which sends what is left. Tracer, metrics and clock must outlive it.
class SpanExport {
 public:
  // `endpoint` as in OTEL_EXPORTER_OTLP_ENDPOINT: a base URL, to which /v1/traces is appended. invalid_argument, with
  // param observe.otlp_endpoint, if it is no URL.
  static base::Result<std::unique_ptr<SpanExport>> start(const std::string& endpoint, observe::Tracer& tracer,
                                                         observe::Metrics& metrics, const base::Clock& clock);
  ~SpanExport();

 private:
  explicit SpanExport(observe::Tracer& tracer);

  observe::Tracer& tracer_;
  HttpClient client_;
  std::unique_ptr<observe::OtlpExporter> exporter_;
};

}  // namespace tidemill::wire
