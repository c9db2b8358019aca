#include <string>

#include <fmt/core.h>

#include "base/log.hpp"
#include "base/units.hpp"
#include "base/version.hpp"
#include "cli/command.hpp"
#include "cli/interrupt.hpp"
#include "cli/roles.hpp"

namespace tidemill::cli {

namespace {

void print_welcome(const gateway::Gateway& gateway, const gateway::GatewayOptions& options) {
  const size_t backends = options.backends.size() + options.backend_urls.size();
  fmt::print("Tidemill {} gateway at {} before {} backend{}{}\n", base::version(), gateway.url(), backends,
             backends == 1 ? "" : "s", options.discover.empty() ? "" : " and those that it finds");
  fmt::print("\nTry it (Ctrl-C stops it, SIGHUP reads the configuration again):\n\n  {} {}/backends\n\n",
             curl_for(gateway.url()), gateway.url());
  std::fflush(stdout);
}

base::Result<int> run_gateway(RoleFlags& flags) {
  TM_CHECK(flags.load());
  if (flags.config.print_wanted()) {
    fmt::print("{}", flags.config.schema.dump());
    return exit_success;
  }
  Interrupt interrupt(role_signals);
  const Hangup hangup(interrupt);
  TM_TRY(const auto gateway, flags.config.placed(gateway::Gateway::start(flags.gateway)));
  print_welcome(*gateway, flags.gateway);
  run_until_interrupted(interrupt, hangup, flags, *gateway);
  base::log::info("stopping: running requests have {} to finish; a second signal ends them now",
                  base::format_duration(flags.gateway.drain_timeout));
  const Insistence insistence(interrupt, [&] { gateway->hurry(); });
  return exit_of_stop(gateway->stop(flags.gateway.drain_timeout), interrupt);
}

}  // namespace

void add_gateway(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("gateway", "Stand before model servers: route, retry, and resume their streams");
  auto flags = std::make_shared<RoleFlags>();
  gateway::register_options(flags->config.schema, flags->gateway);
  serve::register_options(flags->config.schema, flags->server);
  flags->config.attach(*command, {"gateway", "session", "observe", "log"});
  command->footer(
      "Every option is also a key of tidemill.toml (gateway.port is `port` under [gateway]) and an environment "
      "variable\n"
      "(TIDEMILL_GATEWAY_PORT). Flags win over the environment, the environment over the file. Backends of which "
      "there\n"
      "is more to say than a URL stand in the file, each under [[gateway.backend]], and so do DNS names and services\n"
      "of Kubernetes that have backends, each under [[gateway.discover]], and named routes with their targets, "
      "canaries,\n"
      "mirrors and choices of models, each under [[gateway.route]] (docs/gateway.md).\n" +
      std::string(signals_in_words));
  command->callback([=, &chosen] { chosen.body = [flags] { return run_gateway(*flags); }; });
}

}  // namespace tidemill::cli
