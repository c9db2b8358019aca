// The hub over TLS, as Tidemill's own server speaks it.
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "expect_says.hpp"
#include "hub/remote.hpp"
#include "temporary_folder.hpp"
#include "wire/http_server.hpp"
#include "wire/tls_certificate.hpp"

namespace tidemill::hub {
namespace {

using wire::Exchange;
using wire::HttpResponse;

const std::string kServedCommit(40, 'a');

class HubRemoteTls : public ::testing::Test {
 protected:
  HubRemoteTls() {
    const auto certificate = test::TlsCertificate::for_localhost();
    wire::HttpServerOptions options;
    options.tls.emplace();
    options.tls->certificate = folder_.put("cert.pem", certificate.certificate_pem).string();
    options.tls->key = folder_.put("key.pem", certificate.key_pem).string();
    wire::Router router;
    router.add("GET", "/api/models/acme/tiny/revision/*", [this](Exchange& exchange) -> boost::asio::awaitable<void> {
      HttpResponse response = HttpResponse::json(200, fmt::format(R"({{"sha": "{}"}})", kServedCommit));
      if (exchange.request().bearer_token() != "hf_secret") response.status = 500;
      if (exchange.request().path_rest == "moved") {
        response.status = 302;
        response.headers.set("Location", fmt::format("http://localhost:{}/", server_->port()));
      }
      (void)co_await exchange.respond(std::move(response));
    });
    auto server = wire::HttpServer::start(options, std::move(router));
    EXPECT_TRUE(server) << server.error().to_string();
    server_ = *std::move(server);
    remote_.endpoint = fmt::format("https://localhost:{}", server_->port());
    remote_.token = "hf_secret";
    remote_.ca_file = options.tls->certificate;
    remote_.max_tries = 1;
  }
  base::Result<std::string> commit(const std::string& revision = "main") const {
    auto remote = Remote::create({.repository = "acme/tiny", .revision = revision, .choice = ""}, remote_);
    if (!remote) return std::move(remote).error();
    return remote->commit();
  }

  test::TemporaryFolder folder_;
  std::unique_ptr<wire::HttpServer> server_;
  RemoteOptions remote_;
};

TEST_F(HubRemoteTls, CertificatesAreVerified) {
  const auto found = commit();
  ASSERT_TRUE(found) << found.error().to_string();
  EXPECT_EQ(*found, kServedCommit);
  remote_.ca_file.clear();  // the system's, which do not know it
  EXPECT_SAYS(commit().error().to_string(), "no trusted TLS connection");
}

TEST_F(HubRemoteTls, NoRedirectLeadsOutOfIt) {
  const auto found = commit("moved");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code(), base::ErrorCode::corrupt);
  EXPECT_SAYS(found.error().to_string(), "from https to http");
}

}  // namespace
}  // namespace tidemill::hub
