#include "base/config.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "temporary_folder.hpp"

namespace tidemill::base {
namespace {

using namespace std::chrono_literals;

struct Options {
  int port = 8080;
  std::string host = "127.0.0.1";
  std::string level = "info";
  std::vector<std::string> origins;
  bool metrics = true;
  double share = 0.5;
  Duration drain = 30s;
  ByteSize body{1 << 20};
  int64_t seed = 0;
  std::string key = "default-secret";
  std::vector<std::string> passwords;
};

class Config : public ::testing::Test {
 protected:
  Config() {
    schema.add("seed", &options.seed, "seed");
    schema.add("server.port", &options.port, "port").between(1, 65535).alias("--port").alias("-p");
    schema.add("server.host", &options.host, "host");
    schema.add("server.max_body", &options.body, "largest body").between(ByteSize{1}, ByteSize{1 << 30});
    schema.add("server.drain", &options.drain, "drain").between(0s, 600s);
    schema.add("server.origins", &options.origins, "origins");
    schema.add("server.api_key", &options.key, "key").secret();
    schema.add("server.passwords", &options.passwords, "passwords").secret();
    schema.add("log.level", &options.level, "level").words({"debug", "info", "warn"});
    schema.add("observe.metrics", &options.metrics, "metrics");
    schema.add("engine.share", &options.share, "share").between(0.0, 1.0);
    schema.ignore_variable("TIDEMILL_CONFIG");
  }

  // The message of the error that a file of this content gives, or "" if it loads.
  std::string file_error(const std::string& content) {
    const auto loaded = schema.load({.file = folder.put("tidemill.toml", content), .environment = {}, .flags = {}});
    if (loaded) return "";
    const std::string& message = loaded.error().message();
    EXPECT_TRUE(message.starts_with(folder.path().string())) << message;
    return message.substr(std::min(message.size(), folder.path().string().size() + 1));
  }
  std::string variable_error(const std::string& name, const std::string& value) {
    const auto loaded = schema.load({.file = {}, .environment = {{name, value}}, .flags = {}});
    return loaded ? "" : loaded.error().message();
  }
  std::string flag_error(const std::string& name, std::optional<std::string> value) {
    const auto loaded = schema.load({.file = {}, .environment = {}, .flags = {{name, std::move(value)}}});
    return loaded ? "" : loaded.error().message();
  }

