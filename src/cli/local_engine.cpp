#include "cli/local_engine.hpp"

#include <algorithm>
#include <optional>

#include <fmt/core.h>

#include "base/progress.hpp"
#include "cli/model_source.hpp"
#include "cli/number_flags.hpp"
#include "engine/validate.hpp"

namespace tidemill::cli {

void add_activations_flag(CLI::App& command, std::string& activations) {
  command
      .add_option("--activations", activations,
                  "What quantised weights are multiplied by: dynamic, activations that are quantised as they come, or "
                  "f32, as they are (weight-only quantisation: slower, and exact)")
      ->check(CLI::IsMember({"dynamic", "f32"}))
      ->capture_default_str();
}

void add_local_flags(CLI::App& command, LocalOptions& options, bool positional_model) {
  add_model_flag(command, options.model, positional_model);
  command
      .add_option("-t,--threads", options.threads, "Compute threads (default: as many cores as this process may use)")
      ->check(CLI::Range(0, 1024));
  command.add_option("--isa", options.isa, "Instruction set: auto, scalar, avx2, avx512-vnni, avx512-bf16 or amx")
      ->capture_default_str();
  add_activations_flag(command, options.activations);
  command
      .add_option(
          "--kv-type", options.kv_type,
          "Element type of the KV cache; int8 takes about half of f16's memory and is the fastest in long contexts")
      ->check(CLI::IsMember({"f16", "bf16", "f32", "int8"}))
      ->capture_default_str();
  command
      .add_option("--speculation", options.speculation,
                  "Guess tokens ahead and verify them in one step; changes speed, never output")
      ->check(CLI::IsMember({"off", "prompt-lookup"}))
      ->capture_default_str();
}

void add_sampling_flags(CLI::App& command, engine::Sampling& sampling, std::optional<uint64_t>& seed) {
  const auto group = "Sampling";
  command.add_option("--temperature", sampling.temperature, "0 is greedy")->capture_default_str()->group(group);
  command.add_option("--top-k", sampling.top_k, "Keep the k most likely tokens; 0: all")->group(group);
  command.add_option("--top-p", sampling.top_p, "Keep the most likely tokens with this much probability")->group(group);
  command.add_option("--min-p", sampling.min_p, "Drop tokens less likely than this times the best")->group(group);
  command.add_option("--repetition-penalty", sampling.repetition_penalty, "Over prompt and output")->group(group);
  command.add_option("--frequency-penalty", sampling.frequency_penalty, "Over the output, per occurrence")
      ->group(group);
  command.add_option("--presence-penalty", sampling.presence_penalty, "Over the output, once")->group(group);
  add_seed_flag(
      command, [&seed](uint64_t given) { seed = given; }, "The same seed gives the same output")
      ->group(group);
}

base::Result<std::unique_ptr<LocalEngine>> LocalEngine::load(LocalOptions options) {
  std::unique_ptr<LocalEngine> local(new LocalEngine(std::move(options)));
  const LocalOptions& wanted = local->options_;
  serve::ModelOptions source;
  TM_TRY(source.path, find_model(wanted.model));
  source.embedded = embedded_model();
  source.embedded_name = embedded_model_name;
  source.isa = wanted.isa;
  source.activations = tensor::parse_activation_scheme(wanted.activations).value_or(tensor::ActivationScheme::dynamic);
  source.threads = wanted.threads;
  source.chat_template_file = wanted.chat_template;
  source.max_batch_rows = wanted.step_tokens;
  source.max_context = wanted.max_context;
  base::ReportedProgress bar("loading", base::Progress::Unit::bytes, base::Progress::terminal(wanted.show_progress));
  TM_TRY(local->model_, serve::LoadedModel::load(source, bar.reporter()));
  if (!local->model_->generates()) {
    using Model = engine::RequestLimits::Model;
    const bool ranks = local->model_->ranks();
    const base::Error why = engine::encodes_only(ranks ? Model::ranks : Model::embeds);
    return base::Error(why.code(), fmt::format("'{}': {}; 'tidemill serve' answers {} with it", local->model_->name(),
                                               why.message(), ranks ? "/v1/rerank" : "/v1/embeddings"));
  }
  return local;
}

base::Result<void> LocalEngine::start(int64_t kv_tokens) {
  engine::EngineOptions options;
  tensor::KvShape shape = model_->model().kv_shape();
  shape.type = tensor::parse_kv_type(options_.kv_type).value_or(tensor::KvType::f16);
  const int64_t context = options_.max_context > 0 ? options_.max_context : model_->hyper_parameters().context;
  const int64_t tokens = options_.kv_tokens > 0 ? options_.kv_tokens : kv_tokens > 0 ? kv_tokens : context;
  // One block more than the tokens fill, for the ragged end.
  const int64_t blocks = (tokens + tensor::kKvBlockTokens - 1) / tensor::kKvBlockTokens + 1;
  options.kv_bytes = blocks * static_cast<int64_t>(tensor::kv_block_bytes(shape));
  kv_bytes_ = options.kv_bytes;
  options.kv_type = shape.type;
  options.max_context = std::min(context, blocks * tensor::kKvBlockTokens);
  options.step_tokens = options_.step_tokens;
  options.max_running = options_.max_running;
  options.max_waiting = std::max(options.max_waiting, options_.max_running);
  options.prefix_cache = options_.prefix_cache;
  options.speculation.mode = engine::parse_speculation(options_.speculation).value_or(engine::Speculation::off);
  TM_TRY(engine_, engine::Engine::start(model_->model(), model_->device(), model_->tokenizer(), options, tracer_,
                                        metrics_, base::SystemClock::instance()));
  return {};
}

base::Result<engine::FinishReason> LocalEngine::run(engine::Request request, Interrupt& interrupt,
                                                    const OnEvent& on_event) {
  TM_TRY(const auto stream, engine_->submit(std::move(request)));
  stream->on_ready([&interrupt] { interrupt.wake(); });
  engine::FinishReason reason = engine::FinishReason::none;
  std::optional<base::Error> error;
  while (true) {
    while (const auto event = stream->try_next()) {
      if (event->error) error = event->error;
      if (event->finish != engine::FinishReason::none) reason = event->finish;
      if (!on_event(*event)) stream->cancel();
    }
    if (stream->ended()) break;
    interrupt.wait();
    if (interrupt.raised()) stream->cancel();
  }
  stream->on_ready({});
  if (error) return std::move(*error);
  return reason;
}

}  // namespace tidemill::cli
