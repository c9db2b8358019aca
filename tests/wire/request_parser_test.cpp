#include "wire/request_parser.hpp"

#include <gtest/gtest.h>

namespace tidemill::wire {
namespace {

constexpr RequestParser::Limits limits{.header_bytes = 2048, .body_bytes = 100};

// Feeds in pieces of `piece` bytes, keeping what is not taken, as a connection does.
void feed_in_pieces(RequestParser& parser, std::string_view bytes, size_t piece) {
  std::string pending;
  for (size_t at = 0; at < bytes.size() && !parser.done() && !parser.refusal(); at += piece) {
    pending += bytes.substr(at, piece);
    pending.erase(0, parser.feed(pending));
  }
}

int refusal_of(std::string_view bytes) {
  int status = -1;
  for (const size_t piece : {bytes.size(), size_t{1}, size_t{7}}) {
    RequestParser parser(limits);
    feed_in_pieces(parser, bytes, piece);
    const int now = parser.refusal() ? parser.refusal()->status : parser.done() ? 0 : 1;
    EXPECT_TRUE(status == -1 || status == now) << "in pieces of " << piece << ": " << bytes;
    status = now;
  }
  return status;  // 0: complete, 1: waiting for more
}

TEST(RequestParser, WholeRequestInPiecesOfAnySize) {
  const std::string_view bytes =
      "\r\nPOST /a%20b/c?x=1&y=%C3%A9+z&flag HTTP/1.1\r\nHost: h\r\nX-Name:  v  \r\nTransfer-Encoding: chunked\r\n"
      "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: k=v\r\n\r\n"
      "5;ext=1\r\nhello\r\n7\r\n, world\r\n0\r\nTrailer: t\r\n\r\n";
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    RequestParser parser(limits);
    feed_in_pieces(parser, bytes, piece);
    ASSERT_TRUE(parser.done()) << piece;
    const HttpRequest request = parser.take();
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.path, "/a b/c");
    EXPECT_EQ(request.query_param("x"), "1");
    EXPECT_EQ(request.query_param("y"), "\xC3\xA9 z");
    EXPECT_EQ(request.query_param("flag"), "");
    EXPECT_EQ(request.headers.find("x-name"), "v");
    EXPECT_EQ(request.body, "hello, world");
    EXPECT_TRUE(request.trace.valid());
    EXPECT_EQ(request.trace.to_traceparent(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    EXPECT_EQ(request.trace.trace_state, "k=v");
  }
}

TEST(RequestParser, StopsAtTheEndOfTheRequest) {
  RequestParser parser(limits);
  const std::string first = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab";
  EXPECT_EQ(parser.feed(first + "GET / HTTP/1.1\r\n"), first.size());
  EXPECT_TRUE(parser.done());
}

TEST(RequestParser, KeepsTheRequestWhenFedBehindItsEnd) {
  RequestParser parser(limits);
  feed_in_pieces(parser, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody", 100);
  ASSERT_TRUE(parser.done());
  EXPECT_EQ(parser.feed("\r\nGET / HTTP/1.1\r\n"), 0u);
  EXPECT_EQ(parser.take().body, "body");

  RequestParser refusing(limits);
  EXPECT_GT(refusing.feed("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n"), 0u);
  ASSERT_TRUE(refusing.refusal());
  EXPECT_EQ(refusing.feed("\r\nGET / HTTP/1.1\r\n"), 0u);
}

TEST(RequestParser, KeepAlive) {
  const auto keeps = [](std::string_view head) {
    RequestParser parser(limits);
    parser.feed(head);
    EXPECT_TRUE(parser.done()) << head;
    return parser.keep_alive();
  };
  EXPECT_TRUE(keeps("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.1\r\nHost: h\r\nConnection: foo, Close\r\n\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
}

TEST(RequestParser, TargetsInOtherForms) {
  const auto path_of = [](std::string_view line) {
    RequestParser parser(limits);
    parser.feed(std::string(line) + " HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT_TRUE(parser.done()) << line;
    return parser.take().path;
  };
  EXPECT_EQ(path_of("GET http://h/x?y"), "/x");
  EXPECT_EQ(path_of("GET http://h"), "/");
  EXPECT_EQ(path_of("OPTIONS *"), "*");
}

// A proxy puts the target behind a server's address.
TEST(RequestParser, AnAbsoluteTargetIsKeptAsAPath) {
  for (const auto& [sent, kept] : {std::pair("http://h/x?y", "/x?y"), std::pair("http://h", "/"),
                                   std::pair("http://h?x", "/?x"), std::pair("/x%2Fy?z", "/x%2Fy?z")}) {
    RequestParser parser(limits);
    parser.feed(std::string("GET ") + sent + " HTTP/1.1\r\nHost: h\r\n\r\n");
    ASSERT_TRUE(parser.done()) << sent;
    EXPECT_EQ(parser.take().target, kept);
  }
}

TEST(RequestParser, Smuggling) {
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 6\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x5\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, gzip\r\n\r\n"), 400);
  EXPECT_EQ(
      refusal_of("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
      400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"), 400);
}

TEST(RequestParser, Malformed) {
  EXPECT_EQ(refusal_of("hello there\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of(std::string_view("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11)), 400);  // a TLS hello
  EXPECT_EQ(refusal_of("GET / HTTP/1.1\nHost: h\n\n"), 400);
  EXPECT_EQ(refusal_of("GET / HTTP/1.1\r\nHost: h\nX: y"), 400);
  EXPECT_EQ(refusal_of("GET /Content-Length: 0\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("GET / HTTP/1.1\r\n\r\n"), 400);  // no Host
  EXPECT_EQ(refusal_of("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("GET /?a=%2 HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("GET nowhere HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
  EXPECT_EQ(refusal_of("CONNECT a:443 HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
}

TEST(RequestParser, Limits) {
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\n";
  EXPECT_EQ(refusal_of(head + "X: " + std::string(3000, 'x') + "\r\n\r\n"), 431);
  EXPECT_EQ(refusal_of(head + "X: " + std::string(3000, 'x')), 431);
  EXPECT_EQ(refusal_of("GET /" + std::string(3000, 'x')), 431);
  EXPECT_EQ(refusal_of(head + "Content-Length: 101\r\n\r\n"), 413);
  EXPECT_EQ(refusal_of(head + "Content-Length: 9999999999\r\n\r\n"), 413);
  EXPECT_EQ(refusal_of(head + "Content-Length: 100\r\n\r\n" + std::string(100, 'x')), 0);
  EXPECT_EQ(refusal_of(head + "Transfer-Encoding: chunked\r\n\r\n65\r\nxx"), 413);
  EXPECT_EQ(refusal_of(head + "Transfer-Encoding: chunked\r\n\r\n32\r\n" + std::string(50, 'x') + "\r\n33\r\n"), 413);
  EXPECT_EQ(refusal_of(head + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), 413);
  EXPECT_EQ(refusal_of(head + "Transfer-Encoding: chunked\r\n\r\n1;" + std::string(100'000, 'x')), 431);
}

TEST(RequestParser, WhatIsCompressedIsRefused) {
  const auto status = [](std::string_view encoding) {
    return refusal_of("POST / HTTP/1.1\r\nHost: h\r\n" + std::string(encoding) + "Content-Length: 2\r\n\r\n{}");
  };
  EXPECT_EQ(status("Content-Encoding: gzip\r\n"), 415);
  EXPECT_EQ(status("content-encoding: identity, br\r\n"), 415);
  EXPECT_EQ(status("Content-Encoding: identity\r\nContent-Encoding: zstd\r\n"), 415);
  EXPECT_EQ(status("Content-Encoding: Identity\r\n"), 0);
  EXPECT_EQ(status("Content-Encoding:\r\n"), 0);
  EXPECT_EQ(status("Accept-Encoding: gzip\r\n"), 0);
}

TEST(RequestParser, LastChunkInPiecesOfAnySize) {
  const std::string head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string_view body :
       {"0\r\n\r\n", "0\r\nT: t\r\n\r\n", "1\r\na\r\n0\r\n\r\n", "1\r\na\r\n00\r\nT: t\r\n\r\n"}) {
    for (size_t piece = 1; piece <= body.size(); ++piece) {
      RequestParser parser(limits);
      ASSERT_EQ(parser.feed(head), head.size());
      feed_in_pieces(parser, body, piece);
      EXPECT_TRUE(parser.done()) << "in pieces of " << piece << ": " << body;
    }
  }
}

TEST(RequestParser, LimitsDoNotDependOnThePieces) {
  const std::string line = "POST /" + std::string(1500, 'p') + " HTTP/1.1\r\n";
  const std::string fields = "Host: h\r\nTransfer-Encoding: chunked\r\nX: ";
  const std::string end = "\r\n\r\n";
  const std::string fill(limits.header_bytes - line.size() - fields.size() - end.size(), 'x');
  EXPECT_EQ(refusal_of(line + fields + fill + end + "0\r\n\r\n"), 0);
  EXPECT_EQ(refusal_of(line + fields + fill + "x" + end + "0\r\n\r\n"), 431);
  EXPECT_EQ(refusal_of(line + fields + fill + end + "1;" + std::string(3000, 'x') + "\r\na\r\n0\r\n\r\n"), 431);
  EXPECT_EQ(refusal_of(line + fields + fill + end + "0\r\nT: " + std::string(3000, 'x') + end), 431);
}

TEST(RequestParser, WaitsForTheRest) {
  EXPECT_EQ(refusal_of("GET / HT"), 1);
  EXPECT_EQ(refusal_of("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab"), 1);
}

}  // namespace
}  // namespace tidemill::wire
