// The server under TLS, and the pool against it.
#include <fstream>
#include <optional>
#include <string>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <gtest/gtest.h>

#include "temporary_folder.hpp"
#include "wire/client_pool.hpp"
#include "wire/server_fixture.hpp"
#include "wire/tls_certificate.hpp"

namespace tidemill::test {
namespace {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
using base::ErrorCode;
using wire::ClientPool;
using wire::OutgoingRequest;
using wire::PoolOptions;
using wire::SendReport;
using wire::Url;

class ServerTlsTest : public ServerTest {
 protected:
  ServerTlsTest() {
    write("cert.pem", certificate_.certificate_pem);
    write("key.pem", certificate_.key_pem);
    options_.tls = wire::TlsServerFiles{.certificate = path("cert.pem"), .key = path("key.pem"), .client_ca = {}};
  }
  ~ServerTlsTest() override { stop(); }

  std::string path(const std::string& name) { return (folder_.path() / name).string(); }
  void write(const std::string& name, const std::string& text) { std::ofstream(path(name)) << text; }

  // A pool that trusts this certificate alone.
  PoolOptions trusting(const TlsCertificate& certificate) {
    const std::string name = "ca" + std::to_string(files_++) + ".pem";
    write(name, certificate.certificate_pem);
    PoolOptions options;
    options.tls.ca = path(name);
    return options;
  }
  // The body, or "error: ..."; the connection was kept from before if `reused`.
  std::string fetch(ClientPool& pool, const std::string& where, std::string_view body = {}, bool* reused = nullptr) {
    const Url to = *Url::parse("https://localhost:" + std::to_string(server_->port()) + where);
    OutgoingRequest request;
    request.to = &to;
    request.method = body.empty() ? "GET" : "POST";
    request.body = body;
    std::string seen;
    SendReport report;
    asio::co_spawn(
        io_,
        [](ClientPool& from, const OutgoingRequest& what, SendReport& said, std::string& out) -> asio::awaitable<void> {
          auto stream = co_await from.open(what, &said);
          if (!stream) out = "error: " + stream.error().to_string();
          while (stream) {
            const auto piece = co_await stream->next();
            if (!piece) out = "error: " + piece.error().to_string();
            if (!piece || piece->empty()) break;
            out += *piece;
          }
        }(pool, request, report, seen),
        [this](std::exception_ptr) { io_.stop(); });
    io_.restart();
    io_.run_for(patience);
    if (reused != nullptr) *reused = report.reused;
    return seen;
  }
  base::Error start_error() {
    auto server = wire::HttpServer::start(options_, router_);
    EXPECT_FALSE(server);
    return server ? base::Error(ErrorCode::internal, "") : server.error();
  }

  TemporaryFolder folder_;
  const TlsCertificate certificate_ = TlsCertificate::for_localhost();
  asio::io_context io_{1};
  int files_ = 0;
};

TEST_F(ServerTlsTest, AnswersOnKeptConnections) {
  start();
  EXPECT_TRUE(server_->url().starts_with("https://127.0.0.1:"));
  ClientPool pool(trusting(certificate_));
  bool reused = true;
  EXPECT_EQ(fetch(pool, "/hello", {}, &reused), "hello");
  EXPECT_FALSE(reused);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(fetch(pool, "/hello", {}, &reused), "hello");
    EXPECT_TRUE(reused);
  }
  EXPECT_EQ(server_->connections(), 1U);
}

TEST_F(ServerTlsTest, CarriesLargeBodiesBothWays) {
  start();
  ClientPool pool(trusting(certificate_));
  std::string body(3'000'000, 'b');
  for (size_t i = 0; i < body.size(); i += 1009)
    body[i] = static_cast<char>('a' + i % 26);
  EXPECT_TRUE(fetch(pool, "/echo", body) == body);
  EXPECT_EQ(fetch(pool, "/hello"), "hello");
}

TEST_F(ServerTlsTest, AnUntrustedServerIsRefused) {
  start();
  ClientPool pool(trusting(TlsCertificate::for_localhost()));
  const std::string answer = fetch(pool, "/hello");
  EXPECT_TRUE(answer.starts_with("error: no trusted TLS connection to localhost:")) << answer;
  EXPECT_NE(answer.find("certificate verify failed"), std::string::npos) << answer;
  ClientPool other(trusting(certificate_));
  EXPECT_EQ(fetch(other, "/hello"), "hello");
}

TEST_F(ServerTlsTest, ACertificateOfAnotherNameIsRefused) {
  const TlsCertificate elsewhere = TlsCertificate::for_name("elsewhere.example");
  write("cert.pem", elsewhere.certificate_pem);
  write("key.pem", elsewhere.key_pem);
  start();
  ClientPool pool(trusting(elsewhere));
  const std::string answer = fetch(pool, "/hello");
  EXPECT_NE(answer.find("hostname mismatch"), std::string::npos) << answer;
}

TEST_F(ServerTlsTest, PlainHttpIsToldSo) {
  start();
  const std::string answer = exchange_and_close("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 Bad Request\r\n")) << answer;
  EXPECT_TRUE(answer.ends_with("\r\n\r\nThis port speaks TLS: use https:// instead of http:\n")) << answer;
}

