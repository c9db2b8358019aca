// The options of the model-server role, and how they are registered with the configuration.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/config.hpp"
#include "base/result.hpp"
#include "engine/engine.hpp"
#include "serve/loaded_model.hpp"
#include "session/session_store.hpp"
#include "wire/listener_options.hpp"

namespace tidemill::serve {

// Defaults serve one machine's user at once; every field is described where it is registered.
struct ServeOptions : wire::ListenerOptions {
  base::Duration stream_keep_alive = std::chrono::seconds(10);
  base::Duration drain_timeout = std::chrono::seconds(30);
  std::vector<std::string> api_keys;
  base::ByteSize max_answer{uint64_t{256} << 20};
  bool mcp = false;

  std::string model_path;
  std::string model_name;
  std::string chat_template;
  std::string tool_format;
  std::string reasoning_format;
  std::string isa = "auto";
  std::string activations = "dynamic";  // tensor::to_string of a scheme
  int threads = 0;

  base::ByteSize kv_memory{0};
  int64_t max_context = 0;
  int step_tokens = 512;
  int max_running = 64;
  int max_waiting = 256;
  std::string kv_type = "f16";
  bool prefix_cache = true;
  std::string prefix_file;
  std::string preload;
  std::string speculation = "prompt-lookup";
  int max_proposal = engine::SpeculationOptions().max_proposal;

  std::string session_store = ":memory:";
  std::string session_ca_file;
  base::Duration session_ttl = std::chrono::hours(24 * 30);
  base::ByteSize session_max_size{uint64_t{256} << 20};

  std::string otlp_endpoint;
  int trace_ring = 4096;
  std::string log_level = "info";
};

// Registers every option. `options` must outlive the schema; its values at this moment become the defaults, except
// that an empty otlp_endpoint takes the value of OTEL_EXPORTER_OTLP_ENDPOINT.
void register_options(base::ConfigSchema& schema, ServeOptions& options);

// The parts, as the rooms below want them. `embedded` serves where no model.path is set.
ModelOptions model_options(const ServeOptions& options, std::span<const std::byte> embedded = {},
                           std::string embedded_name = {});
session::StoreOptions session_options(const ServeOptions& options);
// kv_memory 0 becomes as much as `max_running` sequences of full length can use, at most a quarter of
// `available_bytes`, and at least one such sequence if half of that memory holds it. An encoder gets none.
engine::EngineOptions engine_options(const ServeOptions& options, const LoadedModel& model, size_t available_bytes);

}  // namespace tidemill::serve
