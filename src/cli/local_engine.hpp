// A model and an engine in this process, for the commands that generate without a server.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <CLI/App.hpp>

#include "base/result.hpp"
#include "cli/interrupt.hpp"
#include "engine/engine.hpp"
#include "observe/metrics.hpp"
#include "observe/trace.hpp"
#include "serve/loaded_model.hpp"

namespace tidemill::cli {

struct LocalOptions {
  std::string model;          // as find_model() takes it; empty: the built-in one
  std::string chat_template;  // a file; empty: the model's own
  std::string isa = "auto";
  std::string activations = "dynamic";
  int threads = 0;  // 0: as many as this process may use
  std::string kv_type = "f16";
  int64_t max_context = 0;  // tokens; 0: the model's
  int64_t kv_tokens = 0;    // room in the KV cache; 0: one whole context
  int step_tokens = 512;
  int max_running = 16;
  bool prefix_cache = true;
  std::string speculation = "prompt-lookup";
  bool show_progress = true;
};

// Adds --activations to a command that loads models.
void add_activations_flag(CLI::App& command, std::string& activations);
// Adds --model, --threads, --isa, --activations, --kv-type and --speculation.
void add_local_flags(CLI::App& command, LocalOptions& options, bool positional_model);
// Adds --temperature, --top-k, --top-p, --min-p, the penalties and --seed. All must outlive the parsing.
void add_sampling_flags(CLI::App& command, engine::Sampling& sampling, std::optional<uint64_t>& seed);

class LocalEngine {
 public:
  // Loads the model (with a progress bar on a terminal); the engine starts with the first request.
  static base::Result<std::unique_ptr<LocalEngine>> load(LocalOptions options);

  const serve::LoadedModel& model() const { return *model_; }
  // Starts the engine with room for `kv_tokens`, if LocalOptions did not say.
  base::Result<void> start(int64_t kv_tokens);
  engine::Engine& engine() { return *engine_; }
  int64_t kv_bytes() const { return kv_bytes_; }  // of the KV cache, once started
  tensor::Isa isa() const { return model_->isa(); }
  int threads() const { return model_->threads(); }

  using OnEvent = std::function<bool(const engine::Event&)>;
  // Runs one request to its end, or to the interrupt, which cancels it. The last event's reason is the result; an event
  // with an error makes it an error.
  base::Result<engine::FinishReason> run(engine::Request request, Interrupt& interrupt, const OnEvent& on_event);

 private:
  explicit LocalEngine(LocalOptions options) : options_(std::move(options)) {}

  LocalOptions options_;
  std::unique_ptr<serve::LoadedModel> model_;
  observe::Tracer tracer_{base::SystemClock::instance(), 64};
  observe::Metrics metrics_;
  int64_t kv_bytes_ = 0;
  std::unique_ptr<engine::Engine> engine_;  // last: it uses all of the above
};

}  // namespace tidemill::cli