TEST_F(ServerTlsTest, TlsOnAPlainPortIsToldSo) {
  options_.tls.reset();
  start();
  const std::string answer = exchange_and_close(std::string_view("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11));
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 Bad Request\r\n")) << answer;
  EXPECT_NE(answer.find("this is a TLS handshake"), std::string::npos) << answer;
}

TEST_F(ServerTlsTest, FilesThatCannotBeUsedAreNamed) {
  const auto expect = [&](ErrorCode code, std::string_view what, const std::string& file) {
    const base::Error error = start_error();
    EXPECT_EQ(error.code(), code);
    EXPECT_NE(error.message().find(what), std::string::npos) << error.message();
    EXPECT_NE(error.message().find(file), std::string::npos) << error.message();
  };
  options_.tls->certificate = path("nowhere.pem");
  expect(ErrorCode::not_found, "cannot read the TLS certificate", "nowhere.pem");
  options_.tls->certificate = path("cert.pem");
  write("cert.pem", "no certificate at all\n");
  expect(ErrorCode::corrupt, "is not a PEM file", "cert.pem");
  write("cert.pem", certificate_.certificate_pem);
  write("key.pem", certificate_.certificate_pem);
  expect(ErrorCode::corrupt, "is not a PEM file", "key.pem");
  write("key.pem", TlsCertificate::for_localhost().key_pem);
  expect(ErrorCode::corrupt, "is not the key of the certificate", "key.pem");
  write("key.pem", certificate_.key_pem);
  options_.tls->client_ca = path("nobody.pem");
  expect(ErrorCode::not_found, "cannot read the client authorities", "nobody.pem");
}

TEST_F(ServerTlsTest, ReloadingChangesTheCertificateAndDropsNobody) {
  start();
  ClientPool old_pool(trusting(certificate_));
  EXPECT_EQ(fetch(old_pool, "/hello"), "hello");

  const TlsCertificate fresh = TlsCertificate::for_localhost();
  write("cert.pem", fresh.certificate_pem);
  const auto half = server_->reload_tls();  // the key is still the old one's
  ASSERT_FALSE(half);
  EXPECT_NE(half.error().message().find("is not the key of the certificate"), std::string::npos);
  ClientPool still_old(trusting(certificate_));
  EXPECT_EQ(fetch(still_old, "/hello"), "hello");

  write("key.pem", fresh.key_pem);
  ASSERT_TRUE(server_->reload_tls());
  bool reused = false;
  EXPECT_EQ(fetch(old_pool, "/hello", {}, &reused), "hello");
  EXPECT_TRUE(reused);
  ClientPool new_pool(trusting(fresh));
  EXPECT_EQ(fetch(new_pool, "/hello"), "hello");
  ClientPool late(trusting(certificate_));
  EXPECT_TRUE(fetch(late, "/hello").starts_with("error: no trusted TLS connection"));
}

TEST_F(ServerTlsTest, ClientsWithoutACertificateOfTheAuthorityAreRefused) {
  const TlsCertificate client = TlsCertificate::for_name("client.example");
  const TlsCertificate stranger = TlsCertificate::for_name("client.example");
  write("client.pem", client.certificate_pem);
  write("client-key.pem", client.key_pem);
  write("stranger.pem", stranger.certificate_pem);
  write("stranger-key.pem", stranger.key_pem);
  options_.tls->client_ca = path("client.pem");
  start();
  ClientPool without(trusting(certificate_));
  EXPECT_TRUE(fetch(without, "/hello").starts_with("error: "));
  PoolOptions options = trusting(certificate_);
  options.tls.certificate = path("stranger.pem");
  options.tls.key = path("stranger-key.pem");
  ClientPool unknown(options);
  EXPECT_TRUE(fetch(unknown, "/hello").starts_with("error: "));
  options.tls.certificate = path("client.pem");
  options.tls.key = path("client-key.pem");
  ClientPool known(options);
  EXPECT_EQ(fetch(known, "/hello"), "hello");
}

// A handshake by Boost's client, which decides what it offers.
class OtherClient {
 public:
  explicit OtherClient(uint16_t port) : port_(port) { context_.set_verify_mode(ssl::verify_none); }
  ssl::context& context() { return context_; }
  boost::system::error_code shake_hands() {
    boost::system::error_code error;
    stream_.emplace(io_, context_);
    stream_->next_layer().connect({asio::ip::make_address("127.0.0.1"), port_}, error);
    if (!error) stream_->handshake(ssl::stream_base::client, error);
    return error;
  }
  std::string protocol() {
    const unsigned char* name = nullptr;
    unsigned int length = 0;
    SSL_get0_alpn_selected(stream_->native_handle(), &name, &length);
    return {reinterpret_cast<const char*>(name), length};
  }
  std::string version() { return SSL_get_version(stream_->native_handle()); }

 private:
  asio::io_context io_;
  ssl::context context_{ssl::context::tls_client};
  uint16_t port_;
  std::optional<ssl::stream<asio::ip::tcp::socket>> stream_;
};

TEST_F(ServerTlsTest, SpeaksTls12AndNewerAndHttp11Alone) {
  start();
  OtherClient plain(server_->port());
  EXPECT_FALSE(plain.shake_hands());
  EXPECT_EQ(plain.protocol(), "");
  EXPECT_EQ(plain.version(), "TLSv1.3");

  OtherClient both(server_->port());
  SSL_CTX_set_alpn_protos(both.context().native_handle(), reinterpret_cast<const unsigned char*>("\x02h2\x08http/1.1"),
                          12);
  EXPECT_FALSE(both.shake_hands());
  EXPECT_EQ(both.protocol(), "http/1.1");

  OtherClient h2(server_->port());
  SSL_CTX_set_alpn_protos(h2.context().native_handle(), reinterpret_cast<const unsigned char*>("\x02h2"), 3);
  EXPECT_TRUE(h2.shake_hands());

  OtherClient older(server_->port());
  SSL_CTX_set_max_proto_version(older.context().native_handle(), TLS1_2_VERSION);
  EXPECT_FALSE(older.shake_hands());
  EXPECT_EQ(older.version(), "TLSv1.2");

  OtherClient oldest(server_->port());
  SSL_CTX_set_security_level(oldest.context().native_handle(), 0);
  SSL_CTX_set_min_proto_version(oldest.context().native_handle(), TLS1_VERSION);
  SSL_CTX_set_max_proto_version(oldest.context().native_handle(), TLS1_1_VERSION);
  EXPECT_TRUE(oldest.shake_hands());
}

TEST_F(ServerTlsTest, AHandshakeThatStallsIsCutOff) {
  options_.header_timeout = std::chrono::milliseconds(30);
  start();
  RawClient silent = connect();
  EXPECT_EQ(silent.read_all(), "");
  RawClient halfway = connect();
  ASSERT_TRUE(halfway.send(std::string_view("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11)));
  EXPECT_EQ(halfway.read_all(), "");
  wait_for_connections(0);
}

TEST_F(ServerTlsTest, AClientThatHangsUpIsNoticed) {
  start();
  {
    ClientPool pool(trusting(certificate_));
    const Url to = *Url::parse("https://localhost:" + std::to_string(server_->port()) + "/when-told");
    OutgoingRequest request;
    request.to = &to;
    request.timeouts.first_byte = std::chrono::milliseconds(30);
    asio::co_spawn(
        io_,
        [](ClientPool& from, const OutgoingRequest& what) -> asio::awaitable<void> {
          const auto stream = co_await from.open(what);
          EXPECT_FALSE(stream);
        }(pool, request),
        [this](std::exception_ptr) { io_.stop(); });
    io_.restart();
    io_.run_for(patience);
  }
  EXPECT_TRUE(client_gone_.wait());
}

}  // namespace
}  // namespace tidemill::test
