#include "gateway/gateway_options.hpp"

#include <gtest/gtest.h>

#include "gateway/roster.hpp"

namespace tidemill::gateway {
namespace {

base::Result<std::vector<BackendOptions>> backends_of(const BackendOptions& backend) {
  GatewayOptions options;
  options.backends = {backend};
  return all_backends(options);
}

// OpenAI's clients are told of a server with "/v1" at the end; requests bring it.
TEST(GatewayOptions, AnOpenAiBaseUrlIsAServersUrl) {
  for (const auto& [given, taken] :
       {std::pair("http://h:8000", "http://h:8000"), std::pair("http://h:8000/", "http://h:8000"),
        std::pair("http://h:8000/v1", "http://h:8000"), std::pair("http://h:8000/v1//", "http://h:8000"),
        std::pair("http://h/openai/v1/", "http://h/openai"), std::pair("http://h/v1/v1", "http://h/v1"),
        std::pair("http://v1", "http://v1"), std::pair("https://[::1]/dev1", "https://[::1]/dev1")}) {
    const auto backends = backends_of({.url = given});
    ASSERT_TRUE(backends) << backends.error().to_string();
    EXPECT_EQ(backends->front().url, taken) << given;
  }
}

TEST(GatewayOptions, WhatCannotBeABackendIsRefused) {
  const auto param_of = [](const BackendOptions& backend) {
    const auto backends = backends_of(backend);
    EXPECT_FALSE(backends) << backend.url;
    return backends ? "" : backends.error().param();
  };
  for (const char* url : {"http://h/?key=x", "http://h?x", "http://h/#x", "http://h/a/../b", "http://h/a//b", "h:8000"})
    EXPECT_EQ(param_of({.url = url}), "gateway.backend.url") << url;
  for (const char* name : {"a\nb", "a\r", "\x1b[31m", "a\x7f"})
    EXPECT_EQ(param_of({.url = "http://h", .name = name}), "gateway.backend.name");
  for (const std::string& key : {std::string("sk-x\n"), std::string("sk\r\nX-Admin: 1"), std::string("sk\0x", 4)}) {
    const auto backends = backends_of({.url = "http://h", .api_key = key});
    ASSERT_FALSE(backends);
    EXPECT_EQ(backends.error().param(), "gateway.backend.api_key");
    EXPECT_EQ(backends.error().to_string().find("sk"), std::string::npos) << "it is secret";
  }
  EXPECT_EQ(backends_of({.url = "http://user:hush@h"}).error().to_string().find("hush"), std::string::npos);
}

TEST(GatewayOptions, WhereABackendTellsThatItIsReadyIsAPath) {
  for (const char* good : {"", "none", "/health", "/api/health?probe=1"})
    EXPECT_TRUE(backends_of({.url = "http://h", .ready_path = good})) << good;
  for (const char* bad : {"health", "/a//b", "/a b", "/x#y", "http://h/health", "None"}) {
    const auto backends = backends_of({.url = "http://h", .ready_path = bad});
    ASSERT_FALSE(backends) << bad;
    EXPECT_EQ(backends.error().param(), "gateway.backend.ready_path");
  }
  GatewayOptions options;
  options.discover.push_back({.dns = "models.example:8000", .ready_path = "health"});
  const auto sources = all_sources(options);
  ASSERT_FALSE(sources);
  EXPECT_EQ(sources.error().param(), "gateway.discover.ready_path");
}

TEST(GatewayOptions, AKeyForFoundBackendsIsCheckedToo) {
  GatewayOptions options;
  options.discover.push_back({.dns = "models.example:8000", .api_key = "sk\n"});
  const auto sources = all_sources(options);
  ASSERT_FALSE(sources);
  EXPECT_EQ(sources.error().param(), "gateway.discover.api_key");
}

}  // namespace
}  // namespace tidemill::gateway
