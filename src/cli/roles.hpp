// What the subcommands that run a role have in common.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/log.hpp"
#include "base/result.hpp"
#include "cli/config_flags.hpp"
#include "cli/interrupt.hpp"
#include "gateway/gateway.hpp"
#include "serve/server.hpp"

namespace tidemill::cli {

// The options of all roles, which one file may hold.
struct RoleFlags {
  gateway::GatewayOptions gateway;
  serve::ServeOptions server;
  ConfigFlags config;
  std::vector<gateway::BackendOptions> own_backends;  // beside those of the configuration
  // settings_of_server(), with which a server runs beside the gateway; empty: none does.
  std::map<std::string, std::string> of_own_server;

  // Loads all sources, sets the log's level, and gives the gateway what the sections [session] and [observe] say.
  base::Result<void> load();
  // The same without setting the level, which it returns.
  base::Result<base::log::Level> read();
  // The gateway's, with its own backends first.
  gateway::GatewayOptions gateway_options() const;
};

// What the sections of a server and its model say that counts also behind a gateway, by key.
std::map<std::string, std::string> settings_of_server(const base::ConfigSchema& schema);

// Loads the model that the options name into the server, with a bar to watch on a terminal. False: the interrupt was
// raised before there was anything to serve.
base::Result<bool> load_served_model(const serve::ServeOptions& options, const Interrupt& interrupt,
                                     serve::Server& server);

// How a person asks `url` on this machine, where a certificate seldom names the address.
const char* curl_for(const std::string& url);

// What a person wants to see once a model is served at `url`, ending in a line to paste.
void print_model_welcome(const std::string& url, serve::Server& server);

// Returns when the interrupt is raised. Until then each SIGHUP has the gateway's configuration read again; a broken
// file does not end what runs: it is told, and everything stays as it was. So is what a server beside the gateway will
// hear of at its next start only.
void run_until_interrupted(Interrupt& interrupt, const Hangup& hangup, RoleFlags& flags, gateway::Gateway& gateway);

// For the help of a role.
constexpr std::string_view signals_in_words =
    "SIGTERM and Ctrl-C drain: new requests are refused, and what runs has drain_timeout to finish; the exit code\n"
    "is 0. A second signal ends at once what still runs, each stream with an error event; the exit code is then\n"
    "130, if that cut a request. A third kills.";

// The interrupt of a role: it takes two signals, of which the second has Insistence end the drain.
constexpr int role_signals = 2;

// While one exists, a second signal (also one that has come already) calls `hurry`, on a thread of its own, once.
class Insistence {
 public:
  Insistence(Interrupt& interrupt, std::function<void()> hurry);
  ~Insistence();
  Insistence(const Insistence&) = delete;
  Insistence& operator=(const Insistence&) = delete;

 private:
  Interrupt& interrupt_;
  std::atomic<bool> over_{false};
  std::thread watch_;
};

// What a role's command returns when it has stopped: exit_interrupted where a second signal cut requests.
int exit_of_stop(bool orderly, const Interrupt& interrupt);

}  // namespace tidemill::cli
