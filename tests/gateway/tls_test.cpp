// The gateway's own door under TLS, and its certificates when they are read again.
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "gateway/gateway.hpp"
#include "gateway/scripted_backend.hpp"
#include "temporary_folder.hpp"
#include "wire/http_client.hpp"
#include "wire/tls_certificate.hpp"

namespace tidemill::test {
namespace {

class Tls : public ::testing::Test {
 protected:
  Tls() {
    options_.port = 0;
    options_.io_threads = 1;
    options_.backend_urls = {backend_.url()};
    options_.tls_certificate = put("cert.pem", certificate_.certificate_pem);
    options_.tls_key = put("key.pem", certificate_.key_pem);
  }

  std::string put(const std::string& name, const std::string& text) { return folder_.put(name, text).string(); }

  void start() {
    auto started = gateway::Gateway::start(options_);
    ASSERT_TRUE(started) << started.error().to_string();
    gateway_ = std::move(*started);
    gateway_->look();
  }
  base::Error start_error() {
    const auto started = gateway::Gateway::start(options_);
    EXPECT_FALSE(started);
    return started ? base::Error(base::ErrorCode::internal, "") : started.error();
  }

  // The answer of the backend to a client that trusts `certificate` alone, or "error: ...".
  std::string ask(const TlsCertificate& certificate) {
    const wire::HttpClientOptions trusting{.ca_file = put("ca.pem", certificate.certificate_pem)};
    wire::ClientRequest request{.method = "POST",
                                .url = "https://localhost:" + std::to_string(gateway_->port()) + "/v1/completions",
                                .headers = {{"Content-Type", "application/json"}},
                                .body = R"({"model":"m","prompt":"x"})"};
    const auto response = wire::HttpClient(trusting).fetch(std::move(request));
    return response ? response->body : "error: " + response.error().to_string();
  }

  TemporaryFolder folder_;
  const TlsCertificate certificate_ = TlsCertificate::for_localhost();
  ScriptedBackend backend_{[](const Received&) { return Script{.bytes = http_answer(200, "application/json", "{}")}; }};
  gateway::GatewayOptions options_;
  std::unique_ptr<gateway::Gateway> gateway_;
};

TEST_F(Tls, AnswersThoseWhoTrustItsCertificate) {
  start();
  EXPECT_TRUE(gateway_->url().starts_with("https://127.0.0.1:")) << gateway_->url();
  EXPECT_EQ(ask(certificate_), "{}");
  const std::string refused = ask(TlsCertificate::for_localhost());
  EXPECT_NE(refused.find("certificate verify failed"), std::string::npos) << refused;
}

TEST_F(Tls, AReloadShowsTheNewCertificateOnceItsKeyFits) {
  start();
  const TlsCertificate fresh = TlsCertificate::for_localhost();
  put("cert.pem", fresh.certificate_pem);
  const auto half = gateway_->reload(options_);
  ASSERT_FALSE(half);
  EXPECT_NE(half.error().message().find("is not the key of the certificate"), std::string::npos);
  EXPECT_EQ(ask(certificate_), "{}");

  put("key.pem", fresh.key_pem);
  const auto whole = gateway_->reload(options_);
  ASSERT_TRUE(whole) << whole.error().to_string();
  EXPECT_EQ(ask(fresh), "{}");
  const std::string refused = ask(certificate_);
  EXPECT_NE(refused.find("certificate verify failed"), std::string::npos) << refused;
}

TEST_F(Tls, AReloadThatFailsChangesNothing) {
  options_.policy = put("policy.toml", "");
  options_.access_log = (folder_.path() / "first.jsonl").string();
  start();
  const TlsCertificate fresh = TlsCertificate::for_localhost();
  put("cert.pem", fresh.certificate_pem);
  put("key.pem", fresh.key_pem);
  put("policy.toml", "[tenants.default]\nrequest_per_minute = 0\n");
  gateway::GatewayOptions second = options_;
  second.access_log = (folder_.path() / "second.jsonl").string();
  const auto refused = gateway_->reload(second);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param(), "gateway.policy");
  EXPECT_EQ(ask(certificate_), "{}") << "the certificate stays";
  gateway_.reset();  // its log is written
  EXPECT_GT(std::filesystem::file_size(options_.access_log), 0U);
  EXPECT_FALSE(std::filesystem::exists(second.access_log));
}

TEST_F(Tls, WhatIsMissingIsNamed) {
  options_.tls_client_ca = options_.tls_certificate;
  const std::string key = std::exchange(options_.tls_key, "");
  EXPECT_EQ(start_error().param(), "gateway.tls_key");
  options_.tls_key = key;
  options_.tls_certificate.clear();
  EXPECT_EQ(start_error().param(), "gateway.tls_certificate");
  options_.tls_key.clear();
  EXPECT_EQ(start_error().param(), "gateway.tls_certificate");
}

}  // namespace
}  // namespace tidemill::test
