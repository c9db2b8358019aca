// Where an error of the configuration is found that only its use has shown.
#include "cli/config_flags.hpp"

#include <string>

#include <gtest/gtest.h>

#include "cli/roles.hpp"
#include "temporary_folder.hpp"

namespace tidemill::cli {
namespace {

// The options of all roles, and a command line of `tidemill gateway`.
class Configured {
 public:
  explicit Configured(const std::string& command_line) {
    gateway::register_options(flags_.config.schema, flags_.gateway);
    serve::register_options(flags_.config.schema, flags_.server);
    flags_.config.attach(app_, {"gateway", "session", "observe", "log"});
    app_.parse(command_line);
    const auto loaded = flags_.config.load();
    EXPECT_TRUE(loaded) << loaded.error().to_string();
  }
  RoleFlags& flags() { return flags_; }
  // Of starting a gateway, which must fail.
  std::string error() {
    const auto started = flags_.config.placed(gateway::Gateway::start(flags_.gateway_options()));
    EXPECT_FALSE(started);
    return started ? "" : started.error().to_string();
  }

 private:
  RoleFlags flags_;
  CLI::App app_;
};

TEST(ConfigFlags, ErrorsOfSettingsSayWhereTheyStand) {
  const test::TemporaryFolder folder;
  const auto error_of = [&](const std::string& text, const std::string& more = "") {
    const std::string file = folder.put("tidemill.toml", "[gateway]\nport = 0\n" + text).string();
    const std::string error = Configured("--config " + file + more).error();
    return error.starts_with(file) ? error.substr(file.size()) : error;
  };
  const auto begins = [](const std::string& error, const std::string& beginning) {
    EXPECT_TRUE(error.starts_with(beginning)) << error;
  };
  begins(error_of("host = 'nonsense host'\n"), ":3: gateway.host: 'nonsense host' is not an IP address");
  begins(error_of("access_log = '/nonexistent/x'\n"), ":3: gateway.access_log: cannot open the access log");
  begins(error_of("policy = '/nonexistent'\n"), ":3: gateway.policy: the policy: cannot open");
  begins(error_of("cors_origins = ['nonsense']\n"), ":3: gateway.cors_origins: 'nonsense' is no web origin");
  begins(error_of("[[gateway.backend]]\nurl = 'x'\n"), ": gateway.backend.url: 'x' is not a URL");
  const std::string twice = "[[gateway.backend]]\nurl = 'http://h'\nname = 'a'\n";
  begins(error_of(twice + twice), ": gateway.backend.name: two backends are named 'a'");
  begins(error_of("", " --backend x"), "--gateway.backends: gateway.backends: 'x' is not a URL");
}

// For whoever reloads: what a server beside the gateway was started with.
TEST(ConfigFlags, SettingsOfAServerTellWhatHasChanged) {
  const test::TemporaryFolder folder;
  const auto settings = [&](const std::string& text) {
    const std::string file = folder.put("tidemill.toml", text).string();
    return settings_of_server(Configured("--config " + file).flags().config.schema);
  };
  const auto before = settings("");
  EXPECT_EQ(before.count("engine.max_running"), 1U);
  EXPECT_EQ(before.count("server.port"), 0U) << "which does not count behind a gateway";
  EXPECT_EQ(before.count("gateway.port"), 0U);
  EXPECT_EQ(settings("[gateway]\nport = 1\n[server]\nport = 1\n"), before);
  const auto after = settings("[engine]\nmax_running = 3\n[model]\nname = 'x'\n");
  std::vector<std::string> changed;
  for (const auto& [key, value] : after)
    if (before.at(key) != value) changed.push_back(key);
  EXPECT_EQ(changed, (std::vector<std::string>{"engine.max_running", "model.name"}));
}

}  // namespace
}  // namespace tidemill::cli
