// A gateway before scripted backends, and a client.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "gateway/gateway.hpp"
#include "gateway/scripted_backend.hpp"
#include "wire/http_client.hpp"
#include "wire/sse.hpp"

namespace tidemill::test {

class FleetFixture : public ::testing::Test {
 protected:
  ScriptedBackend& add_backend(ScriptedBackend::Answer answer, std::string models = R"({"data":[{"id":"m"}]})") {
    backends_.push_back(std::make_unique<ScriptedBackend>(std::move(answer), std::move(models)));
    gateway::BackendOptions backend;
    backend.url = backends_.back()->url();
    options.backends.push_back(backend);
    return *backends_.back();
  }

  // Returns when the gateway knows all backends and their models.
  void start(const std::string& key = {}) {
    options.port = 0;
    options.io_threads = 1;
    auto started = gateway::Gateway::start(options);
    ASSERT_TRUE(started) << started.error().to_string();
    gateway = std::move(*started);
    const auto until = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < until) {
      // Where keys are needed and none is given, readiness alone must do.
      if (!options.keys.empty() && key.empty() && get("/ready").status == 200) return;
      const std::string states = get("/backends", key).body;
      size_t ready = 0;
      for (size_t at = 0; (at = states.find("\"ready\":true", at)) != std::string::npos; ++at)
        ++ready;
      if (ready == options.backends.size() && states.find("\"models\":[]") == std::string::npos) return;
    }
    FAIL() << "the backends did not become ready";
  }

  wire::HttpResponse get(const std::string& path, const std::string& key = {}) {
    wire::ClientRequest request;
    if (!key.empty()) request.headers.add("Authorization", "Bearer " + key);
    request.url = gateway->url() + path;
    return answer_to(std::move(request));
  }
  wire::HttpResponse post(const std::string& path, const std::string& body, wire::Headers headers = {}) {
    headers.set("Content-Type", "application/json");
    wire::ClientRequest request{
        .method = "POST", .url = gateway->url() + path, .headers = std::move(headers), .body = body};
    return answer_to(std::move(request));
  }
  double metric(const std::string& name) {
    const std::string text = get("/metrics").body;
    const size_t at = text.find("\n" + name + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + name.size() + 2));
  }

  gateway::GatewayOptions options;
  std::unique_ptr<gateway::Gateway> gateway;

 private:
  wire::HttpResponse answer_to(wire::ClientRequest request) {
    auto response = client_.fetch(std::move(request));
    EXPECT_TRUE(response) << response.error().to_string();
    return response ? *response : wire::HttpResponse{.status = 0, .headers = {}, .body = response.error().to_string()};
  }

  wire::HttpClient client_;
  std::vector<std::unique_ptr<ScriptedBackend>> backends_;
};

}  // namespace tidemill::test
