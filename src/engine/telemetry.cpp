#include "engine/telemetry.hpp"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "observe/semantic_conventions.hpp"

namespace tidemill::engine {
namespace {

namespace semconv = observe::semconv;
namespace attribute = observe::semconv::attribute;
namespace metric = observe::semconv::metric;

observe::Labels model_labels(const std::string& model_name) {
  if (model_name.empty()) return {};
  return {{std::string(semconv::label::model_name), model_name}};
}

observe::Gauge& gauge(observe::Metrics& metrics, const semconv::Metric& m, const observe::Labels& labels) {
  return metrics.gauge(m.names(), m.help, labels);
}
observe::Counter& counter(observe::Metrics& metrics, const semconv::Metric& m, const observe::Labels& labels) {
  return metrics.counter(m.names(), m.help, labels);
}
observe::Histogram& histogram(observe::Metrics& metrics, const semconv::Metric& m, std::span<const double> bounds,
                              const observe::Labels& labels) {
  return metrics.histogram(m.names(), m.help, {bounds.begin(), bounds.end()}, labels);
}

}  // namespace

Telemetry::Telemetry(observe::Tracer& tracer, observe::Metrics& metrics, const base::Clock& clock,
                     std::string model_name, int64_t block_tokens, int64_t blocks)
    : tracer_(tracer),
      clock_(clock),
      model_name_(std::move(model_name)),
      metrics_(metrics),
      labels_(model_labels(model_name_)),
      waiting_(gauge(metrics, metric::requests_waiting, labels_)),
      running_(gauge(metrics, metric::requests_running, labels_)),
      resting_(gauge(metrics, metric::requests_resting, labels_)),
      kv_usage_(gauge(metrics, metric::kv_usage, labels_)),
      lora_requests_(gauge(metrics, metric::lora_requests,
                           {{std::string(semconv::label::max_lora), "0"},
                            {std::string(semconv::label::running_lora), ""},
                            {std::string(semconv::label::waiting_lora), ""}})),
      prompt_tokens_(counter(metrics, metric::prompt_tokens, labels_)),
      generated_tokens_(counter(metrics, metric::generated_tokens, labels_)),
      resumed_tokens_(counter(metrics, metric::resumed_tokens, labels_)),
      prefix_queries_(counter(metrics, metric::prefix_queries, labels_)),
      prefix_hits_(counter(metrics, metric::prefix_hits, labels_)),
      preemptions_(counter(metrics, metric::preemptions, labels_)),
      rests_(counter(metrics, metric::rests, labels_)),
      steps_(counter(metrics, metric::engine_steps, labels_)),
      proposals_(counter(metrics, metric::proposals, labels_)),
      proposed_tokens_(counter(metrics, metric::proposed_tokens, labels_)),
      accepted_tokens_(counter(metrics, metric::accepted_tokens, labels_)),
      queue_time_(histogram(metrics, metric::queue_time, semconv::bounds::request_duration, labels_)),
      time_to_first_token_(
          histogram(metrics, metric::time_to_first_token, semconv::bounds::time_to_first_token, labels_)),
      inter_token_latency_(
          histogram(metrics, metric::inter_token_latency, semconv::bounds::time_per_output_token, labels_)),
      time_per_output_token_(
          histogram(metrics, metric::time_per_output_token, semconv::bounds::time_per_output_token, labels_)),
      request_duration_(histogram(metrics, metric::request_duration, semconv::bounds::request_duration, labels_)) {
  observe::Labels shape = labels_;
  shape.emplace_back(semconv::label::block_size, std::to_string(block_tokens));
  shape.emplace_back(semconv::label::num_gpu_blocks, std::to_string(blocks));
  gauge(metrics, metric::kv_config, shape).set(1);
  load({});
}

void Telemetry::submitted(Job& job) {
  const Request& request = job.request;
  job.arrived = clock_.now();
  job.span = tracer_.start(semconv::span::llm_request, request.parent);
  if (!model_name_.empty()) job.span.set(attribute::request_model, model_name_);
  job.span.set(attribute::response_id, request.id);
  job.span.set(attribute::input_tokens, static_cast<int64_t>(request.prompt.size()));
  if (!job.embeds()) {
    const Sampling& sampling = request.sampling;
    job.span.set(attribute::max_tokens, static_cast<int64_t>(request.max_tokens));
    job.span.set(attribute::temperature, static_cast<double>(sampling.temperature));
    job.span.set(attribute::top_p, static_cast<double>(sampling.top_p));
    if (sampling.top_k > 0) job.span.set(attribute::top_k, static_cast<int64_t>(sampling.top_k));
    if (sampling.seed) job.span.set(attribute::seed, static_cast<int64_t>(*sampling.seed));
    if (request.n > 1) job.span.set(attribute::choice_count, static_cast<int64_t>(request.n));
  }
  job.stage = tracer_.start(semconv::span::queue, job.span.context());
}

void Telemetry::started(Job& job) {
  job.first_scheduled = clock_.now();
  const double waited = base::seconds(job.first_scheduled - job.arrived);
  queue_time_.observe(waited);
  prompt_tokens_.add(static_cast<double>(job.request.prompt.size()));
  job.span.set(attribute::time_in_queue, waited);
  job.stage.end();
  job.stage = tracer_.start(semconv::span::prefill, job.span.context());
}

void Telemetry::prefilled(Job& job) {
  job.first_token = clock_.now();
  const double waited = base::seconds(job.first_token - job.arrived);
  const bool decodes = !job.embeds() && job.request.max_tokens > 0;
  if (decodes) time_to_first_token_.observe(waited);
  job.span.set(attribute::time_in_prefill, base::seconds(job.first_token - job.first_scheduled));
  job.stage.end();
  if (!decodes) return;
  job.span.set(attribute::time_to_first_token, waited);
  job.stage = tracer_.start(semconv::span::decode, job.span.context());
}

void Telemetry::token(Job& job, int choice) {
  const base::SteadyTime now = clock_.now();
  base::SteadyTime& last = job.last_token[static_cast<size_t>(choice)];
  const Choice& of = *job.choices[static_cast<size_t>(choice)];
  if (of.generated() > of.resumed() + 1) inter_token_latency_.observe(base::seconds(now - last));
  last = now;
  generated_tokens_.add();
}

void Telemetry::rests(Job& job) {
  job.rests_since = clock_.now();
  rests_.add();
}

// The time is the reader's and counts neither as decoding nor as a gap between tokens.
void Telemetry::woken(Job& job) {
  const base::Duration rested = clock_.now() - job.rests_since;
  if (job.prefilled) job.rested += rested;
  for (base::SteadyTime& last : job.last_token)
    last += rested;
}

void Telemetry::speculated(Job& job, int64_t proposed, int64_t accepted) {
  proposals_.add();
  proposed_tokens_.add(static_cast<double>(proposed));
  accepted_tokens_.add(static_cast<double>(accepted));
  job.proposed += proposed;
  job.accepted += accepted;
}

void Telemetry::ended(Job& job, const Usage& usage, const base::Error* error) {
  const base::SteadyTime now = clock_.now();
  job.stage.end();
  if (job.rests) woken(job);
  request_duration_.observe(base::seconds(now - job.arrived));
  std::vector<std::string> reasons;
  int longest = 0;
  for (const auto& choice : job.choices) {
    const FinishReason reason = error != nullptr ? FinishReason::error : choice->finish();
    reasons.emplace_back(to_string(reason));
    longest = std::max(longest, choice->generated() - choice->resumed());
  }
  if (job.prefilled && longest > 0) {
    const double decoding = base::seconds(now - job.first_token - job.rested);
    job.span.set(attribute::time_in_decode, decoding);
    if (longest > 1) time_per_output_token_.observe(decoding / (longest - 1));
  }
  if (job.rested.count() > 0) job.span.set(attribute::time_resting, base::seconds(job.rested));
  job.span.set(attribute::output_tokens, static_cast<int64_t>(usage.completion_tokens));
  job.span.set(attribute::cached_input_tokens, static_cast<int64_t>(usage.cached_tokens));
  if (job.proposed > 0) {
    job.span.set(attribute::proposed_tokens, job.proposed);
    job.span.set(attribute::accepted_tokens, job.accepted);
  }
  observe::Labels labels = labels_;
  labels.emplace_back(semconv::label::finished_reason, reasons.empty() ? "stop" : reasons.front());
  counter(metrics_, metric::requests_finished, labels).add();
  job.span.set(attribute::finish_reasons, std::move(reasons));
  if (error != nullptr) {
    job.span.set(attribute::error_type, std::string(base::to_string(error->code())));
    job.span.fail(error->message());
  }
  job.span.end();
}

void Telemetry::resumed(int64_t tokens) {
  resumed_tokens_.add(static_cast<double>(tokens));
}

void Telemetry::looked_up(int64_t tokens, int64_t found) {
  prefix_queries_.add(static_cast<double>(tokens));
  prefix_hits_.add(static_cast<double>(found));
}

void Telemetry::stepped(uint64_t preemptions_so_far) {
  steps_.add();
  preemptions_.add(static_cast<double>(preemptions_so_far - preemptions_seen_));
  preemptions_seen_ = preemptions_so_far;
}

void Telemetry::load(const Load& present) {
  waiting_.set(static_cast<double>(present.waiting));
  running_.set(static_cast<double>(present.running));
  resting_.set(static_cast<double>(present.resting));
  kv_usage_.set(present.kv_usage);
  lora_requests_.set(static_cast<double>(base::unix_nanos(clock_.wall_now())) * 1e-9);
}

}  // namespace tidemill::engine
