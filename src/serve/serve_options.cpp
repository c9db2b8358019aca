#include "serve/serve_options.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>

#include "tensor/device.hpp"

namespace tidemill::serve {

using base::ByteSize;
using base::Duration;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr uint64_t kib = uint64_t{1} << 10;
constexpr uint64_t gib = uint64_t{1} << 30;
constexpr uint64_t tib = uint64_t{1} << 40;
constexpr Duration shortest = milliseconds(10);
constexpr Duration longest = hours(24);

void register_server(base::ConfigSchema& schema, ServeOptions& o) {
  wire::register_listener(schema, "server", o);
  schema.add("server.stream_keep_alive", &o.stream_keep_alive, "silence after which a stream carries a comment")
      .between(shortest, longest);
  schema.add("server.drain_timeout", &o.drain_timeout, "for running requests to finish after SIGTERM")
      .between(Duration(0), longest);
  schema
      .add("server.max_answer", &o.max_answer,
           "most that one answer takes which is not streamed; what could not fit is refused with 400")
      .between(ByteSize{64 * kib}, ByteSize{tib});
  schema
      .add("server.api_key", &o.api_keys,
           "keys, one of which clients must send as bearer token; without the option all may enter")
      .secret();
  schema.add("server.mcp", &o.mcp, "offer generation and tokenizing as MCP tools at /mcp; not behind a gateway")
      .alias("--mcp");
}

void register_model(base::ConfigSchema& schema, ServeOptions& o) {
  schema
      .add("model.path", &o.model_path,
           "GGUF file or Hugging Face folder to serve, or hf:ORG/REPO that `tidemill pull` has fetched; the embedded "
           "model if "
           "empty")
      .alias("--model")
      .alias("-m");
  schema.add("model.name", &o.model_name, "name that clients call the model by; its file's stem if empty")
      .alias("--served-model-name");
  schema.add("model.chat_template", &o.chat_template, "Jinja file to use in place of the model's own chat template")
      .alias("--chat-template");
  schema
      .add("model.tool_format", &o.tool_format,
           "how the model writes tool calls (hermes, llama3_json, mistral, ...), instead of what its template shows")
      .alias("--tool-format");
  schema
      .add("model.reasoning_format", &o.reasoning_format,
           "tags around the model's reasoning (think, none, ...), instead of what its template shows")
      .alias("--reasoning-format");
  schema.add("model.threads", &o.threads, "threads that compute; 0 for all that this process may use")
      .alias("--threads")
      .alias("-t")
      .between(0, 1024);
  schema.add("model.isa", &o.isa,
             "instruction set of the kernels: auto, scalar, avx2, avx512-vnni, avx512-bf16 or amx");
  schema
      .add("model.activations", &o.activations,
           "what quantised weights are multiplied by: dynamic, activations that are quantised as they come, or f32, "
           "as they are (weight-only quantisation: slower, and exact)")
      .alias("--activations")
      .words({"dynamic", "f32"});
}

void register_engine(base::ConfigSchema& schema, ServeOptions& o) {
  schema.add("engine.kv_memory", &o.kv_memory, "memory for the KV cache; 0 to choose by the model and the machine")
      .alias("--kv-memory")
      .between(ByteSize{0}, ByteSize{64 * tib});
  schema.add("engine.max_context", &o.max_context, "longest sequence in tokens; 0 for the model's own")
      .alias("--max-context")
      .between(int64_t{0}, int64_t{1} << 30);
  schema.add("engine.step_tokens", &o.step_tokens, "most tokens of one forward pass").between(16, 65536);
  schema.add("engine.max_running", &o.max_running, "sequences that run at one time").between(1, 4096);
  schema.add("engine.max_waiting", &o.max_waiting, "requests in the queue; further ones get 429").between(1, 1'000'000);
  schema
      .add("engine.kv_type", &o.kv_type,
           "element type of the KV cache; int8 takes about half of f16's memory and is the fastest in long contexts")
      .alias("--kv-type")
      .words({"f16", "bf16", "f32", "int8"});
  schema.add("engine.prefix_cache", &o.prefix_cache, "remember the KV blocks of earlier prompts");
  schema
      .add("engine.prefix_file", &o.prefix_file,
           "file in which the prefix cache is kept from one run to the next; written when the server has drained, and "
           "never over a file of another kind")
      .alias("--prefix-file");
  schema
      .add("engine.preload", &o.preload,
           "file or folder of system prompts (text) or chat requests (*.json) whose prefix is computed at start and "
           "stays in the cache")
      .alias("--preload");
  schema
      .add("engine.speculation", &o.speculation,
           "guess tokens ahead and verify them in one step; changes speed, never output")
      .alias("--speculation")
      .words({"off", "prompt-lookup"});
  schema.add("engine.max_proposal", &o.max_proposal, "most tokens guessed for one sequence in one step").between(1, 31);
}

void register_session(base::ConfigSchema& schema, ServeOptions& o) {
  schema
      .add("session.store", &o.session_store,
           "where /v1/responses and /v1/conversations keep conversations: a file; a Redis, "
           "redis://[user:password@]host[:port][/database] or "
           "rediss:// for TLS; or :memory:, until the server ends")
      .alias("--session-store")
      .secret();  // it may hold a password
  schema.add("session.ca_file", &o.session_ca_file,
             "authorities (PEM) by which to verify a rediss:// server; the system's if empty");
  schema.add("session.ttl", &o.session_ttl, "how long a conversation is kept")
      .between(Duration(seconds(1)), Duration(hours(24 * 3650)));
  schema
      .add("session.max_size", &o.session_max_size,
           "most that all conversations take, the oldest go first; of a Redis, most that one takes")
      .between(ByteSize{64 * kib}, ByteSize{tib});
}

}  // namespace

