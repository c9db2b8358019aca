#include <string>
#include <utility>

#include <fmt/core.h>

#include "base/log.hpp"
#include "base/units.hpp"
#include "cli/command.hpp"
#include "cli/interrupt.hpp"
#include "cli/roles.hpp"

namespace tidemill::cli {

namespace {

// A gateway's own server, beside those that the configuration names.
gateway::BackendOptions own_backend(const serve::Server& server) {
  gateway::BackendOptions backend;
  backend.url = server.url();
  backend.name = "local";
  return backend;
}

// What is for a server that clients reach without a gateway.
base::Result<void> check_server_flags(const serve::ServeOptions& server) {
  if (!server.api_keys.empty()) {
    return base::Error(base::ErrorCode::invalid_argument,
                       "server.api_key guards a server that clients reach without a gateway; here the gateway is the "
                       "door, and takes its keys from gateway.keys (see `tidemill keys --help`)")
        .with_param("server.api_key");
  }
  if (server.mcp) {
    return base::Error(base::ErrorCode::invalid_argument,
                       "server.mcp is for `tidemill serve` alone: the gateway, which is the only door here, does not "
                       "relay /mcp. Leave the option out, or run `tidemill serve --mcp`")
        .with_param("server.mcp");
  }
  return {};
}

base::Result<int> run_both(RoleFlags& flags) {
  TM_CHECK(flags.load());
  if (flags.config.print_wanted()) {
    fmt::print("{}", flags.config.schema.dump());
    return exit_success;
  }
  TM_CHECK(check_server_flags(flags.server));
  flags.of_own_server = settings_of_server(flags.config.schema);
  Interrupt interrupt(role_signals);
  const Hangup hangup(interrupt);
  // The gateway is the only door: the server behind it is on this machine's own address, at any free port, and keeps no
  // conversations, since the gateway does.
  serve::ServeOptions behind = flags.server;
  behind.host = "127.0.0.1";
  behind.port = 0;
  behind.session_store = ":memory:";
  behind.cors_origins.clear();
  TM_TRY(const auto server, flags.config.placed(serve::Server::start(behind)));
  flags.own_backends.push_back(own_backend(*server));
  TM_TRY(const auto gateway,
         flags.config.placed(gateway::Gateway::start(flags.gateway_options(), base::SystemClock::instance(), {},
                                                     {.metrics = &server->metrics(), .tracer = &server->tracer()})));
  TM_TRY(const bool ready, load_served_model(behind, interrupt, *server));
  if (!ready) return exit_success;
  gateway->look();
  if (!interrupt.raised()) print_model_welcome(gateway->url(), *server);
  run_until_interrupted(interrupt, hangup, flags, *gateway);
  const base::Duration limit = flags.gateway.drain_timeout;
  base::log::info("stopping: running requests have {} to finish; a second signal ends them now",
                  base::format_duration(limit));
  const Insistence insistence(interrupt, [&] {
    gateway->hurry();
    server->hurry();
  });
  bool orderly = gateway->stop(limit);
  orderly = server->stop(orderly ? limit : base::Duration(0)) && orderly;
  return exit_of_stop(orderly, interrupt);
}

}  // namespace

void add_up(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("up", "Serve a model behind a gateway, in one program, for a single machine");
  auto flags = std::make_shared<RoleFlags>();
  gateway::register_options(flags->config.schema, flags->gateway);
  serve::register_options(flags->config.schema, flags->server);
  flags->config.attach(*command, {"gateway", "server", "model", "engine", "session", "observe", "log"}, "model.path");
  command->footer(
      "The options are those of `tidemill gateway` and of `tidemill serve`. Clients connect to gateway.host and\n"
      "gateway.port; server.host and server.port do not count here.\n" +
      std::string(signals_in_words));
  command->callback([=, &chosen] { chosen.body = [flags] { return run_both(*flags); }; });
}

}  // namespace tidemill::cli
