// Every name that Tidemill shares with other systems, in one table: spans, attributes, metrics, aliases and buckets.
//
// Sources: OpenTelemetry semantic conventions for generative AI (https://opentelemetry.io/docs/specs/semconv/gen-ai/,
// status "development", so a name may change: change it here), HTTP and service conventions of the same, and vLLM's
// metrics (https://docs.vllm.ai/en/latest/usage/metrics.html), which routers and dashboards scrape.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tidemill::observe::semconv {

// Names of spans. One request is `http_request` (kind server) > `llm_request` > queue, prefill, decode; the inference
// span that GenAI dashboards look for is named by inference_span() instead of llm_request where the model is known.
namespace span {
inline constexpr std::string_view http_request = "http_request";
inline constexpr std::string_view receive = "receive";          // reading, parsing, templating, tokenizing
inline constexpr std::string_view llm_request = "llm_request";  // vLLM's name
inline constexpr std::string_view queue = "queue";
inline constexpr std::string_view prefill = "prefill";
inline constexpr std::string_view decode = "decode";
}  // namespace span

// "{gen_ai.operation.name} {gen_ai.request.model}", the name that the conventions ask of an inference span.
inline std::string inference_span(std::string_view operation, std::string_view model) {
  std::string name(operation);
  if (!model.empty()) name.append(" ").append(model);
  return name;
}

// Values of gen_ai.operation.name.
namespace operation {
inline constexpr std::string_view chat = "chat";
inline constexpr std::string_view text_completion = "text_completion";
inline constexpr std::string_view embeddings = "embeddings";
inline constexpr std::string_view rerank = "rerank";  // for which the conventions have no word
}  // namespace operation

// Keys of span attributes.
namespace attribute {
inline constexpr std::string_view operation_name = "gen_ai.operation.name";
inline constexpr std::string_view provider_name = "gen_ai.provider.name";
inline constexpr std::string_view request_model = "gen_ai.request.model";
inline constexpr std::string_view response_model = "gen_ai.response.model";
inline constexpr std::string_view response_id = "gen_ai.response.id";
inline constexpr std::string_view finish_reasons = "gen_ai.response.finish_reasons";  // list of strings
inline constexpr std::string_view conversation_id = "gen_ai.conversation.id";
inline constexpr std::string_view input_tokens = "gen_ai.usage.input_tokens";
inline constexpr std::string_view output_tokens = "gen_ai.usage.output_tokens";
inline constexpr std::string_view cached_input_tokens = "gen_ai.usage.cache_read.input_tokens";
inline constexpr std::string_view max_tokens = "gen_ai.request.max_tokens";
inline constexpr std::string_view temperature = "gen_ai.request.temperature";
inline constexpr std::string_view top_p = "gen_ai.request.top_p";
inline constexpr std::string_view top_k = "gen_ai.request.top_k";
inline constexpr std::string_view frequency_penalty = "gen_ai.request.frequency_penalty";
inline constexpr std::string_view presence_penalty = "gen_ai.request.presence_penalty";
inline constexpr std::string_view stop_sequences = "gen_ai.request.stop_sequences";  // list of strings
inline constexpr std::string_view seed = "gen_ai.request.seed";
inline constexpr std::string_view choice_count = "gen_ai.request.choice.count";
// vLLM's additions; seconds as doubles.
inline constexpr std::string_view time_in_queue = "gen_ai.latency.time_in_queue";
inline constexpr std::string_view time_in_prefill = "gen_ai.latency.time_in_model_prefill";
inline constexpr std::string_view time_in_decode = "gen_ai.latency.time_in_model_decode";
inline constexpr std::string_view time_to_first_token = "gen_ai.latency.time_to_first_token";

// Ours: of an inference span whose request was speculated for.
inline constexpr std::string_view proposed_tokens = "tidemill.speculation.proposed_tokens";
inline constexpr std::string_view accepted_tokens = "tidemill.speculation.accepted_tokens";

// Ours: seconds that an inference span's request did not decode because its client did not read.
inline constexpr std::string_view time_resting = "tidemill.latency.time_resting";

inline constexpr std::string_view error_type = "error.type";
inline constexpr std::string_view http_method = "http.request.method";
inline constexpr std::string_view http_route = "http.route";
inline constexpr std::string_view http_status = "http.response.status_code";
inline constexpr std::string_view service_name = "service.name";
inline constexpr std::string_view service_version = "service.version";
inline constexpr std::string_view service_instance_id = "service.instance.id";
}  // namespace attribute

inline constexpr std::string_view provider = "tidemill";  // gen_ai.provider.name
inline constexpr std::string_view service = "tidemill";   // service.name

// Upper bounds of histogram buckets, in seconds, as the conventions advise.
namespace bounds {
inline constexpr double request_duration[] = {0.01, 0.02, 0.04, 0.08,  0.16,  0.32,  0.64,
                                              1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92};
inline constexpr double time_to_first_token[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                                 0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10};
inline constexpr double time_per_output_token[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
                                                   0.3,  0.4,   0.5,  0.75,  1,   2.5};
}  // namespace bounds

// Labels of metrics.
namespace label {
inline constexpr std::string_view model_name = "model_name";  // vLLM's; the name the model is served under
inline constexpr std::string_view block_size = "block_size";
inline constexpr std::string_view num_gpu_blocks = "num_gpu_blocks";
inline constexpr std::string_view max_lora = "max_lora";
inline constexpr std::string_view running_lora = "running_lora_adapters";
inline constexpr std::string_view waiting_lora = "waiting_lora_adapters";
inline constexpr std::string_view finished_reason = "finished_reason";
inline constexpr std::string_view route = "route";
inline constexpr std::string_view status = "status";
}  // namespace label

