// Which proxy a request goes through, and what goes through it.
#include "wire/proxy.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "expect_says.hpp"
#include "temporary_folder.hpp"
#include "wire/http_client.hpp"
#include "wire/http_server.hpp"
#include "wire/scripted_server.hpp"
#include "wire/tls_certificate.hpp"

namespace tidemill::wire {
namespace {

using base::ErrorCode;
using test::ScriptedConnection;
using test::ScriptedServer;
using Variables = std::map<std::string, std::string>;

ProxyRules rules_of(const Variables& variables) {
  return ProxyRules::from_environment([&variables](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::string() : found->second;
  });
}

// Where a request goes: "direct", "HOST:PORT" of a proxy, or why it does not go.
std::string way(const Variables& variables, std::string_view url) {
  const ProxyRules rules = rules_of(variables);
  const auto proxy = rules.find(*Url::parse(url));
  if (!proxy) return proxy.error().to_string();
  return *proxy == nullptr ? "direct" : (*proxy)->address.host_and_port();
}

TEST(ProxyRules, EachSchemeHasItsVariable) {
  EXPECT_EQ(way({}, "https://hub.example/"), "direct");
  EXPECT_EQ(way({{"HTTPS_PROXY", "http://a:1"}}, "https://hub.example/"), "a:1");
  EXPECT_EQ(way({{"HTTPS_PROXY", "http://a:1"}}, "http://hub.example/"), "direct");
  EXPECT_EQ(way({{"HTTP_PROXY", "http://a:1"}}, "http://hub.example/"), "a:1");
  EXPECT_EQ(way({{"HTTPS_PROXY", "http://a:1"}, {"https_proxy", "http://b:2"}}, "https://hub.example/"), "b:2");
  EXPECT_EQ(way({{"HTTPS_PROXY", "http://a:1"}, {"https_proxy", ""}}, "https://hub.example/"), "a:1");
  EXPECT_EQ(way({{"ALL_PROXY", "http://c:3"}}, "http://hub.example/"), "c:3");
  EXPECT_EQ(way({{"all_proxy", "http://c:3"}, {"HTTPS_PROXY", "http://a:1"}}, "https://hub.example/"), "a:1");
}

TEST(ProxyRules, FormsOfAProxy) {
  const auto named = [](const std::string& value) { return way({{"ALL_PROXY", value}}, "https://hub.example/"); };
  EXPECT_EQ(named("proxy.example:3128"), "proxy.example:3128");
  EXPECT_EQ(named("http://proxy.example"), "proxy.example:1080");
  EXPECT_EQ(named("HTTP://proxy.example:8080/"), "proxy.example:8080");
  EXPECT_EQ(named("http://[::1]:3128"), "[::1]:3128");
  EXPECT_EQ(named("http://[::1]"), "[::1]:1080");
  EXPECT_EQ(named("http://user:secret@proxy.example:1"), "proxy.example:1");
  EXPECT_EQ(named("user:se@cr/e#t@proxy.example:1"), "proxy.example:1");
}

TEST(ProxyRules, WhatIsNoProxyIsSaidWhereItWouldBeUsed) {
  struct Case {
    const char* value;
    const char* said;
  };
  for (const auto& [value, said] : {Case{"socks5://u:secret@h:1080", "the scheme 'socks5' are not supported"},
                                    {"https://u:secret@h:443", "spoken to over TLS"},
                                    {"http://u:secret@h:x", "its host or its port is none"},
                                    {"http://u:secret@", "its host or its port is none"},
                                    {"http://u:secret%2@h:1", "two hexadecimal digits"},
                                    {"http://u%3Av:secret@h:1", "its user has a colon"}}) {
    const Variables variables = {{"ALL_PROXY", value}, {"HTTP_PROXY", "http://a:1"}, {"NO_PROXY", "near.example"}};
    const std::string message = way(variables, "https://hub.example/");
    EXPECT_SAYS(message, said);
    EXPECT_SAYS(message, "ALL_PROXY does not name a proxy");
    EXPECT_SAYS(message, "http://USER:PASSWORD@HOST:PORT");
    EXPECT_EQ(message.find("secret"), std::string::npos) << message;
    EXPECT_EQ(way(variables, "http://hub.example/"), "a:1");
    EXPECT_EQ(way(variables, "https://near.example/"), "direct");
  }
}

TEST(ProxyRules, UserAndPasswordAreDecoded) {
  const ProxyRules rules = rules_of({{"https_proxy", "http://Aladdin:open%20sesame@p:1"}});
  const auto proxy = rules.find(*Url::parse("https://hub.example/"));
  ASSERT_TRUE(proxy);
  EXPECT_EQ((*proxy)->authorization, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");  // the example of RFC 7617
  EXPECT_EQ((*proxy)->text(), "the proxy p:1 (https_proxy)");
}

TEST(ProxyRules, Exceptions) {
  const auto direct = [](const std::string& list, const std::string& url) {
    return way({{"ALL_PROXY", "http://a:1"}, {"NO_PROXY", list}}, url) == "direct";
  };
  EXPECT_TRUE(direct("*", "https://hub.example/"));
  EXPECT_TRUE(direct("other, hub.example", "https://hub.example/"));
  EXPECT_TRUE(direct("other hub.example", "https://HUB.example./"));
  EXPECT_TRUE(direct("hub.example", "https://cdn.hub.example/"));
  EXPECT_TRUE(direct(".hub.example", "https://cdn.hub.example/"));
  EXPECT_TRUE(direct("*.hub.example", "https://cdn.hub.example/"));
  EXPECT_TRUE(direct(".hub.example.", "https://hub.example/"));
  EXPECT_FALSE(direct("hub.example", "https://github.example/"));
  EXPECT_FALSE(direct("cdn.hub.example", "https://hub.example/"));
  EXPECT_FALSE(direct(",, .", "https://hub.example/"));
  EXPECT_TRUE(direct("hub.example:443", "https://hub.example/"));
  EXPECT_FALSE(direct("hub.example:80", "https://hub.example/"));
  EXPECT_FALSE(direct("hub.example:x", "https://hub.example/"));
  EXPECT_TRUE(direct("10.1.2.3", "http://10.1.2.3/"));
  EXPECT_FALSE(direct("2.3", "http://10.1.2.3/"));
  EXPECT_TRUE(direct("10.0.0.0/8", "http://10.1.2.3/"));
  EXPECT_FALSE(direct("10.0.0.0/16", "http://10.1.2.3/"));
  EXPECT_FALSE(direct("10.0.0.0/33", "http://10.1.2.3/"));
  EXPECT_FALSE(direct("10.0.0.0/8", "http://ten.example/"));
  EXPECT_TRUE(direct("10.1.2.3:8080", "http://10.1.2.3:8080/"));
  EXPECT_FALSE(direct("10.1.2.3:8080", "http://10.1.2.3/"));
  EXPECT_TRUE(direct("::1", "http://[::1]:7/"));
  EXPECT_TRUE(direct("[::1]:7", "http://[0:0::1]:7/"));
  EXPECT_FALSE(direct("[::1]:8", "http://[::1]:7/"));
  EXPECT_TRUE(direct("fd00::/8", "http://[fd12::1]/"));
  EXPECT_FALSE(direct("::/0", "http://v4.example/"));
}

HttpClientOptions options_through(const std::string& value) {
  HttpClientOptions options;
  options.proxies = rules_of({{"all_proxy", value}});
  return options;
}

base::Result<HttpResponse> get_through(HttpClientOptions options, const std::string& url) {
  HttpClient client(std::move(options));
  return client.fetch({.method = "GET", .url = url, .headers = {{"X", "y"}}, .body = ""});
}

TEST(ProxiedClient, PlainRequestsNameTheirServer) {
  std::string head;
  ScriptedServer proxy({[&](ScriptedConnection& connection) {
    head = connection.read_head();
    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
  }});
  const auto answer =
      get_through(options_through(fmt::format("http://u:p@127.0.0.1:{}", proxy.port())), "http://hub.example:81/a?b");
  ASSERT_TRUE(answer) << answer.error().to_string();
  EXPECT_EQ(answer->body, "hi");
  proxy.join();
  EXPECT_EQ(head,
            "GET http://hub.example:81/a?b HTTP/1.1\r\nProxy-Authorization: Basic dTpw\r\n"
            "Host: hub.example:81\r\nX: y\r\nConnection: close\r\n\r\n");
}

// What the client makes of what a proxy answers to a request over `scheme`.
base::Error proxy_refusal(std::string_view scheme, const std::string& answer, const std::string& account = "") {
  ScriptedServer proxy({[&](ScriptedConnection& connection) {
    connection.read_head();
    connection.send(answer);
  }});
  auto got = get_through(options_through(fmt::format("http://{}127.0.0.1:{}", account, proxy.port())),
                         fmt::format("{}://hub.example/", scheme));
  EXPECT_FALSE(got) << answer;
  return got ? base::Error(ErrorCode::internal, "answered") : std::move(got).error();
}

TEST(ProxiedClient, RefusalsSayWhatToSet) {
  for (const char* scheme : {"http", "https"}) {
    const std::string basic = "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
    const base::Error none = proxy_refusal(scheme, basic);
    EXPECT_EQ(none.code(), ErrorCode::invalid_argument);
    EXPECT_SAYS(none.to_string(),
                "(all_proxy) asks for a user and a password (407): set all_proxy to "
                "http://USER:PASSWORD@127.0.0.1:");
    const base::Error wrong = proxy_refusal(scheme, basic, "tom:secret@");
    EXPECT_SAYS(wrong.to_string(), "does not accept the user and the password that all_proxy has");
    EXPECT_EQ(wrong.to_string().find("secret"), std::string::npos);
    const base::Error other = proxy_refusal(scheme, "HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n");
    EXPECT_SAYS(other.to_string(), "only Basic is");
  }
}

TEST(ProxiedClient, TunnelsThatAreNone) {
  const base::Error forbidden = proxy_refusal("https", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
  EXPECT_EQ(forbidden.code(), ErrorCode::not_found);
  EXPECT_SAYS(forbidden.to_string(), "does not connect to hub.example: it answers 403 Forbidden");
  EXPECT_EQ(proxy_refusal("https", "HTTP/1.1 502 Bad Gateway\r\n\r\n").code(), ErrorCode::unavailable);
  EXPECT_EQ(proxy_refusal("https", "").code(), ErrorCode::unavailable);
  EXPECT_EQ(proxy_refusal("https", "HTTP/1.1 200").code(), ErrorCode::unavailable);
  EXPECT_EQ(proxy_refusal("https", "SSH-2.0-x\r\n\r\n").code(), ErrorCode::corrupt);
  EXPECT_EQ(proxy_refusal("https", "HTTP/1.1 200 OK\n\n").code(), ErrorCode::corrupt);
  EXPECT_EQ(proxy_refusal("https", "HTTP/1.1 200 OK\r\n\r\nmore").code(), ErrorCode::corrupt);
  EXPECT_EQ(proxy_refusal("https", "HTTP/1.1 200 OK\r\nX: " + std::string(70000, 'x')).code(), ErrorCode::too_large);
}

TEST(ProxiedClient, AProxyThatIsNotThereIsNamed) {
  uint16_t port = 0;
  {
    const ScriptedServer gone({});
    port = gone.port();
  }
  for (const char* scheme : {"http", "https"}) {
    const auto answer = get_through(options_through(fmt::format("u:secret@127.0.0.1:{}", port)),
                                    fmt::format("{}://hub.example/", scheme));
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code(), ErrorCode::unavailable);
    EXPECT_SAYS(answer.error().to_string(),
                fmt::format("the proxy 127.0.0.1:{} (all_proxy): cannot connect to 127.0.0.1:{}", port, port));
    EXPECT_EQ(answer.error().to_string().find("secret"), std::string::npos);
  }
}

TEST(ProxiedClient, AProxyThatSaysNothingIsNamed) {
  for (const char* const began : {"", "HTTP/1.1 200 OK\r\n"}) {
    ScriptedServer proxy({[&](ScriptedConnection& connection) {
      connection.read_head();
      connection.send(began);
      connection.read_to_end();
    }});
    HttpClientOptions options = options_through(fmt::format("127.0.0.1:{}", proxy.port()));
    options.connect_timeout = std::chrono::milliseconds(50);
    const auto answer = get_through(options, "https://hub.example/");
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code(), ErrorCode::timeout);
    EXPECT_SAYS(answer.error().to_string(), fmt::format("the proxy 127.0.0.1:{} (all_proxy): ", proxy.port()));
    proxy.join();
  }
}

TEST(ProxiedClient, AProxyThatTunnelsToNoTlsIsNamed) {
  ScriptedServer proxy({[](ScriptedConnection& connection) {
    connection.read_head();
    connection.send("HTTP/1.1 200 OK\r\n\r\n");
    connection.read_through("\x16");  // with which the client's part of the handshake begins
    connection.send("this is not TLS at all");
    connection.read_to_end();
  }});
  const auto answer = get_through(options_through(fmt::format("127.0.0.1:{}", proxy.port())), "https://hub.example/");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code(), ErrorCode::unavailable);
  EXPECT_SAYS(
      answer.error().to_string(),
      fmt::format("the proxy 127.0.0.1:{} (all_proxy): no trusted TLS connection to hub.example", proxy.port()));
  proxy.join();
}

// The name is the proxy's to resolve, and the certificate is checked against it.
TEST(ProxiedClient, TlsGoesThroughATunnel) {
  const test::TemporaryFolder folder;
  const auto certificate = test::TlsCertificate::for_name("hub.example");
  HttpServerOptions served;
  served.tls.emplace();
  served.tls->certificate = folder.put("cert.pem", certificate.certificate_pem).string();
  served.tls->key = folder.put("key.pem", certificate.key_pem).string();
  Router router;
  router.add("GET", "/x", [](Exchange& exchange) -> boost::asio::awaitable<void> {
    const bool told = exchange.request().headers.has("proxy-authorization");
    (void)co_await exchange.respond(HttpResponse::text(200, told ? "told" : "through"));
  });
  auto server = HttpServer::start(served, std::move(router));
  ASSERT_TRUE(server) << server.error().to_string();
  std::vector<std::string> heads;
  const auto tunnel = [&](ScriptedConnection& connection) {
    heads.push_back(connection.read_head());
    connection.send("HTTP/1.1 103 Wait\r\n\r\nHTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n");
    connection.relay_to((*server)->port());
  };
  ScriptedServer proxy({tunnel, tunnel});
  HttpClientOptions options = options_through(fmt::format("u:p@127.0.0.1:{}", proxy.port()));
  options.ca_file = served.tls->certificate;
  const auto answer = get_through(options, "https://hub.example/x");
  ASSERT_TRUE(answer) << answer.error().to_string();
  EXPECT_EQ(answer->body, "through");
  const auto other = get_through(options, "https://other.example/x");
  ASSERT_FALSE(other);
  EXPECT_SAYS(other.error().to_string(), "no trusted TLS connection to other.example");
  proxy.join();
  ASSERT_EQ(heads.size(), 2);
  EXPECT_EQ(heads[0],
            "CONNECT hub.example:443 HTTP/1.1\r\nHost: hub.example:443\r\nProxy-Authorization: Basic dTpw\r\n\r\n");
}

}  // namespace
}  // namespace tidemill::wire
