#include <cstdio>
#include <string>
#include <unistd.h>

#include <fmt/core.h>

#include "base/file.hpp"
#include "base/json.hpp"
#include "cli/command.hpp"
#include "cli/local_engine.hpp"
#include "cli/output.hpp"

namespace tidemill::cli {

namespace json = base::json;

namespace {

struct CompleteFlags {
  LocalOptions local;
  engine::Request request;
  std::string prompt;
  bool has_prompt = false;
  bool as_json = false;
};

struct Collected {
  std::string text;
  json::array tokens;
  engine::Usage usage;
};

// An empty prompt is the beginning-of-sequence token alone.
base::Result<std::vector<text::Token>> prompt_tokens(const serve::LoadedModel& model, const std::string& prompt) {
  TM_TRY(std::vector<text::Token> tokens, model.encode_prompt(prompt));
  if (tokens.empty()) {
    const auto bos = model.tokenizer().vocabulary().bos;
    if (!bos) {
      return base::Error(base::ErrorCode::invalid_argument,
                         "the prompt is empty, and the model has no token to begin with: give a --prompt");
    }
    tokens.push_back(*bos);
  }
  return tokens;
}

void print_answer_json(const Collected& collected, engine::FinishReason reason) {
  fmt::print("{}\n", json::serialize(json::object{{"text", collected.text},
                                                  {"tokens", collected.tokens},
                                                  {"finish_reason", engine::to_string(reason)},
                                                  {"prompt_tokens", collected.usage.prompt_tokens},
                                                  {"completion_tokens", collected.usage.completion_tokens}}));
}

base::Result<int> complete(CompleteFlags flags) {
  std::string prompt = flags.prompt;
  if (!flags.has_prompt) {
    TM_TRY(prompt, base::read_file("-"));
  }
  flags.local.show_progress = !flags.as_json;
  flags.local.prefix_cache = false;
  TM_TRY(const auto local, LocalEngine::load(flags.local));
  TM_TRY(flags.request.prompt, prompt_tokens(local->model(), prompt));
  TM_CHECK(local->start(static_cast<int64_t>(flags.request.prompt.size()) + flags.request.max_tokens));

  Interrupt interrupt;
  Collected collected;
  TM_TRY(const engine::FinishReason reason, local->run(flags.request, interrupt, [&](const engine::Event& event) {
    collected.text += event.text;
    for (const auto token : event.tokens)
      collected.tokens.push_back(token);
    if (event.usage) collected.usage = *event.usage;
    return flags.as_json || print_now(event.text);
  }));
  TM_CHECK(finish_output());
  if (std::ferror(stdout) != 0) return exit_success;  // the reader has gone, with all it wanted
  if (flags.as_json) {
    print_answer_json(collected, reason);
  } else if (isatty(STDOUT_FILENO) != 0) {
    std::fputc('\n', stdout);
  }
  return reason == engine::FinishReason::cancelled ? exit_interrupted : exit_success;
}

}  // namespace

void add_complete(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("complete", "Continue a text and print the continuation alone");
  auto flags = std::make_shared<CompleteFlags>();
  flags->request.max_tokens = 128;
  add_local_flags(*command, flags->local, false);
  auto* prompt = command->add_option("-p,--prompt", flags->prompt, "The text to continue (default: standard input)");
  command->add_option("-n,--max-tokens", flags->request.max_tokens, "Most tokens to generate")
      ->check(CLI::Range(0, max_count))
      ->capture_default_str();
  command->add_option("--stop", flags->request.stop, "Stop before this string; may be repeated")->type_name("TEXT");
  command->add_flag("--ignore-eos", flags->request.ignore_eos, "Go on past the end-of-text token");
  command->add_flag("--special", flags->request.special_text, "Print special tokens too");
  command->add_flag("--json", flags->as_json, "Print JSON with text, token ids, finish reason and counts");
  add_sampling_flags(*command, flags->request.sampling, flags->request.sampling.seed);
  command->callback([=, &chosen] {
    flags->has_prompt = prompt->count() > 0;
    chosen.body = [flags] { return complete(*flags); };
  });
}

}  // namespace tidemill::cli
