// The edges of HTTP/1.1 on a raw socket: what two programs might read differently, what is endless or slow. Each case
// is refused with the right status and the connection closed, and nothing of it, nor what follows it, reaches a
// handler.
#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "wire/server_fixture.hpp"

namespace tidemill::test {
namespace {

using namespace std::string_literals;

struct Edge {
  const char* name;
  std::string bytes;
  int status;
};

// Behind every case: a request that must never be answered.
constexpr std::string_view smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

std::string post(const std::string& fields, const std::string& body = "") {
  return "POST /echo HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n" + body;
}
std::string chunked(const std::string& chunks) {
  return post("Transfer-Encoding: chunked\r\n", chunks);
}

const std::vector<Edge>& edges() {
  static const std::vector<Edge> all = {
      // How long is the body?
      {"BothLengths", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {"BothLengthsReversed", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), 400},
      {"DifferingLengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), 400},
      {"RepeatedLength", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 400},
      {"ListOfLengths", post("Content-Length: 5, 5\r\n", "hello"), 400},
      {"SignedLength", post("Content-Length: +5\r\n", "hello"), 400},
      {"NegativeLength", post("Content-Length: -5\r\n", "hello"), 400},
      {"HexLength", post("Content-Length: 0x5\r\n", "hello"), 400},
      {"LengthWithBlank", post("Content-Length: 5 5\r\n", "hello"), 400},
      {"EmptyLength", post("Content-Length:\r\n", "hello"), 400},
      {"LengthBeyondCounting", post("Content-Length: 99999999999999999999999\r\n", "hello"), 400},
      {"XChunked", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 400},
      {"ChunkedX", post("Transfer-Encoding: chunkedx\r\n", "0\r\n\r\n"), 400},
      {"ChunkedTwice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {"ChunkedAndIdentity", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), 400},
      {"GzipThenChunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 400},
      {"QuotedChunked", post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), 400},
      {"VerticalTabChunked", post("Transfer-Encoding: \vchunked\r\n", "0\r\n\r\n"), 400},
      {"ChunkedIn10", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      // Lines and fields.
      {"BlankBeforeColon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400},
      {"TabBeforeColon", post("Content-Length\t: 5\r\n", "hello"), 400},
      {"BareLineFeeds", "GET /hello HTTP/1.1\nHost: h\n\n", 400},
      {"OneBareLineFeed", "GET /hello HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", 400},
      {"BareLineFeedEndsTheHead", "GET /hello HTTP/1.1\r\nHost: h\r\n\n", 400},
      {"BareCarriageReturn", "GET /hello HTTP/1.1\r\nHost: h\r\nX: a\rY: b\r\n\r\n", 400},
      {"FoldedField", post("X: a\r\n b\r\n"), 400},
      {"FoldedLength", post("Content-Length:\r\n 5\r\n", "hello"), 400},
      {"FoldedFirstField", "GET /hello HTTP/1.1\r\n Host: h\r\n\r\n", 400},
      {"NulInAValue", post("X: a\0b\r\n"s), 400},
      {"NulInAName", post("X\0: b\r\n"s), 400},
      {"NulInTheTarget", "GET /hel\0lo HTTP/1.1\r\nHost: h\r\n\r\n"s, 400},
      {"DeleteInAValue", post("X: a\x7f\r\n"), 400},
      {"NoColon", post("Transfer-Encoding chunked\r\n", "0\r\n\r\n"), 400},
      {"EmptyName", post(": x\r\n"), 400},
      {"BlankInAName", post("Content Length: 5\r\n", "hello"), 400},
      {"NonAsciiName", post("Content-L\xc3\xa9ngth: 5\r\n", "hello"), 400},
      // The first line.
      {"NoVersion", "GET /hello\r\nHost: h\r\n\r\n", 400},
      {"Version09", "GET /hello HTTP/0.9\r\nHost: h\r\n\r\n", 400},
      {"Version12", "GET /hello HTTP/1.2\r\nHost: h\r\n\r\n", 400},
      {"Version2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
      {"LowerCaseVersion", "GET /hello http/1.1\r\nHost: h\r\n\r\n", 400},
      {"TwoBlanks", "GET  /hello HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"TabInTheFirstLine", "GET\t/hello HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"BlankInTheTarget", "GET /hello /x HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"LeadingBlank", " GET /hello HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"MethodWithColon", "GET: /hello HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"AuthorityForm", "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", 400},
      {"AuthorityFormOfGet", "GET h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", 400},
      {"AbsoluteFormOfAnother", "GET http://other/hello HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"AbsoluteFormOfAnotherScheme", "GET ftp://h/hello HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"AsteriskOfGet", "GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"EscapedNul", "GET /hello%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"BrokenEscape", "GET /hello%2 HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      // Who is meant?
      {"NoHost", "GET /hello HTTP/1.1\r\n\r\n", 400},
      {"TwoHosts", "GET /hello HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400},
      {"HostWithPath", "GET /hello HTTP/1.1\r\nHost: h/x\r\n\r\n", 400},
      {"HostWithUser", "GET /hello HTTP/1.1\r\nHost: u@h\r\n\r\n", 400},
      {"HostWithBlank", "GET /hello HTTP/1.1\r\nHost: h x\r\n\r\n", 400},
      // Chunks.
      {"NoChunkSize", chunked("\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeNotHex", chunked("g\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeSigned", chunked("+5\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeWith0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeLeadingBlank", chunked(" 5\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeUnderscore", chunked("1_0\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeOverflow", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkTooShort", chunked("4\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkBareLineFeed", chunked("5\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkDataBareLineFeed", chunked("5\r\nhello\n0\r\n\r\n"), 400},
      {"ChunkBareCarriageReturn", chunked("5\rhello\r\n0\r\n\r\n"), 400},
      {"LastChunkBareLineFeed", chunked("5\r\nhello\r\n0\n\n"), 400},
      {"ExtensionWithoutName", chunked("5;=x\r\nhello\r\n0\r\n\r\n"), 400},
      {"ExtensionLineFeed", chunked("5;a\nhello\r\n0\r\n\r\n"), 400},
      {"ExtensionNul", chunked("5;a=\"\0\"\r\nhello\r\n0\r\n\r\n"s), 400},
      {"ExtensionUnquoted", chunked("5;a=b c\r\nhello\r\n0\r\n\r\n"), 400},
      {"ExtensionQuoteLeftOpen", chunked("5;a=\"b\r\nhello\r\n0\r\n\r\n"), 400},
      {"TrailerWithoutColon", chunked("0\r\nTrailer\r\n\r\n"), 400},
      {"TrailerFolded", chunked("0\r\nT: a\r\n b\r\n\r\n"), 400},
      {"TrailerBlankBeforeColon", chunked("0\r\nT : a\r\n\r\n"), 400},
      {"TrailerNul", chunked("0\r\nT: \0\r\n\r\n"s), 400},
      // What is too much.
      {"GiantField", post("X: " + std::string(100'000, 'x') + "\r\n"), 431},
      {"GiantName", post(std::string(100'000, 'x') + ": x\r\n"), 431},
      {"GiantTarget", "GET /" + std::string(100'000, 'x') + " HTTP/1.1\r\nHost: h\r\n\r\n", 431},
      {"TenThousandFields",
       [] {
         std::string fields;
         for (int i = 0; i < 10'000; ++i)
           fields += "X-" + std::to_string(i) + ": y\r\n";
         return post(fields);
       }(),
       431},
      {"GiantExtension", chunked("5;a=" + std::string(100'000, 'x') + "\r\nhello\r\n0\r\n\r\n"), 431},
      {"GiantTrailer", chunked("0\r\nT: " + std::string(100'000, 'x') + "\r\n\r\n"), 431},
      {"EndlessChunkSize", chunked(std::string(100'000, '0') + "5\r\nhello\r\n0\r\n\r\n"), 431},
      {"GiantLength", post("Content-Length: 99999999999\r\n", "hello"), 413},
      {"GiantChunk", chunked("ffffffffffff\r\nhello"), 413},
  };
  return all;
}

class EdgeTest : public ServerTest, public ::testing::WithParamInterface<Edge> {
 protected:
  EdgeTest() {
    const auto count = [this](Exchange& exchange) -> awaitable<void> {
      ++reached_;
      HttpResponse response = HttpResponse::text(200, "reached");
      (void)co_await exchange.respond(std::move(response));
    };
    for (const char* method : {"GET", "POST", "CONNECT", "PRI"}) {
      router_.add(method, "/*", count);
      router_.add(method, "/echo", count);
      router_.add(method, "/hello", count);
    }
    options_.max_header_bytes = 16'384;
  }
  ~EdgeTest() override { stop(); }

  std::atomic<int> reached_ = 0;
};

void expect_refused(const std::string& answer, int status, const std::string& how) {
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 " + std::to_string(status) + " ")) << how << ": " << answer;
  EXPECT_NE(answer.find("\r\nConnection: close\r\n"), std::string::npos) << how << ": " << answer;
  for (const char* status_class : {"HTTP/1.1 2", "HTTP/1.1 4", "HTTP/1.1 5"})
    EXPECT_EQ(answer.find(status_class, 1), std::string::npos) << how << ": a second answer: " << answer;
}

TEST_P(EdgeTest, IsRefusedWholeAndByteByByte) {
  start();
  const Edge& edge = GetParam();
  expect_refused(exchange_and_close(edge.bytes + std::string(smuggled)), edge.status, "whole");
  // The first bytes one by one, so that every state is left and entered again at the border of two reads.
  RawClient client = connect();
  const std::string all = edge.bytes + std::string(smuggled);
  for (size_t i = 0; i < std::min<size_t>(all.size(), 300); ++i) {
    if (!client.send(all.substr(i, 1))) break;
  }
  if (all.size() > 300) client.send(all.substr(300));
  expect_refused(client.read_all(), edge.status, "byte by byte");
  stop();
  EXPECT_EQ(reached_, 0);
}

INSTANTIATE_TEST_SUITE_P(All, EdgeTest, ::testing::ValuesIn(edges()),
                         [](const auto& edge) { return std::string(edge.param.name); });

// What is unusual and allowed.
using AllowedTest = ServerTest;

TEST_F(AllowedTest, UnusualButRight) {
  start();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\r\n\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n", "hello"},
      {"GET http://h/hello HTTP/1.1\r\nHost: h\r\n\r\n", "hello"},
      {"GET HTTP://H:80/hello HTTP/1.1\r\nhost: h:80\r\n\r\n", "hello"},
      {"GET /hello HTTP/1.1\r\nHOST:h\r\nX:\r\nY: \t v \t\r\nZ: \xc3\xa9\r\n\r\n", "hello"},
      {"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n"
       "5 ; a ; b = c ;d=\"e \\\" ; \"\r\nhello\r\n00;x\r\nT: t\r\n\r\n",
       "hello"},
      {"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 0005\r\n\r\nhello", "hello"},
  };
  RawClient client = connect();
  for (const auto& [request, body] : cases) {
    ASSERT_TRUE(client.send(request));
    const std::string answer = client.read_answer();
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << request << answer;
    EXPECT_TRUE(answer.ends_with("\r\n\r\n" + body)) << request << answer;
  }
}

TEST_F(AllowedTest, ASlowClientHasItsLimitHoweverSteadilyItDrips) {
  options_.header_timeout = std::chrono::milliseconds(60);
  options_.body_timeout = std::chrono::milliseconds(60);
  options_.max_header_bytes = size_t{64} << 20;
  start();
  // A byte now and then is no progress towards a head: the limit counts from its first.
  RawClient head = connect();
  ASSERT_TRUE(head.send("GET /hello HTTP/1.1\r\nX: "));
  while (head.send("x") && !head.has_input())
    std::this_thread::yield();
  expect_refused(head.read_all(), 408, "head");
  RawClient body = connect();
  ASSERT_TRUE(body.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\nabc"));
  expect_refused(body.read_all(), 408, "body");
}

}  // namespace
}  // namespace tidemill::test
