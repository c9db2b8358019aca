#include <string>

#include <fmt/core.h>

#include "base/log.hpp"
#include "base/units.hpp"
#include "cli/command.hpp"
#include "cli/interrupt.hpp"
#include "cli/roles.hpp"

namespace tidemill::cli {

namespace {

base::Result<int> run_server(RoleFlags& flags) {
  TM_CHECK(flags.load());
  if (flags.config.print_wanted()) {
    fmt::print("{}", flags.config.schema.dump());
    return exit_success;
  }
  Interrupt interrupt(role_signals);
  TM_TRY(const auto server, flags.config.placed(serve::Server::start(flags.server)));
  TM_TRY(const bool ready, load_served_model(flags.server, interrupt, *server));
  if (!ready) return exit_success;
  if (!interrupt.raised()) print_model_welcome(server->url(), *server);
  while (!interrupt.raised())
    interrupt.wait();
  base::log::info("stopping: running requests have {} to finish; a second signal ends them now",
                  base::format_duration(flags.server.drain_timeout));
  const Insistence insistence(interrupt, [&] { server->hurry(); });
  return exit_of_stop(server->stop(flags.server.drain_timeout), interrupt);
}

}  // namespace

void add_serve(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("serve", "Serve a model over HTTP, with OpenAI's API");
  auto flags = std::make_shared<RoleFlags>();
  serve::register_options(flags->config.schema, flags->server);
  gateway::register_options(flags->config.schema, flags->gateway);
  flags->config.attach(*command, {"server", "model", "engine", "session", "observe", "log"}, "model.path");
  command->footer(
      "Every option is also a key of tidemill.toml (server.port is `port` under [server]) and an environment variable\n"
      "(TIDEMILL_SERVER_PORT). Flags win over the environment, the environment over the file.\n" +
      std::string(signals_in_words));
  command->callback([=, &chosen] { chosen.body = [flags] { return run_server(*flags); }; });
}

}  // namespace tidemill::cli