void register_options(base::ConfigSchema& schema, ServeOptions& options) {
  register_server(schema, options);
  register_model(schema, options);
  register_engine(schema, options);
  register_session(schema, options);
  if (options.otlp_endpoint.empty()) {
    const char* endpoint = std::getenv("OTEL_EXPORTER_OTLP_ENDPOINT");  // NOLINT(concurrency-mt-unsafe)
    if (endpoint != nullptr) options.otlp_endpoint = endpoint;
  }
  schema.add("observe.otlp_endpoint", &options.otlp_endpoint,
             "OpenTelemetry collector for spans, such as http://localhost:4318; empty: none "
             "(default from OTEL_EXPORTER_OTLP_ENDPOINT)");
  schema.add("observe.trace_ring", &options.trace_ring, "ended spans that /debug/traces remembers")
      .between(1, 1'000'000);
  schema.add("log.level", &options.log_level, "least severe messages to show")
      .alias("--log-level")
      .words({"trace", "debug", "info", "warn", "error", "off"});
  // Read elsewhere; then those that tell the tests and scripts of this repository what to use.
  for (const char* name : {"TIDEMILL_CONFIG", "TIDEMILL_CACHE", "TIDEMILL_ISA", "TIDEMILL_BUILD", "TIDEMILL_DATA",
                           "TIDEMILL_FUZZ_VOCABULARIES", "TIDEMILL_OUTPUTS", "TIDEMILL_PROGRAM",
                           "TIDEMILL_SAMPLE_SCHEMA", "TIDEMILL_SCHEMAS"}) {
    schema.ignore_variable(name);
  }
}

ModelOptions model_options(const ServeOptions& options, std::span<const std::byte> embedded,
                           std::string embedded_name) {
  using Scheme = tensor::ActivationScheme;
  return {.path = options.model_path,
          .embedded = embedded,
          .embedded_name = std::move(embedded_name),
          .name = options.model_name,
          .isa = options.isa,
          .threads = options.threads,
          .chat_template_file = options.chat_template,
          .tool_format = options.tool_format,
          .reasoning_format = options.reasoning_format,
          .max_batch_rows = std::max(options.step_tokens, options.max_running),
          .max_context = options.max_context,
          .activations = tensor::parse_activation_scheme(options.activations).value_or(Scheme::dynamic)};
}

session::StoreOptions session_options(const ServeOptions& options) {
  session::StoreOptions store;
  store.path = options.session_store;
  store.ca_file = options.session_ca_file;
  store.time_to_live = options.session_ttl;
  store.max_bytes = options.session_max_size.bytes;
  return store;
}

namespace {

// Doubles, because the product of a long context and many layers may pass 64 bits.
int64_t choose_kv_bytes(const ServeOptions& options, const model::Model& model, double available) {
  if (options.kv_memory.bytes > 0) return static_cast<int64_t>(options.kv_memory.bytes);
  tensor::KvShape block = model.kv_shape();
  block.blocks = 1;
  block.type = tensor::parse_kv_type(options.kv_type).value_or(tensor::KvType::f16);
  const int64_t own = model.hyper_parameters().context;
  const int64_t context = options.max_context > 0 ? std::min(options.max_context, own) : own;
  const int64_t blocks = (context + tensor::kKvBlockTokens - 1) / tensor::kKvBlockTokens + 1;
  const double one = static_cast<double>(blocks) * static_cast<double>(tensor::kv_block_bytes(block));
  const double share = std::max(available / 4, std::min(one, available / 2));
  return static_cast<int64_t>(std::min(one * options.max_running, share));
}

}  // namespace

engine::EngineOptions engine_options(const ServeOptions& options, const LoadedModel& model, size_t available_bytes) {
  engine::EngineOptions engine;
  engine.kv_bytes =
      model.generates() ? choose_kv_bytes(options, model.model(), static_cast<double>(available_bytes)) : 0;
  engine.max_context = options.max_context;
  engine.step_tokens = options.step_tokens;
  engine.max_running = options.max_running;
  engine.max_waiting = options.max_waiting;
  engine.prefix_cache = options.prefix_cache;
  engine.kv_type = tensor::parse_kv_type(options.kv_type).value_or(tensor::KvType::f16);
  engine.speculation.mode = engine::parse_speculation(options.speculation).value_or(engine::Speculation::off);
  engine.speculation.max_proposal = options.max_proposal;
  return engine;
}

}  // namespace tidemill::serve