// A metric under all of its names: metrics.gauge(m.names(), m.help, labels).
struct Metric {
  std::string_view name;
  std::string_view help;
  std::string_view alias = {};
  std::string_view second_alias = {};

  std::vector<std::string> names() const {
    std::vector<std::string> all{std::string(name)};
    if (!alias.empty()) all.emplace_back(alias);
    if (!second_alias.empty()) all.emplace_back(second_alias);
    return all;
  }
};

namespace metric {
// Gauges.
inline constexpr Metric requests_waiting{"tidemill_requests_waiting", "Requests in the queue",
                                         "vllm:num_requests_waiting"};
inline constexpr Metric requests_running{"tidemill_requests_running", "Requests that are being computed",
                                         "vllm:num_requests_running"};
inline constexpr Metric requests_resting{"tidemill_requests_resting",
                                         "Requests that are not computed until their clients have read more"};
inline constexpr Metric kv_usage{"tidemill_kv_usage_ratio", "Share of the KV blocks in use by requests, 0 to 1",
                                 "vllm:kv_cache_usage_perc"};
// Always 1; labels block_size (tokens) and num_gpu_blocks.
inline constexpr Metric kv_config{"tidemill_kv_config_info", "Shape of the KV cache, in the labels",
                                  "vllm:cache_config_info"};
// The time of the last look, in seconds since the Unix epoch; labels as vLLM has them. There are no adapters yet, so
// that they say "0" and nothing: routers that look for it take its absence for a fault.
inline constexpr Metric lora_requests{"tidemill_lora_requests_info",
                                      "Adapters in use, in the labels; the time of the last look",
                                      "vllm:lora_requests_info"};
// Counters.
inline constexpr Metric prompt_tokens{"tidemill_prompt_tokens_total", "Prompt tokens of admitted requests",
                                      "vllm:prompt_tokens_total"};
inline constexpr Metric generated_tokens{"tidemill_generated_tokens_total", "Tokens generated",
                                         "vllm:generation_tokens_total"};
inline constexpr Metric resumed_tokens{"tidemill_resumed_tokens_total",
                                       "Tokens generated elsewhere before their streams were resumed here"};
inline constexpr Metric prefix_queries{"tidemill_prefix_queries_total", "Prompt tokens looked up in the prefix cache",
                                       "vllm:prefix_cache_queries_total"};
inline constexpr Metric prefix_hits{"tidemill_prefix_hits_total", "Prompt tokens found in the prefix cache",
                                    "vllm:prefix_cache_hits_total"};
inline constexpr Metric preemptions{
    "tidemill_preemptions_total", "Requests set back to the queue for want of KV blocks", "vllm:num_preemptions_total"};
inline constexpr Metric rests{"tidemill_rests_total",
                              "Times that a request was not computed further because its client lagged"};
// Label finished_reason.
inline constexpr Metric requests_finished{"tidemill_requests_finished_total", "Requests that ended, by reason",
                                          "vllm:request_success_total"};
inline constexpr Metric engine_steps{"tidemill_engine_steps_total", "Forward passes"};
// vLLM calls a proposal a draft, wherever it comes from.
inline constexpr Metric proposals{"tidemill_speculation_proposals_total",
                                  "Guesses ahead of a sequence that were verified",
                                  "vllm:spec_decode_num_drafts_total"};
inline constexpr Metric proposed_tokens{"tidemill_speculation_proposed_tokens_total", "Tokens of those guesses",
                                        "vllm:spec_decode_num_draft_tokens_total"};
inline constexpr Metric accepted_tokens{"tidemill_speculation_accepted_tokens_total",
                                        "Tokens of those guesses that were right and were generated",
                                        "vllm:spec_decode_num_accepted_tokens_total"};
inline constexpr Metric http_requests{"tidemill_http_requests_total", "HTTP requests answered, by route and status"};
inline constexpr Metric spans_exported{"tidemill_otlp_spans_exported_total", "Spans accepted by the OTLP collector"};
inline constexpr Metric spans_dropped{
    "tidemill_otlp_spans_dropped_total",
    "Spans lost because the export queue was full or the collector did not take them"};
// Histograms, in seconds.
inline constexpr Metric request_duration{"tidemill_request_duration_seconds", "From arrival to the last token",
                                         "vllm:e2e_request_latency_seconds", "gen_ai_server_request_duration_seconds"};
inline constexpr Metric time_to_first_token{"tidemill_time_to_first_token_seconds", "From arrival to the first token",
                                            "vllm:time_to_first_token_seconds",
                                            "gen_ai_server_time_to_first_token_seconds"};
// Every gap between two tokens; bounds::time_per_output_token.
inline constexpr Metric inter_token_latency{"tidemill_inter_token_latency_seconds", "Between two tokens of a request",
                                            "vllm:inter_token_latency_seconds"};
// One value a request: the mean of those gaps.
inline constexpr Metric time_per_output_token{"tidemill_time_per_output_token_seconds",
                                              "Mean time for each token after the first of a request",
                                              "gen_ai_server_time_per_output_token_seconds"};
inline constexpr Metric queue_time{"tidemill_queue_time_seconds", "From arrival to the first step",
                                   "vllm:request_queue_time_seconds"};
}  // namespace metric

}  // namespace tidemill::observe::semconv
