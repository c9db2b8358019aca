// The edges of HTTP/1.1 on a raw socket: what two programs might read differently, what is endless. For whatever takes
// requests.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::test {

struct Edge {
  const char* name;
  std::string bytes;
  int status;
};

// Behind every case: a request that must never be answered.
inline constexpr std::string_view smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

inline std::string post_request(const std::string& fields, const std::string& body = "") {
  return "POST /echo HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n" + body;
}
inline std::string chunked_request(const std::string& chunks) {
  return post_request("Transfer-Encoding: chunked\r\n", chunks);
}

inline const std::vector<Edge>& edges() {
  using namespace std::string_literals;
  static const std::vector<Edge> all = {
      // How long is the body?
      {"BothLengths", post_request("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {"BothLengthsReversed", post_request("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), 400},
      {"DifferingLengths", post_request("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), 400},
      {"RepeatedLength", post_request("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 400},
      {"ListOfLengths", post_request("Content-Length: 5, 5\r\n", "hello"), 400},
      {"SignedLength", post_request("Content-Length: +5\r\n", "hello"), 400},
      {"NegativeLength", post_request("Content-Length: -5\r\n", "hello"), 400},
      {"HexLength", post_request("Content-Length: 0x5\r\n", "hello"), 400},
      {"LengthWithBlank", post_request("Content-Length: 5 5\r\n", "hello"), 400},
      {"EmptyLength", post_request("Content-Length:\r\n", "hello"), 400},
      {"LengthBeyondCounting", post_request("Content-Length: 99999999999999999999999\r\n", "hello"), 400},
      {"XChunked", post_request("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 400},
      {"ChunkedX", post_request("Transfer-Encoding: chunkedx\r\n", "0\r\n\r\n"), 400},
      {"ChunkedTwice", post_request("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {"ChunkedAndIdentity", post_request("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), 400},
      {"GzipThenChunked", post_request("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 400},
      {"QuotedChunked", post_request("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), 400},
      {"VerticalTabChunked", post_request("Transfer-Encoding: \vchunked\r\n", "0\r\n\r\n"), 400},
      {"ChunkedIn10", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      // Lines and fields.
      {"BlankBeforeColon", post_request("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400},
      {"TabBeforeColon", post_request("Content-Length\t: 5\r\n", "hello"), 400},
      {"BareLineFeeds", "GET /hello HTTP/1.1\nHost: h\n\n", 400},
      {"OneBareLineFeed", "GET /hello HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", 400},
      {"BareLineFeedEndsTheHead", "GET /hello HTTP/1.1\r\nHost: h\r\n\n", 400},
      {"BareCarriageReturn", "GET /hello HTTP/1.1\r\nHost: h\r\nX: a\rY: b\r\n\r\n", 400},
      {"FoldedField", post_request("X: a\r\n b\r\n"), 400},
      {"FoldedLength", post_request("Content-Length:\r\n 5\r\n", "hello"), 400},
      {"FoldedFirstField", "GET /hello HTTP/1.1\r\n Host: h\r\n\r\n", 400},
      {"NulInAValue", post_request("X: a\0b\r\n"s), 400},
      {"NulInAName", post_request("X\0: b\r\n"s), 400},
      {"NulInTheTarget", "GET /hel\0lo HTTP/1.1\r\nHost: h\r\n\r\n"s, 400},
      {"DeleteInAValue", post_request("X: a\x7f\r\n"), 400},
      {"NoColon", post_request("Transfer-Encoding chunked\r\n", "0\r\n\r\n"), 400},
      {"EmptyName", post_request(": x\r\n"), 400},
      {"BlankInAName", post_request("Content Length: 5\r\n", "hello"), 400},
      {"NonAsciiName", post_request("Content-L\xc3\xa9ngth: 5\r\n", "hello"), 400},
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
      {"NoChunkSize", chunked_request("\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeNotHex", chunked_request("g\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeSigned", chunked_request("+5\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeWith0x", chunked_request("0x5\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeLeadingBlank", chunked_request(" 5\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeUnderscore", chunked_request("1_0\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkSizeOverflow", chunked_request("10000000000000005\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkTooShort", chunked_request("4\r\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkBareLineFeed", chunked_request("5\nhello\r\n0\r\n\r\n"), 400},
      {"ChunkDataBareLineFeed", chunked_request("5\r\nhello\n0\r\n\r\n"), 400},
      {"ChunkBareCarriageReturn", chunked_request("5\rhello\r\n0\r\n\r\n"), 400},
      {"LastChunkBareLineFeed", chunked_request("5\r\nhello\r\n0\n\n"), 400},
      {"ExtensionWithoutName", chunked_request("5;=x\r\nhello\r\n0\r\n\r\n"), 400},
      {"ExtensionLineFeed", chunked_request("5;a\nhello\r\n0\r\n\r\n"), 400},
      {"ExtensionNul", chunked_request("5;a=\"\0\"\r\nhello\r\n0\r\n\r\n"s), 400},
      {"ExtensionUnquoted", chunked_request("5;a=b c\r\nhello\r\n0\r\n\r\n"), 400},
      {"ExtensionQuoteLeftOpen", chunked_request("5;a=\"b\r\nhello\r\n0\r\n\r\n"), 400},
      {"TrailerWithoutColon", chunked_request("0\r\nTrailer\r\n\r\n"), 400},
      {"TrailerFolded", chunked_request("0\r\nT: a\r\n b\r\n\r\n"), 400},
      {"TrailerBlankBeforeColon", chunked_request("0\r\nT : a\r\n\r\n"), 400},
      {"TrailerNul", chunked_request("0\r\nT: \0\r\n\r\n"s), 400},
      // What is too much.
      {"GiantField", post_request("X: " + std::string(100'000, 'x') + "\r\n"), 431},
      {"GiantName", post_request(std::string(100'000, 'x') + ": x\r\n"), 431},
      {"GiantTarget", "GET /" + std::string(100'000, 'x') + " HTTP/1.1\r\nHost: h\r\n\r\n", 431},
      {"TenThousandFields",
       [] {
         std::string fields;
         for (int i = 0; i < 10'000; ++i)
           fields += "X-" + std::to_string(i) + ": y\r\n";
         return post_request(fields);
       }(),
       431},
      {"GiantExtension", chunked_request("5;a=" + std::string(100'000, 'x') + "\r\nhello\r\n0\r\n\r\n"), 431},
      {"GiantTrailer", chunked_request("0\r\nT: " + std::string(100'000, 'x') + "\r\n\r\n"), 431},
      {"EndlessChunkSize", chunked_request(std::string(100'000, '0') + "5\r\nhello\r\n0\r\n\r\n"), 431},
      {"GiantLength", post_request("Content-Length: 99999999999\r\n", "hello"), 413},
      {"GiantChunk", chunked_request("ffffffffffff\r\nhello"), 413},
  };
  return all;
}

// One answer with that status, and the end of the connection.
inline void expect_refused(const std::string& answer, int status, const std::string& how) {
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 " + std::to_string(status) + " ")) << how << ": " << answer;
  EXPECT_NE(answer.find("\r\nConnection: close\r\n"), std::string::npos) << how << ": " << answer;
  for (const char* status_class : {"HTTP/1.1 2", "HTTP/1.1 4", "HTTP/1.1 5"})
    EXPECT_EQ(answer.find(status_class, 1), std::string::npos) << how << ": a second answer: " << answer;
}

}  // namespace tidemill::test
