#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "base/config.hpp"
#include "base/log.hpp"
#include "base/memory.hpp"
#include "base/progress.hpp"
#include "base/units.hpp"
#include "base/version.hpp"
#include "cli/command.hpp"
#include "cli/interrupt.hpp"
#include "cli/model_source.hpp"
#include "serve/server.hpp"

namespace tidemill::cli {

namespace {

constexpr const char* default_config_file = "tidemill.toml";

// The options of `serve` as the schema describes them, and the flags that the command line gave.
struct ServeFlags {
  serve::ServeOptions options;
  base::ConfigSchema schema;
  struct Given {
    const base::ConfigOption* option;
    CLI::Option* flag;
  };
  std::vector<Given> given;
  std::string config_file;
  bool print_config = false;
};

void add_flag(CLI::App& command, const base::ConfigOption& option, ServeFlags& flags) {
  std::string names;
  for (const std::string& name : option.flags())
    names += (names.empty() ? "" : ",") + name;
  std::string help = option.help();
  const std::string fallback = option.default_text();
  help += fmt::format(" [{}{}]", option.requirement(), fallback.empty() ? "" : "; default " + fallback);
  CLI::Option* flag =
      command.add_option(names)->description(help)->group(option.key().substr(0, option.key().find('.')));
  flag->type_name("")->allow_extra_args(false);
  if (option.is_switch()) {
    flag->expected(0, 1);
  } else {
    flag->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  flags.given.push_back({&option, flag});
}

std::vector<base::ConfigFlag> collect(const ServeFlags& flags) {
  std::vector<base::ConfigFlag> collected;
  for (const auto& [option, flag] : flags.given) {
    if (flag->count() == 0) continue;
    const std::string name = option->flags().front();
    if (flag->results().empty()) collected.push_back({name, std::nullopt});
    for (const std::string& value : flag->results()) {
      const bool bare = option->is_switch() && value.empty();
      collected.push_back({name, bare ? std::nullopt : std::optional(value)});
    }
  }
  return collected;
}

base::Result<void> load_config(ServeFlags& flags) {
  base::ConfigSources sources;
  const char* named = std::getenv("TIDEMILL_CONFIG");  // NOLINT(concurrency-mt-unsafe): before any thread
  if (!flags.config_file.empty()) {
    sources.file = flags.config_file;
  } else if (named != nullptr && *named != '\0') {
    sources.file = named;
  } else if (std::filesystem::exists(default_config_file)) {
    sources.file = default_config_file;
  }
  sources.environment = base::config_environment();
  sources.flags = collect(flags);
  return flags.schema.load(sources);
}

base::Result<std::unique_ptr<serve::LoadedModel>> load_model(const serve::ServeOptions& options) {
  std::optional<base::Progress> bar;
  return serve::LoadedModel::load(serve::model_options(options, embedded_model(), std::string(embedded_model_name)),
                                  [&](size_t done, size_t total) {
                                    if (!bar)
                                      bar.emplace("loading", total, base::Progress::Unit::bytes,
                                                  base::Progress::terminal(true));
                                    bar->set(done);
                                  });
}

// What a person wants to see once it runs, ending in a line to paste.
void print_welcome(const serve::Server& server) {
  const serve::LoadedModel& model = server.model();
  const model::HyperParameters& shape = model.hyper_parameters();
  fmt::print("Tidemill {} serves {} at {}\n", base::version(), model.name(), server.url());
  fmt::print("  model    {}, {} layers of width {}, context {} tokens\n", shape.architecture, shape.layers, shape.width,
             shape.context);
  fmt::print("  compute  {} ({})\n", model.device().description(), model.threads_source());
  fmt::print("  memory   {} resident: {} of weights; KV cache of up to {}\n",
             base::human_bytes(static_cast<double>(base::resident_bytes())),
             base::human_bytes(static_cast<double>(model.model().weight_bytes())),
             base::human_bytes(static_cast<double>(server.kv_bytes())));
  fmt::print("\nTry it (Ctrl-C stops the server):\n\n");
  if (model.chat().available()) {
    fmt::print(
        "curl -s {}/v1/chat/completions -H 'Content-Type: application/json' -d '{{\"messages\": [{{\"role\": \"user\", "
        "\"content\": \"def fibonacci(n):\"}}], \"max_tokens\": 48, \"temperature\": 0}}'\n\n",
        server.url());
  } else {
    fmt::print(
        "curl -s {}/v1/completions -H 'Content-Type: application/json' -d '{{\"prompt\": \"Once upon a time\", "
        "\"max_tokens\": 48, \"temperature\": 0}}'\n\n",
        server.url());
  }
  std::fflush(stdout);
}

base::Result<int> run_server(ServeFlags& flags) {
  TM_CHECK(load_config(flags));
  if (flags.print_config) {
    fmt::print("{}", flags.schema.dump());
    return exit_success;
  }
  TM_TRY(const base::log::Level level, base::log::parse_level(flags.options.log_level));
  base::log::set_level(level);

  Interrupt interrupt;
  TM_TRY(const auto server, serve::Server::start(flags.options));
  TM_TRY(auto model, load_model(flags.options));
  TM_CHECK(server->serve(std::move(model)));
  if (!interrupt.raised()) print_welcome(*server);
  while (!interrupt.raised())
    interrupt.wait();
  base::log::info("stopping: running requests have {} to finish", base::format_duration(flags.options.drain_timeout));
  if (!server->stop(flags.options.drain_timeout)) base::log::warn("some requests were cut at the limit");
  return exit_success;
}

}  // namespace

void add_serve(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("serve", "Serve a model over HTTP, with OpenAI's API");
  auto flags = std::make_shared<ServeFlags>();
  serve::register_options(flags->schema, flags->options);
  command
      ->add_option("--config", flags->config_file, "Configuration file (default: tidemill.toml here, if there is one)")
      ->type_name("FILE");
  command->add_flag("--print-config", flags->print_config, "Print the configuration in effect and leave");
  for (const base::ConfigOption& option : flags->schema.options())
    add_flag(*command, option, *flags);
  command->footer(
      "Every option is also a key of tidemill.toml (server.port is `port` under [server]) and an environment variable\n"
      "(TIDEMILL_SERVER_PORT). Flags win over the environment, the environment over the file.");
  command->callback([=, &chosen] { chosen.body = [flags] { return run_server(*flags); }; });
}

}  // namespace tidemill::cli
