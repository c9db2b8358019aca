// Each edge of HTTP/1.1 is refused with the right status and the connection closed, and nothing of it, nor what follows
// it, reaches a handler.
#include "wire/request_edges.hpp"

#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "wire/server_fixture.hpp"

namespace tidemill::test {
namespace {

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

// A byte before each timeout: what counts is how far the body is behind the least rate.
TEST_F(AllowedTest, ABodyThatDripsHasItsLimitToo) {
  options_.body_timeout = std::chrono::milliseconds(60);
  options_.min_body_rate = uint64_t{1} << 50;
  start();
  for (const char* framing : {"Content-Length: 30000000", "Transfer-Encoding: chunked"}) {
    RawClient body = connect();
    ASSERT_TRUE(body.send("POST /echo HTTP/1.1\r\nHost: h\r\n" + std::string(framing) + "\r\n\r\n"));
    if (std::string_view(framing).starts_with("T")) body.send("ffffff\r\n");
    while (body.send("x") && !body.has_input())
      std::this_thread::yield();
    expect_refused(body.read_all(), 408, framing);
  }
}

// One that keeps to the rate may take many times the timeout.
TEST_F(AllowedTest, ASlowBodyThatMovesIsTaken) {
  options_.body_timeout = std::chrono::seconds(10);
  options_.min_body_rate = 1;
  start();
  RawClient body = connect();
  ASSERT_TRUE(body.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n"));
  for (int i = 0; i < 1000; ++i)
    ASSERT_TRUE(body.send("x"));
  EXPECT_TRUE(body.read_answer().ends_with(std::string(1000, 'x')));
}

}  // namespace
}  // namespace tidemill::test
