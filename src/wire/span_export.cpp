#include "wire/span_export.hpp"

#include <utility>

#include "base/version.hpp"

namespace tidemill::wire {

using base::Result;

namespace {

// A collector is near; the exporter tries again by itself. The program's end waits for one try at most.
HttpClientOptions client_options() {
  HttpClientOptions options;
  options.connect_timeout = std::chrono::seconds(2);
  options.idle_timeout = std::chrono::seconds(3);
  return options;
}

}  // namespace

Result<std::unique_ptr<SpanExport>> SpanExport::start(const std::string& endpoint, observe::Tracer& tracer,
                                                      observe::Metrics& metrics, const base::Clock& clock) {
  if (auto url = Url::parse(endpoint); !url) {
    return std::move(url)
        .error()
        .wrap("the endpoint of the OpenTelemetry collector")
        .with_param("observe.otlp_endpoint");
  }
  std::string root = endpoint;
  while (root.ends_with('/'))
    root.pop_back();
  std::unique_ptr<SpanExport> started(new SpanExport(tracer));
  const auto transport = [root, client = &started->client_](std::string_view path, std::string body) -> Result<int> {
    ClientRequest request{.method = "POST", .url = root + std::string(path), .headers = {}, .body = {}};
    request.headers.set("Content-Type", "application/json");
    request.body = std::move(body);
    TM_TRY(const HttpResponse response, client->fetch(std::move(request)));
    return response.status;
  };
  observe::OtlpOptions options;
  options.resource.version = std::string(base::version());
  options.advice = "leave observe.otlp_endpoint and OTEL_EXPORTER_OTLP_ENDPOINT unset to send none";
  started->exporter_ = std::make_unique<observe::OtlpExporter>(transport, std::move(options), metrics, clock);
  tracer.set_sink([exporter = started->exporter_.get()](const auto& record) { exporter->add(record); });
  return started;
}

SpanExport::SpanExport(observe::Tracer& tracer) : tracer_(tracer), client_(client_options()) {}

SpanExport::~SpanExport() {
  tracer_.set_sink({});
}

}  // namespace tidemill::wire
