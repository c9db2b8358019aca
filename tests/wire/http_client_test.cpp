#include "wire/http_client.hpp"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <gtest/gtest.h>

#include "base/ids.hpp"
#include "wire/server_fixture.hpp"
#include "wire/tls_certificate.hpp"

namespace tidemill::test {
namespace {

using base::ErrorCode;
using boost::asio::ip::tcp;
namespace ssl = boost::asio::ssl;
using wire::ClientRequest;
using wire::HttpClient;
using wire::HttpClientOptions;
using wire::Url;

TEST(Url, Parts) {
  const auto url = Url::parse("http://host.example:8080/a/b?c=d#fragment");
  ASSERT_TRUE(url);
  EXPECT_FALSE(url->https);
  EXPECT_EQ(url->host, "host.example");
  EXPECT_EQ(url->port, 8080);
  EXPECT_EQ(url->target, "/a/b?c=d");
  EXPECT_EQ(url->authority(), "host.example:8080");
  EXPECT_EQ(Url::parse("HTTPS://h")->port, 443);
  EXPECT_EQ(Url::parse("https://h")->authority(), "h");
  EXPECT_EQ(Url::parse("http://h?x")->target, "/?x");
  EXPECT_EQ(Url::parse("http://[::1]:80/")->host, "::1");
  EXPECT_EQ(Url::parse("http://[::1]:81/")->authority(), "[::1]:81");
}

TEST(Url, Refused) {
  for (const char* text : {"", "host", "ftp://h", "http://", "http://:80", "http://h:", "http://h:0", "http://h:65536",
                           "http://h:8x", "http://u:p@h", "http://[::1", "http://h/a b", "http://h/\r\nX: y", "://h"}) {
    const auto url = Url::parse(text);
    ASSERT_FALSE(url) << text;
    EXPECT_EQ(url.error().code(), ErrorCode::invalid_argument);
  }
}

TEST(Url, ReferencesLeadOn) {
  const auto base = Url::parse("https://hub.example/api/a?x=1");
  ASSERT_TRUE(base);
  const auto led = [&base](std::string_view reference) {
    const auto url = base->refer(reference);
    return url ? url->text() : url.error().message();
  };
  EXPECT_EQ(led("http://other:81/b?c"), "http://other:81/b?c");
  EXPECT_EQ(led("//other/b"), "https://other/b");
  EXPECT_EQ(led("/b/c?d=e#f"), "https://hub.example/b/c?d=e");
  EXPECT_EQ(led("b:c"),
            "'b:c' is not a URL to call: the scheme is neither http nor https; "
            "it should look like http://host:port/path");
  EXPECT_EQ(led("b"), "https://hub.example/api/b");
  EXPECT_EQ(led("b/c:d"), "https://hub.example/api/b/c:d");
  EXPECT_EQ(led("?y=/2"), "https://hub.example/api/a?y=/2");
  EXPECT_EQ(led("#f"), "https://hub.example/api/a?x=1");
  EXPECT_EQ(Url::parse("http://[::1]:81")->refer("/a")->text(), "http://[::1]:81/a");
  EXPECT_FALSE(base->refer("/a b"));
}

TEST(Url, Origins) {
  const auto same = [](std::string_view a, std::string_view b) { return Url::parse(a)->same_origin(*Url::parse(b)); };
  EXPECT_TRUE(same("https://Hub.example/a", "https://hub.example:443/b"));
  EXPECT_FALSE(same("https://hub.example/", "http://hub.example:443/"));
  EXPECT_FALSE(same("https://hub.example/", "https://hub.example:444/"));
  EXPECT_FALSE(same("https://hub.example/", "https://hub.example.net/"));
}

// Answers each connection with given bytes once the request's head is there; then closes. For what no good server says.
class CannedServer {
 public:
  explicit CannedServer(std::string answer, int connections = 1) : acceptor_(io_, {tcp::v4(), 0}) {
    thread_ = std::thread([this, answer = std::move(answer), connections] {
      for (int i = 0; i < connections; ++i) {
        tcp::socket socket(io_);
        boost::system::error_code ignored;
        acceptor_.accept(socket, ignored);
        std::string request;
        boost::asio::read_until(socket, boost::asio::dynamic_buffer(request), "\r\n\r\n", ignored);
        boost::asio::write(socket, boost::asio::buffer(answer), ignored);
        request_ = request;
      }
    });
  }
  ~CannedServer() { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  std::string url() { return "http://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()) + "/x?y"; }
  // After `join`.
  const std::string& request() const { return request_; }

 private:
  boost::asio::io_context io_;
  tcp::acceptor acceptor_;
  std::thread thread_;
  std::string request_;
};

base::Result<wire::HttpResponse> get(const std::string& url, HttpClientOptions options = {}) {
  HttpClient client(std::move(options));
  ClientRequest request;
  request.url = url;
  return client.fetch(std::move(request));
}

TEST(HttpClient, SendsWhatItShould) {
  CannedServer server("HTTP/1.1 204 No Content\r\n\r\n");
  HttpClient client;
  ClientRequest request{
      .method = "POST", .url = server.url(), .headers = {{"X-Key", "v"}, {"Host", "other"}}, .body = ""};
  const auto response = client.fetch(std::move(request));
  ASSERT_TRUE(response) << response.error().to_string();
  EXPECT_EQ(response->status, 204);
  server.join();
  const std::string host = server.url().substr(7, server.url().size() - 7 - 4);
  EXPECT_EQ(server.request(),
            "POST /x?y HTTP/1.1\r\nHost: " + host + "\r\nX-Key: v\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

TEST(HttpClient, BodiesOfEachFraming) {
  const auto body_of = [](const std::string& answer) {
    CannedServer server(answer);
    const auto response = get(server.url());
    return response ? response->body : "error: " + response.error().to_string();
  };
  EXPECT_EQ(body_of("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), "hello");
  EXPECT_EQ(body_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), "hello");
  EXPECT_EQ(body_of("HTTP/1.0 200 OK\r\n\r\nhello"), "hello");
  EXPECT_EQ(body_of("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), "hi");
  const std::string large(3'000'000, 'z');
  EXPECT_EQ(body_of("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + large), large);
}

TEST(HttpClient, BadAnswersAreErrors) {
  const auto code_of = [](const std::string& answer, HttpClientOptions options = {}) {
    CannedServer server(answer);
    const auto response = get(server.url(), std::move(options));
    EXPECT_FALSE(response) << answer;
    return response ? ErrorCode::internal : response.error().code();
  };
  EXPECT_EQ(code_of(""), ErrorCode::unavailable);
  EXPECT_EQ(code_of("SSH-2.0-OpenSSH_9.2\r\n"), ErrorCode::corrupt);
  EXPECT_EQ(code_of("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"), ErrorCode::unavailable);
  EXPECT_EQ(code_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n"), ErrorCode::unavailable);
  EXPECT_EQ(code_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), ErrorCode::corrupt);
  HttpClientOptions small;
  small.max_header_bytes = 1000;
  small.max_body_bytes = 1000;
  EXPECT_EQ(code_of("HTTP/1.1 200 OK\r\nX: " + std::string(2000, 'x') + "\r\n\r\n", small), ErrorCode::too_large);
  EXPECT_EQ(code_of("HTTP/1.1 200 OK\r\n\r\n" + std::string(1001, 'x'), small), ErrorCode::too_large);
}

TEST(HttpClient, NobodyThere) {
  uint16_t port = 0;
  {
    boost::asio::io_context io;
    tcp::acceptor acceptor(io, {tcp::v4(), 0});
    port = acceptor.local_endpoint().port();
  }
  const auto response = get("http://127.0.0.1:" + std::to_string(port) + "/");
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), ErrorCode::unavailable);
  EXPECT_NE(response.error().message().find(std::to_string(port)), std::string::npos);
}

TEST(HttpClient, RequestsThatCannotBeSent) {
  HttpClient client;
  ClientRequest forged{.method = "GET", .url = "http://127.0.0.1:1/", .headers = {{"X", "a\r\nY: b"}}, .body = ""};
  EXPECT_EQ(client.fetch(forged).error().code(), ErrorCode::invalid_argument);
  ClientRequest method{.method = "GET /", .url = "http://127.0.0.1:1/", .headers = {}, .body = ""};
  EXPECT_EQ(client.fetch(method).error().code(), ErrorCode::invalid_argument);
  EXPECT_EQ(get("nonsense").error().code(), ErrorCode::invalid_argument);
}

// Against Tidemill's own server.
class ClientTest : public ServerTest {
 protected:
  ClientRequest request(std::string method, const std::string& path, std::string body = "") {
    return {.method = std::move(method), .url = server_->url() + path, .headers = {}, .body = std::move(body)};
  }
};

TEST_F(ClientTest, UploadsAndDownloads) {
  start();
  HttpClient client;
  const std::string body(5'000'000, 'b');
  const auto response = client.fetch(request("POST", "/echo", body));
  ASSERT_TRUE(response) << response.error().to_string();
  EXPECT_EQ(response->body, body);
  const auto head = client.fetch(request("HEAD", "/hello"));
  ASSERT_TRUE(head) << head.error().to_string();
  EXPECT_EQ(head->headers.find("content-length"), "5");
  EXPECT_EQ(head->body, "");
}

TEST_F(ClientTest, SeesARefusalThatComesBeforeTheBodyIsSent) {
  options_.max_body_bytes = 1000;
  start();
  HttpClient client;
  const auto response = client.fetch(request("POST", "/echo", std::string(8'000'000, 'b')));
  ASSERT_TRUE(response) << response.error().to_string();
  EXPECT_EQ(response->status, 413);
}

TEST_F(ClientTest, TheHeadComesFirstAndMayEndIt) {
  start();
  HttpClient client;
  int status = 0;
  std::string body;
  HttpClient::Receiver receiver;
  receiver.on_head = [&](const HttpResponse& head) -> base::Result<void> {
    EXPECT_EQ(body, "");
    status = head.status;
    return {};
  };
  receiver.on_chunk = [&](std::string_view piece) -> base::Result<void> {
    body += piece;
    return {};
  };
  const auto response = client.fetch(request("GET", "/hello"), receiver);
  ASSERT_TRUE(response) << response.error().to_string();
  EXPECT_EQ(status, 200);
  EXPECT_EQ(body, "hello");
  EXPECT_EQ(response->body, "");
  receiver.on_head = [](const HttpResponse&) {
    return base::Result<void>(base::Error(ErrorCode::corrupt, "unwanted"));
  };
  body.clear();
  EXPECT_EQ(client.fetch(request("GET", "/hello"), receiver).error().message(), "unwanted");
  EXPECT_EQ(body, "");
}

TEST_F(ClientTest, ADescriptorEndsWhatWaits) {
  start();
  HttpClient client;
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  HttpClient::Receiver receiver;
  receiver.on_chunk = [](std::string_view) { return base::Result<void>(); };
  receiver.stop = ends[0];
  EXPECT_TRUE(client.fetch(request("GET", "/hello"), receiver));
  std::thread writer([&] {
    (void)waker_.get();  // the handler runs, and answers nobody
    EXPECT_EQ(::write(ends[1], "x", 1), 1);
  });
  const auto response = client.fetch(request("GET", "/when-told"), receiver);
  writer.join();
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), ErrorCode::cancelled);
  EXPECT_TRUE(client_gone_.wait());
  // It stays readable, and stays the caller's.
  EXPECT_EQ(client.fetch(request("GET", "/when-told"), receiver).error().code(), ErrorCode::cancelled);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_F(ClientTest, ASilentServerTimesOut) {
  start();
  HttpClientOptions options;
  options.idle_timeout = std::chrono::milliseconds(20);
  HttpClient client(options);
  const auto response = client.fetch(request("GET", "/when-told"));
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), ErrorCode::timeout);
  EXPECT_TRUE(client_gone_.wait());
}

TEST_F(ClientTest, PiecesComeOneByOne) {
  router_.add("GET", "/pieces", [&](Exchange& exchange) -> awaitable<void> {
    wire::Headers headers;
    (void)co_await exchange.begin_stream(200, headers);
    waker_.publish(exchange.waker());
    for (const std::string piece : {"one", "two"}) {
      (void)co_await exchange.write(piece);
      (void)co_await exchange.wait();  // the client wakes it, once it has seen the piece
    }
    (void)co_await exchange.end();
  });
  start();
  HttpClient client;
  std::string seen;
  const auto response = client.fetch(request("GET", "/pieces"), [&](std::string_view piece) -> base::Result<void> {
    seen += std::string(piece) + "|";
    waker_.get()();
    return {};
  });
  ASSERT_TRUE(response) << response.error().to_string();
  EXPECT_EQ(response->status, 200);
  EXPECT_EQ(response->body, "");
  EXPECT_EQ(seen, "one|two|");
}

TEST_F(ClientTest, AnErrorOfTheReceiverHangsUp) {
  router_.add("GET", "/stream", [this](Exchange& exchange) -> awaitable<void> {
    exchange.on_disconnect([this] { client_gone_.set(); });
    wire::Headers headers;
    (void)co_await exchange.begin_stream(200, headers);
    (void)co_await exchange.write("x");
    while (co_await exchange.wait() != wire::Wake::disconnected) {
    }
  });
  start();
  HttpClient client;
  const auto response = client.fetch(request("GET", "/stream"), [](std::string_view) -> base::Result<void> {
    return base::Error(ErrorCode::exhausted, "enough");
  });
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().message(), "enough");
  EXPECT_TRUE(client_gone_.wait());
}

TEST_F(ClientTest, FromAHandlerOfAServer) {
  // A front door in small: one handler calls another through the client, on its own strand.
  HttpClient client;
  router_.add("GET", "/front", [&](Exchange& exchange) -> awaitable<void> {
    ClientRequest inner = request("GET", "/hello");
    auto answer = co_await client.send(std::move(inner));
    HttpResponse response =
        HttpResponse::text(200, "via front: " + (answer ? answer->body : answer.error().to_string()));
    (void)co_await exchange.respond(std::move(response));
  });
  start();
  const auto response = client.fetch(request("GET", "/front"));
  ASSERT_TRUE(response) << response.error().to_string();
  EXPECT_EQ(response->body, "via front: hello");
}

// Serves one TLS connection, which is told "secret" if its handshake succeeds.
class TlsServer {
 public:
  explicit TlsServer(const TlsCertificate& certificate)
      : tls_(ssl::context::tls_server), acceptor_(io_, {tcp::v4(), 0}) {
    tls_.use_certificate_chain(boost::asio::buffer(certificate.certificate_pem));
    tls_.use_private_key(boost::asio::buffer(certificate.key_pem), ssl::context::pem);
    thread_ = std::thread([this] {
      boost::system::error_code ignored;
      ssl::stream<tcp::socket> stream(io_, tls_);
      acceptor_.accept(stream.next_layer(), ignored);
      boost::system::error_code refused;
      stream.handshake(ssl::stream_base::server, refused);
      if (refused) return;
      std::string request;
      const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret";
      boost::asio::read_until(stream, boost::asio::dynamic_buffer(request), "\r\n\r\n", ignored);
      boost::asio::write(stream, boost::asio::buffer(answer), ignored);
    });
  }
  ~TlsServer() { thread_.join(); }
  std::string url(const std::string& host) {
    return "https://" + host + ":" + std::to_string(acceptor_.local_endpoint().port()) + "/";
  }

 private:
  boost::asio::io_context io_;
  ssl::context tls_;
  tcp::acceptor acceptor_;
  std::thread thread_;
};

class TlsTest : public ::testing::Test {
 protected:
  TlsTest() : ca_file_(std::filesystem::temp_directory_path() / ("tidemill-ca-" + base::random_hex(8) + ".pem")) {
    std::ofstream(ca_file_) << certificate_.certificate_pem;
  }
  ~TlsTest() override {
    std::error_code ignored;
    std::filesystem::remove(ca_file_, ignored);
  }
  const TlsCertificate certificate_ = TlsCertificate::for_localhost();
  const std::filesystem::path ca_file_;
};

TEST_F(TlsTest, TrustedAuthorityAndRightName) {
  TlsServer server(certificate_);
  HttpClientOptions options;
  options.ca_file = ca_file_;
  const auto response = get(server.url("localhost"), options);
  ASSERT_TRUE(response) << response.error().to_string();
  EXPECT_EQ(response->body, "secret");
}

TEST_F(TlsTest, UnknownAuthorityIsRefused) {
  TlsServer server(certificate_);
  const auto response = get(server.url("localhost"));
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), ErrorCode::unavailable);
}

TEST_F(TlsTest, WrongNameIsRefused) {
  TlsServer server(certificate_);
  HttpClientOptions options;
  options.ca_file = ca_file_;
  const auto response = get(server.url("127.0.0.1"), options);
  ASSERT_FALSE(response);
  EXPECT_EQ(response.error().code(), ErrorCode::unavailable);
}

}  // namespace
}  // namespace tidemill::test
