#include "cli/roles.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "base/log.hpp"
#include "base/memory.hpp"
#include "base/progress.hpp"
#include "base/units.hpp"
#include "base/version.hpp"
#include "cli/command.hpp"
#include "cli/model_source.hpp"

namespace tidemill::cli {

base::Result<void> RoleFlags::load() {
  TM_TRY(const base::log::Level level, read());
  base::log::set_level(level);
  return {};
}

base::Result<base::log::Level> RoleFlags::read() {
  TM_CHECK(config.load());
  TM_TRY(const base::log::Level level, base::log::parse_level(server.log_level));
  gateway.session = serve::session_options(server);
  gateway.otlp_endpoint = server.otlp_endpoint;
  gateway.trace_ring = server.trace_ring;
  return level;
}

gateway::GatewayOptions RoleFlags::gateway_options() const {
  gateway::GatewayOptions options = gateway;
  options.backends.insert(options.backends.begin(), own_backends.begin(), own_backends.end());
  return options;
}

std::map<std::string, std::string> settings_of_server(const base::ConfigSchema& schema) {
  // The gateway has its own.
  constexpr std::array<std::string_view, 4> unused = {"server.host", "server.port", "server.cors_origins",
                                                      "server.drain_timeout"};
  std::map<std::string, std::string> settings;
  for (const base::ConfigOption& option : schema.options()) {
    const std::string_view section = std::string_view(option.key()).substr(0, option.key().find('.'));
    const bool counts = section == "server" || section == "model" || section == "engine";
    if (counts && std::ranges::find(unused, option.key()) == unused.end()) settings[option.key()] = option.value_text();
  }
  return settings;
}

base::Result<bool> load_served_model(const serve::ServeOptions& options, const Interrupt& interrupt,
                                     serve::Server& server) {
  const auto interrupted = [&interrupt] { return interrupt.raised(); };
  const auto load = [&]() -> base::Result<void> {
    base::ReportedProgress bar("loading", base::Progress::Unit::bytes, base::Progress::terminal(true));
    serve::ModelOptions source = serve::model_options(options, embedded_model(), std::string(embedded_model_name));
    TM_TRY(source.path, find_model(options.model_path));
    TM_TRY(auto model, serve::LoadedModel::load(source, bar.reporter(), interrupted));
    bar.wipe();
    return server.serve(std::move(model), interrupted);
  };
  auto loaded = load();
  if (loaded) return true;
  if (loaded.error().code() != base::ErrorCode::cancelled) return std::move(loaded).error();
  base::log::info("stopped before the model was there");
  return false;
}

const char* curl_for(const std::string& url) {
  return url.starts_with("https:") ? "curl -sk" : "curl -s";
}

void print_model_welcome(const std::string& url, serve::Server& server) {
  const serve::LoadedModel& model = server.model();
  const model::HyperParameters& shape = model.hyper_parameters();
  fmt::print("Tidemill {} serves {} at {}\n", base::version(), model.name(), url);
  fmt::print("  model    {}, {} layers of width {}, context {} tokens\n", shape.architecture, shape.layers, shape.width,
             server.engine().max_context());
  fmt::print("  compute  {} ({})\n", model.device().description(), model.threads_source());
  fmt::print("  memory   {} resident: {} of weights", base::human_bytes(static_cast<double>(base::resident_bytes())),
             base::human_bytes(static_cast<double>(model.weight_bytes())));
  if (model.generates())
    fmt::print("; KV cache of up to {}", base::human_bytes(static_cast<double>(server.kv_bytes())));
  fmt::print("\n\nTry it (Ctrl-C stops the server):\n\n");
  if (model.ranks()) {
    fmt::print(
        "{} {}/v1/rerank -H 'Content-Type: application/json' -d '{{\"query\": \"Who moves water?\", \"documents\": "
        "[\"The moon does.\", \"Once upon a time\"]}}'\n\n",
        curl_for(url), url);
  } else if (!model.generates()) {
    fmt::print("{} {}/v1/embeddings -H 'Content-Type: application/json' -d '{{\"input\": \"Once upon a time\"}}'\n\n",
               curl_for(url), url);
  } else if (model.chat().available()) {
    fmt::print(
        "{} {}/v1/chat/completions -H 'Content-Type: application/json' -d '{{\"messages\": [{{\"role\": \"user\", "
        "\"content\": \"def fibonacci(n):\"}}], \"max_tokens\": 48, \"temperature\": 0}}'\n\n",
        curl_for(url), url);
  } else {
    fmt::print(
        "{} {}/v1/completions -H 'Content-Type: application/json' -d '{{\"prompt\": \"Once upon a time\", "
        "\"max_tokens\": 48, \"temperature\": 0}}'\n\n",
        curl_for(url), url);
  }
  std::fflush(stdout);
}

namespace {

void warn_of_own_server(const RoleFlags& flags) {
  if (flags.of_own_server.empty()) return;
  std::vector<std::string> changed;
  for (const auto& [key, value] : settings_of_server(flags.config.schema)) {
    const auto before = flags.of_own_server.find(key);
    if (before == flags.of_own_server.end() || before->second != value) changed.push_back(key);
  }
  if (changed.empty()) return;
  base::log::warn("these settings of the server have changed, and count from the next start only: {}",
                  fmt::join(changed, ", "));
}

void reload(RoleFlags& flags, gateway::Gateway& gateway) {
  const gateway::GatewayOptions gateway_before = flags.gateway;
  const serve::ServeOptions server_before = flags.server;
  const auto read_again = [&]() -> base::Result<void> {
    TM_TRY(const base::log::Level level, flags.read());
    TM_CHECK(flags.config.placed(gateway.reload(flags.gateway_options())));
    base::log::set_level(level);
    return {};
  };
  if (const auto done = read_again(); done) {
    warn_of_own_server(flags);
    base::log::info("the configuration was read again");
  } else {
    flags.gateway = gateway_before;
    flags.server = server_before;
    std::string why = done.error().to_string();
    // What is missing stands nowhere.
    const std::string& file = flags.config.loaded_file();
    if (!file.empty() && why.find(file) == std::string::npos) why.insert(0, file + ": ");
    base::log::error("the configuration stays as it was: {}", why);
  }
}

}  // namespace

Insistence::Insistence(Interrupt& interrupt, std::function<void()> hurry)
    : interrupt_(interrupt), watch_([this, hurry = std::move(hurry)] {
        while (!over_ && !interrupt_.insisted())
          interrupt_.wait();
        if (!over_) hurry();
      }) {}

Insistence::~Insistence() {
  over_ = true;
  interrupt_.wake();
  watch_.join();
}

int exit_of_stop(bool orderly, const Interrupt& interrupt) {
  if (orderly) return exit_success;
  const bool hurried = interrupt.insisted();
  base::log::warn("some requests were cut {}", hurried ? "by the second signal" : "at the limit");
  return hurried ? exit_interrupted : exit_success;
}

void run_until_interrupted(Interrupt& interrupt, const Hangup& hangup, RoleFlags& flags, gateway::Gateway& gateway) {
  while (!interrupt.raised()) {
    interrupt.wait();
    if (hangup.take()) reload(flags, gateway);
  }
}

}  // namespace tidemill::cli