  test::TemporaryFolder folder;
  Options options;
  ConfigSchema schema;
};

TEST_F(Config, LaterSourcesWin) {
  const auto file = folder.put("tidemill.toml", "seed = 1\n[server]\nport = 1001\nhost = 'file'\nmax_body = '2MiB'\n");
  ASSERT_TRUE(schema.load({.file = file,
                           .environment = {{"TIDEMILL_SERVER_PORT", "1002"},
                                           {"TIDEMILL_SERVER_HOST", "variable"},
                                           {"TIDEMILL_CONFIG", "anything"},
                                           {"PATH", "/bin"}},
                           .flags = {{"-p", "1003"}}}));
  EXPECT_EQ(options.seed, 1);
  EXPECT_EQ(options.host, "variable");
  EXPECT_EQ(options.port, 1003);
  EXPECT_EQ(options.body.bytes, 2 << 20);
  EXPECT_EQ(options.drain, 30s);
  EXPECT_EQ(schema.source("seed"), file.string() + ":1");
  EXPECT_EQ(schema.source("server.host"), "TIDEMILL_SERVER_HOST");
  EXPECT_EQ(schema.source("server.port"), "-p");
  EXPECT_EQ(schema.source("server.drain"), "default");
  EXPECT_EQ(schema.source("no.such"), "");
}

TEST_F(Config, EveryTypeFromEverySource) {
  EXPECT_EQ(file_error("[server]\ndrain='1500ms'\norigins=['a','b,c']\nmax_body=77\n[observe]\nmetrics=false\n"
                       "[engine]\nshare=1\n[log]\nlevel='warn'\n"),
            "");
  EXPECT_EQ(options.drain, 1500ms);
  EXPECT_EQ(options.origins, (std::vector<std::string>{"a", "b,c"}));
  EXPECT_EQ(options.body.bytes, 77);
  EXPECT_FALSE(options.metrics);
  EXPECT_EQ(options.share, 1.0);
  ASSERT_TRUE(schema.load({.file = {},
                           .environment = {{"TIDEMILL_SERVER_ORIGINS", "x, y"}, {"TIDEMILL_ENGINE_SHARE", "0.25"}},
                           .flags = {{"--observe.metrics", {}}, {"--server.max-body", "1KiB"}, {"--seed", "-9"}}}));
  EXPECT_EQ(options.origins, (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(options.share, 0.25);
  EXPECT_TRUE(options.metrics);
  EXPECT_EQ(options.body.bytes, 1024);
  EXPECT_EQ(options.seed, -9);
  EXPECT_EQ(options.level, "info");  // each load starts from the defaults
}

TEST_F(Config, RepeatedFlagsJoinListsAndReplaceTheRest) {
  ASSERT_TRUE(
      schema.load({.file = {},
                   .environment = {{"TIDEMILL_SERVER_ORIGINS", "gone"}},
                   .flags = {{"--server.origins", "a,b"}, {"--port", "1"}, {"--server.origins", "c"}, {"-p", "2"}}}));
  EXPECT_EQ(options.origins, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(options.port, 2);
}

// A variable that was to hold a secret and does not must not open a door.
TEST_F(Config, NothingIsNoSecret) {
  const std::string wanted = ", but must be a list of strings that are not empty";
  EXPECT_EQ(variable_error("TIDEMILL_SERVER_PASSWORDS", ""),
            "TIDEMILL_SERVER_PASSWORDS: server.passwords is \"\"" + wanted);
  EXPECT_EQ(flag_error("--server.passwords", ","),
            "--server.passwords: server.passwords is a value that is not shown" + wanted);
  EXPECT_EQ(file_error("[server]\npasswords = ['real', '']\n"),
            "tidemill.toml:2: server.passwords is a value that is not shown" + wanted);
  EXPECT_EQ(file_error("[server]\norigins = ['']\n"), "tidemill.toml:2: server.origins is [\"\"]" + wanted);
  EXPECT_EQ(file_error("[server]\npasswords = []\n"), "");
  EXPECT_EQ(variable_error("TIDEMILL_SERVER_ORIGINS", ""), "");
}

TEST_F(Config, UnknownNamesGetTheNearestKnownOne) {
  EXPECT_EQ(file_error("seed = 1\n[server]\nprot = 1\n"),
            "tidemill.toml:3: unknown key 'server.prot'; the nearest known one is 'server.port'");
  EXPECT_EQ(file_error("[sever]\nport = 1\n"),
            "tidemill.toml:2: unknown key 'sever.port'; the nearest known one is 'server.port'");
  EXPECT_NE(file_error("[logs]\n").find("unknown key 'logs'"), std::string::npos);
  EXPECT_NE(file_error("[[server]]\nport=1\n").find("unknown key 'server'"), std::string::npos);
  EXPECT_NE(file_error("server = 5\n").find("unknown key 'server'"), std::string::npos);
  EXPECT_EQ(file_error("[server]\n"), "");
  EXPECT_EQ(variable_error("TIDEMILL_SERVER_PROT", "1"),
            "environment: unknown variable 'TIDEMILL_SERVER_PROT'; the nearest known one is 'TIDEMILL_SERVER_PORT'");
  EXPECT_EQ(flag_error("--prot", "1"), "command line: unknown flag '--prot'; the nearest known one is '--port'");
}

// As kubelet writes them for the Services "tidemill", "tidemill-server" and "tidemill-log-level", of IPv4 and IPv6.
TEST_F(Config, WhatKubernetesWritesForServicesIsPassedOver) {
  const std::vector<std::pair<std::string, std::string>> pod = {
      {"TIDEMILL_SERVICE_HOST", "10.96.7.1"},
      {"TIDEMILL_SERVICE_PORT", "8080"},
      {"TIDEMILL_SERVICE_PORT_HTTP", "8080"},
      {"TIDEMILL_PORT", "tcp://10.96.7.1:8080"},
      {"TIDEMILL_PORT_8080_TCP", "tcp://10.96.7.1:8080"},
      {"TIDEMILL_PORT_8080_TCP_PROTO", "tcp"},
      {"TIDEMILL_PORT_8080_TCP_PORT", "8080"},
      {"TIDEMILL_PORT_8080_TCP_ADDR", "10.96.7.1"},
      {"TIDEMILL_SERVER_SERVICE_HOST", "fd00:10:96::7"},
      {"TIDEMILL_SERVER_SERVICE_PORT", "8080"},
      {"TIDEMILL_SERVER_SERVICE_PORT_OTHER_PORT", "9090"},
      {"TIDEMILL_SERVER_PORT", "tcp://[fd00:10:96::7]:8080"},
      {"TIDEMILL_SERVER_PORT_9090_UDP", "udp://[fd00:10:96::7]:9090"},
      {"TIDEMILL_SERVER_PORT_9090_UDP_PROTO", "udp"},
      {"TIDEMILL_SERVER_PORT_9090_UDP_PORT", "9090"},
      {"TIDEMILL_SERVER_PORT_9090_UDP_ADDR", "fd00:10:96::7"},
      {"TIDEMILL_LOG_LEVEL_SERVICE_HOST", "10.96.7.2"},
      {"TIDEMILL_LOG_LEVEL_PORT_80_SCTP", "sctp://10.96.7.2:80"},
  };
  const auto loaded = schema.load({.file = {}, .environment = pod, .flags = {}});
  ASSERT_TRUE(loaded) << loaded.error().to_string();
  EXPECT_EQ(options.port, 8080);
  EXPECT_EQ(schema.source("server.port"), "default");
  EXPECT_EQ(options.level, "info");
}

TEST_F(Config, WhatOnlyLooksLikeKubernetesIsAnError) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"TIDEMILL_SERVICE_PORT", "8080"},  // without the host that kubelet writes beside it
      {"TIDEMILL_SERVICE_HOST", "localhost"},
      {"TIDEMILL_SERVR_PORT", "8080"},
      {"TIDEMILL_SERVER_PORT", "tcp://10.0.0.1"},
      {"TIDEMILL_SERVER_PORT", "http://10.0.0.1:80"},
      {"TIDEMILL_SERVER_PORT", "tcp://tidemill:80"},
      {"TIDEMILL_SERVER_HOSTS", "tcp://10.0.0.1:80"},
      {"TIDEMILL_PORT_80_HTTP", "tcp://10.0.0.1:80"},
      {"TIDEMILL_PORT_80_TCP_PORT", "81"},
      {"TIDEMILL_PORT_80_TCP_PROTO", "udp"},
      {"TIDEMILL_PORT_80_TCP_NAME", "10.0.0.1"},
      {"TIDEMILL_PORT_0_TCP", "tcp://10.0.0.1:80"},
  };
  for (const auto& [name, value] : wrong)
    EXPECT_NE(variable_error(name, value), "") << name << "=" << value;
  // Of another Service.
  const auto loaded =
      schema.load({.file = {},
                   .environment = {{"TIDEMILL_A_SERVICE_HOST", "10.0.0.1"}, {"TIDEMILL_B_SERVICE_PORT", "80"}},
                   .flags = {}});
  EXPECT_FALSE(loaded);
}

TEST_F(Config, ErrorsNameSourceKeyFoundAndRight) {
  EXPECT_EQ(file_error("[server]\nport = 99999\n"),
            "tidemill.toml:2: server.port is 99999, but must be an integer from 1 to 65535");
  EXPECT_EQ(file_error("[server]\nport = '80'\n"),
            "tidemill.toml:2: server.port is the string \"80\", but must be an integer from 1 to 65535");
  EXPECT_EQ(variable_error("TIDEMILL_SERVER_PORT", "80x"),
            "TIDEMILL_SERVER_PORT: server.port is \"80x\", but must be an integer from 1 to 65535");
  EXPECT_EQ(flag_error("--log.level", "loud"),
            "--log.level: log.level is \"loud\", but must be one of: debug, info, warn");
  EXPECT_EQ(
      flag_error("--server.drain", "11m"),
      "--server.drain: server.drain is \"11m\", but must be a duration with its unit, as in \"250ms\", \"30s\" or "
      "\"5m\" from 0 to 10m");
  EXPECT_NE(flag_error("--port", {}).find("server.port is missing"), std::string::npos);
  EXPECT_NE(file_error("port = \n").find("tidemill.toml:1:"), std::string::npos);
  for (const char* bad : {"seed=1.5", "seed=true", "engine.share=nan", "engine.share=1.5", "server.drain=30",
                          "server.origins='a'", "server.origins=[1]", "server.max_body=-1", "server.port={x=1}",
                          "observe.metrics=1", "seed=1979-05-27", "server.host=1", "server.max_body='2GiB'"}) {
    EXPECT_NE(file_error(bad).find(", but must be "), std::string::npos) << bad;
  }
  for (const char* bad : {"", " 1", "9223372036854775808", "0x1", "1.0"}) {
    EXPECT_NE(variable_error("TIDEMILL_SEED", bad), "") << bad;
  }
}

TEST_F(Config, AnErrorLeavesTheFieldsAlone) {
  const auto file = folder.put("tidemill.toml", "seed = 5\n[server]\nport = 0\n");
  // Wrong in the file, though the flag would have overridden it.
  const auto loaded = schema.load({.file = file, .environment = {}, .flags = {{"--port", "80"}}});
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().param(), "server.port");
  EXPECT_EQ(options.seed, 0);
  EXPECT_EQ(options.port, 8080);
  EXPECT_EQ(schema.load({.file = folder.path() / "absent.toml", .environment = {}, .flags = {}}).error().code(),
            ErrorCode::not_found);
}

TEST_F(Config, DumpLoadsBackAndHidesSecrets) {
  ASSERT_TRUE(schema.load({.file = {},
                           .environment = {{"TIDEMILL_SERVER_API_KEY", "hunter2"}, {"TIDEMILL_ENGINE_SHARE", "1"}},
                           .flags = {{"--server.host", "a\"b\\c\n\x7f\xc3\xa9"},
                                     {"--server.origins", "x,y"},
                                     {"--server.max-body", "1536"},
                                     {"--seed", "42"}}}));
  const std::string text = schema.dump();
  EXPECT_EQ(text.find("hunter2"), std::string::npos);
  EXPECT_TRUE(text.starts_with("seed = 42  # --seed\n\n[server]\nport = 8080  # default\n")) << text;
  Options before = options;
  EXPECT_EQ(file_error(text), "") << text;
  EXPECT_EQ(options.host, before.host);
  EXPECT_EQ(options.origins, before.origins);
  EXPECT_EQ(options.body, before.body);
  EXPECT_EQ(options.share, 1.0);
  EXPECT_EQ(options.seed, 42);
}

TEST_F(Config, OptionsListThemselvesForHelp) {
  const ConfigOption& port = schema.options()[1];
  EXPECT_EQ(port.flags(), (std::vector<std::string>{"--server.port", "--port", "-p"}));
  EXPECT_EQ(port.variable(), "TIDEMILL_SERVER_PORT");
  EXPECT_EQ(port.default_text(), "8080");
  EXPECT_EQ(port.requirement(), "an integer from 1 to 65535");
  EXPECT_FALSE(port.is_switch());
}

struct Peer {
  std::string url;
  int weight = 1;
  std::vector<std::string> models;
  std::string key = "none";
};

void describe_peer(ConfigSchema& schema, Peer& peer) {
  schema.add("peer.url", &peer.url, "where").required();
  schema.add("peer.weight", &peer.weight, "share").between(1, 100);
  schema.add("peer.models", &peer.models, "what it serves");
  schema.add("peer.key", &peer.key, "key").secret();
}

TEST_F(Config, RowsComeFromArraysOfTables) {
  std::vector<Peer> peers;
  schema.add_rows("peer", &peers, describe_peer);
  EXPECT_EQ(file_error("[[peer]]\nurl='a'\n[[peer]]\nurl='b'\nweight=7\nmodels=['m','n']\nkey='hunter2'\n"), "");
  ASSERT_EQ(peers.size(), 2U);
  EXPECT_EQ(peers[0].url, "a");
  EXPECT_EQ(peers[0].weight, 1);
  EXPECT_EQ(peers[1].weight, 7);
  EXPECT_EQ(peers[1].models, (std::vector<std::string>{"m", "n"}));
  const std::string text = schema.dump();
  EXPECT_EQ(text.find("hunter2"), std::string::npos);
  EXPECT_NE(text.find("\n[[peer]]\nurl = \"a\"\nweight = 1\nmodels = []\n# key is secret\n"), std::string::npos)
      << text;
  EXPECT_EQ(file_error(text), "");
  ASSERT_EQ(peers.size(), 2U);
  EXPECT_EQ(peers[1].url, "b");
  EXPECT_EQ(file_error("seed = 1\n"), "");
  EXPECT_TRUE(peers.empty());
}

struct Trial {
  std::string whom;
  int times = 1;
};

void describe_trial(ConfigSchema& schema, Trial& trial) {
  schema.add("lab.trial.whom", &trial.whom, "whom").required_in_table();
  schema.add("lab.trial.times", &trial.times, "how often");
}

TEST_F(Config, ATableWantsWhatItIsAbout) {
  std::vector<Trial> trials;
  schema.add_rows("lab", &trials, describe_trial);
  EXPECT_EQ(file_error("[[lab]]\n[lab.trial]\nwhom='a'\n[[lab]]\n"), "");
  EXPECT_EQ(trials.size(), 2U);
  const std::string missing =
      ": lab.trial.whom is missing, without which its table counts for nothing, but must be a string";
  EXPECT_EQ(file_error("[[lab]]\n[lab.trial]\ntimes=1\n"), "tidemill.toml:2" + missing);
  EXPECT_EQ(file_error("[[lab]]\n[lab.trial]\nwhom='a'\n[[lab]]\n[lab.trial]\n"), "tidemill.toml:5" + missing);
  EXPECT_EQ(file_error("[[lab]]\ntrial.times=2\n"), "tidemill.toml:2" + missing);
}

struct Street {
  std::string name;
  double width = 1;
  std::vector<Peer> houses;
};

void describe_house(ConfigSchema& schema, Peer& house) {
  schema.add("street.house.url", &house.url, "where").required();
  schema.add("street.house.weight", &house.weight, "share").between(1, 100);
}

void describe_street(ConfigSchema& schema, Street& street) {
  schema.add("street.name", &street.name, "its name").required();
  schema.add("street.paving.width", &street.width, "in metres");
  schema.add_rows("street.house", &street.houses, describe_house);
}

TEST_F(Config, RowsMayHaveRows) {
  std::vector<Street> streets;
  schema.add_rows("street", &streets, describe_street);
  ASSERT_EQ(file_error("[[street]]\nname='a'\n[street.paving]\nwidth=2.5\n[[street.house]]\nurl='1'\n"
                       "[[street.house]]\nurl='2'\nweight=7\n[[street]]\nname='b'\n"),
            "");
  const auto check = [&] {
    ASSERT_EQ(streets.size(), 2U);
    EXPECT_EQ(streets[0].width, 2.5);
    ASSERT_EQ(streets[0].houses.size(), 2U);
    EXPECT_EQ(streets[0].houses[0].url, "1");
    EXPECT_EQ(streets[0].houses[1].weight, 7);
    EXPECT_EQ(streets[1].name, "b");
    EXPECT_TRUE(streets[1].houses.empty());
  };
  check();
  const std::string text = schema.dump();
  EXPECT_EQ(file_error(text), "") << text;
  check();
  EXPECT_EQ(file_error("[[street]]\nname='a'\n[[street.house]]\nweight=1\n"),
            "tidemill.toml:3: street.house.url is missing, but must be a string");
  EXPECT_EQ(file_error("[[street]]\nname='a'\n[[street.hose]]\nurl='1'\n"),
            "tidemill.toml:3: unknown key 'street.hose'; the nearest known one is 'street.house'");
  check();  // an error changes nothing
}

TEST_F(Config, RowsAreCheckedLikeTheRest) {
  std::vector<Peer> peers;
  schema.add_rows("peer", &peers, describe_peer);
  ASSERT_EQ(file_error("[[peer]]\nurl='kept'\n"), "");
  EXPECT_EQ(file_error("[[peer]]\nurl='a'\n\n[[peer]]\nweight=2\n"),
            "tidemill.toml:4: peer.url is missing, but must be a string");
  EXPECT_EQ(file_error("[[peer]]\nurl='a'\nwieght=2\n"),
            "tidemill.toml:3: unknown key 'peer.wieght'; the nearest known one is 'peer.weight'");
  EXPECT_EQ(file_error("[[peer]]\nurl='a'\nweight=0\n"),
            "tidemill.toml:3: peer.weight is 0, but must be an integer from 1 to 100");
  EXPECT_EQ(file_error("[peer]\nurl='a'\n"),
            "tidemill.toml:1: peer is a table, but must be tables, each under [[peer]]");
  EXPECT_EQ(file_error("peer = ['a']\n"), "tidemill.toml:1: peer is an array, but must be tables, each under [[peer]]");
  EXPECT_EQ(file_error("[[pear]]\nurl='a'\n"), "tidemill.toml:1: unknown key 'pear'; the nearest known one is 'peer'");
  ASSERT_EQ(peers.size(), 1U);  // an error changes nothing
  EXPECT_EQ(peers[0].url, "kept");
}

}  // namespace
}  // namespace tidemill::base
