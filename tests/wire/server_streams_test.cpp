// Answers in pieces, and clients that go away or read slowly.
#include <algorithm>
#include <atomic>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "wire/server_fixture.hpp"
#include "wire/sse.hpp"

namespace tidemill::test {
namespace {

constexpr std::string_view get_stream = "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n";

// Handlers take their answers as named values: temporaries inside co_await expressions have met compiler bugs.
class StreamTest : public ServerTest {
 protected:
  using Result = base::Result<void>;

  StreamTest() {
    // Each wake sends one event; the one after the last ends the stream.
    router_.add("GET", "/stream", [this](Exchange& exchange) -> awaitable<void> {
      exchange.on_disconnect([this] { client_gone_.set(); });
      wire::Headers headers{{"Content-Type", std::string(wire::sse_content_type)}};
      (void)co_await exchange.begin_stream(200, headers);
      waker_.publish(exchange.waker());
      for (int i = 0; i < 2; ++i) {
        if (co_await exchange.wait() == wire::Wake::disconnected) break;
        const std::string event = wire::sse_event(std::to_string(i));
        if (!co_await exchange.write(event)) break;
      }
      if (!exchange.disconnected()) (void)co_await exchange.end();
      handler_left_.set();
    });
    // Writes until it cannot.
    router_.add("GET", "/endless", [this](Exchange& exchange) -> awaitable<void> {
      exchange.on_disconnect([this] { client_gone_.set(); });
      wire::Headers headers;
      (void)co_await exchange.begin_stream(200, headers);
      const std::string piece(64 * 1024, 'x');
      while (true) {
        const Result written = co_await exchange.write(piece);
        if (!written) {
          last_error_ = written.error().code();
          stalled_ = exchange.stalled();
          break;
        }
        written_ += piece.size();
      }
      handler_left_.set();
    });
  }
  ~StreamTest() override { stop(); }

  Flag handler_left_;
  std::atomic<size_t> written_ = 0;
  std::atomic<base::ErrorCode> last_error_ = base::ErrorCode::internal;
  std::atomic<bool> stalled_ = false;
};

TEST_F(StreamTest, PiecesArriveAsTheyAreWritten) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send(get_stream));
  const std::string head = client.read_through("\r\n\r\n");
  EXPECT_TRUE(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")) << head;
  EXPECT_NE(head.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
  const auto wake = waker_.get();
  wake();
  EXPECT_EQ(client.read_through("\n\n\r\n"), "9\r\ndata: 0\n\n\r\n");
  wake();
  EXPECT_EQ(client.read_through("0\r\n\r\n"), "9\r\ndata: 1\n\n\r\n0\r\n\r\n");
  ASSERT_TRUE(client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n"));  // the connection goes on
  EXPECT_TRUE(client.read_answer().ends_with("hello"));
  wake();  // long after the exchange: does nothing
}

TEST_F(StreamTest, Http10StreamsUntilTheEndOfTheConnection) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /stream HTTP/1.0\r\n\r\n"));
  const std::string head = client.read_through("\r\n\r\n");
  EXPECT_EQ(head.find("Transfer-Encoding"), std::string::npos);
  const auto wake = waker_.get();
  wake();
  EXPECT_EQ(client.read_through("\n\n"), "data: 0\n\n");
  wake();
  EXPECT_EQ(client.read_all(), "data: 1\n\n");
  EXPECT_FALSE(client.was_reset());
}

TEST_F(StreamTest, HeadOfAStreamHasNoBody) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\n"));
  client.read_through("\r\n\r\n");
  const auto wake = waker_.get();
  while (!handler_left_.is_set())
    wake();
  client.send("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_TRUE(client.read_answer().starts_with("HTTP/1.1 200 OK\r\n"));
}

TEST_F(StreamTest, AClosedClientIsNoticedWhileTheHandlerWaits) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send(get_stream));
  client.read_through("\r\n\r\n");
  client.close();
  EXPECT_TRUE(client_gone_.wait());
  EXPECT_TRUE(handler_left_.wait());
}

TEST_F(StreamTest, AResetClientIsNoticedWhileTheHandlerWaits) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send(get_stream));
  client.read_through("\r\n\r\n");
  client.reset();
  EXPECT_TRUE(client_gone_.wait());
  EXPECT_TRUE(handler_left_.wait());
}

TEST_F(StreamTest, AClosedClientIsNoticedBeforeAnyAnswer) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /when-told HTTP/1.1\r\nHost: h\r\n\r\n"));
  (void)waker_.get();
  client.close();
  EXPECT_TRUE(client_gone_.wait());
  wait_for_connections(0);
}

TEST_F(StreamTest, AClosedClientIsNoticedBehindPipelinedRequests) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /when-told HTTP/1.1\r\nHost: h\r\n\r\nGET /hello HTTP/1.1\r\nHost: h\r\n\r\n"));
  (void)waker_.get();
  client.close();
  EXPECT_TRUE(client_gone_.wait());
}

TEST_F(StreamTest, WritesToAClosedClientFail) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n"));
  client.read_through("\r\n\r\n");
  client.close();
  EXPECT_TRUE(handler_left_.wait());
  EXPECT_EQ(last_error_, base::ErrorCode::cancelled);
  EXPECT_TRUE(client_gone_.wait());
  EXPECT_FALSE(stalled_);
  stop();
  EXPECT_TRUE(last_unfinished_);
}

TEST_F(StreamTest, ASlowReaderHoldsItsProducerAndIsCutInTheEnd) {
  options_.write_timeout = std::chrono::milliseconds(50);
  start();
  RawClient client(server_->port(), 4096);
  ASSERT_TRUE(client.send("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_TRUE(handler_left_.wait());  // though the client neither reads nor goes
  EXPECT_EQ(last_error_, base::ErrorCode::cancelled);
  EXPECT_LT(written_, size_t{64} << 20);  // what kernel buffers hold, not what a producer could make
  EXPECT_TRUE(stalled_);
  wait_for_connections(0);
  stop();
  EXPECT_EQ(last_status_, 200);
  EXPECT_TRUE(last_unfinished_);
}

TEST_F(StreamTest, AReaderThatTakesALittleAtATimeIsCutOnlyWhenItStops) {
  options_.write_timeout = std::chrono::milliseconds(1);
  // Of a client that takes a byte before each of ten deadlines, too little for the socket to be written again.
  std::atomic<int> looks = 0;
  options_.untaken = [&](int /*socket*/) -> std::optional<int64_t> { return 100 - std::min(looks++, 10); };
  start();
  RawClient client(server_->port(), 4096);
  ASSERT_TRUE(client.send("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_TRUE(handler_left_.wait());
  EXPECT_TRUE(stalled_);
  stop();
  EXPECT_GE(looks, 12) << "the last two find the same";
}

TEST_F(StreamTest, AReaderOfWhomTheSystemSaysNothingIsCut) {
  options_.write_timeout = std::chrono::milliseconds(1);
  options_.untaken = [](int /*socket*/) { return std::optional<int64_t>(); };
  start();
  RawClient client(server_->port(), 4096);
  ASSERT_TRUE(client.send("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_TRUE(handler_left_.wait());
  EXPECT_TRUE(stalled_);
}

TEST_F(StreamTest, ASteadyReaderGetsAllOfALargeAnswer) {
  const std::string large(20'000'000, 'y');
  router_.add("GET", "/large", [&](Exchange& exchange) -> awaitable<void> {
    HttpResponse response = HttpResponse::text(200, large);
    (void)co_await exchange.respond(std::move(response));
  });
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /large HTTP/1.1\r\nHost: h\r\n\r\n"));
  const std::string answer = client.read_answer();
  EXPECT_EQ(answer.substr(answer.find("\r\n\r\n") + 4), large);
}

TEST_F(StreamTest, AHandlerThatFailsInMidStreamCutsTheConnection) {
  router_.add("GET", "/breaks", [](Exchange& exchange) -> awaitable<void> {
    wire::Headers headers;
    (void)co_await exchange.begin_stream(200, headers);
    (void)co_await exchange.write("some");
    throw std::runtime_error("broken");
  });
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /breaks HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_EQ(client.read_all().find("0\r\n\r\n"), std::string::npos);
  RawClient old = connect();
  ASSERT_TRUE(old.send("GET /breaks HTTP/1.0\r\n\r\n"));
  old.read_all();
  EXPECT_TRUE(old.was_reset());  // an orderly end would look like a complete answer
}

TEST_F(StreamTest, WaitTimesOutForKeepAliveComments) {
  router_.add("GET", "/pings", [](Exchange& exchange) -> awaitable<void> {
    wire::Headers headers;
    (void)co_await exchange.begin_stream(200, headers);
    const wire::Wake wake = co_await exchange.wait(std::chrono::milliseconds(5));
    const std::string comment = wire::sse_comment(wake == wire::Wake::timed_out ? "ping" : "something else");
    (void)co_await exchange.write(comment);
    (void)co_await exchange.end();
  });
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /pings HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_TRUE(client.read_through("0\r\n\r\n").ends_with("8\r\n: ping\n\n\r\n0\r\n\r\n"));
}

TEST_F(StreamTest, AWakeBeforeTheWaitIsKept) {
  router_.add("GET", "/early", [](Exchange& exchange) -> awaitable<void> {
    const auto wake = exchange.waker();
    std::thread producer([wake] {
      for (int i = 0; i < 1000; ++i)
        wake();
    });
    producer.join();
    HttpResponse response = HttpResponse::text(200, co_await exchange.wait() == wire::Wake::woken ? "woken" : "lost");
    (void)co_await exchange.respond(std::move(response));
  });
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /early HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_TRUE(client.read_answer().ends_with("woken"));
}

// What can be written without waiting is, and the rest follows it byte for byte.
TEST_F(StreamTest, WhatIsWrittenAtOnceGoesOnWhereItStopped) {
  std::vector<std::string> pieces;
  for (size_t i = 0; i < 100; ++i)
    pieces.emplace_back(1 + i * 3001, static_cast<char>('a' + i % 26));
  std::atomic<int> waits = 0;
  Flag full;
  router_.add("GET", "/pieces", [&](Exchange& exchange) -> awaitable<void> {
    wire::Headers headers;
    (void)co_await exchange.begin_stream(200, headers);
    for (const std::string& piece : pieces) {
      auto done = exchange.write_now(piece);
      if (!done) {
        ++waits;
        full.set();
        done = co_await exchange.write_rest();
        if (*done) done = co_await exchange.write_rest();  // of which nothing is left
      }
      if (!*done) co_return;
    }
    const auto nothing = exchange.write_now("");
    if (nothing && *nothing) (void)co_await exchange.end();
  });
  start();
  RawClient client(server_->port(), 4096);
  ASSERT_TRUE(client.send("GET /pieces HTTP/1.0\r\n\r\n"));
  ASSERT_TRUE(full.wait()) << "the client reads nothing until then";
  const std::string answer = client.read_all();
  std::string whole;
  for (const std::string& piece : pieces)
    whole += piece;
  EXPECT_TRUE(answer.substr(answer.find("\r\n\r\n") + 4) == whole);
  EXPECT_FALSE(client.was_reset());
  EXPECT_GE(waits, 1);
  stop();
}

TEST_F(StreamTest, WakersOfManyThreadsRaceTheEndsOfExchanges) {
  start();
  for (int round = 0; round < 50; ++round) {
    RawClient client = connect();
    ASSERT_TRUE(client.send(get_stream));
    const auto wake = waker_.get();
    std::vector<std::thread> wakers;
    for (int i = 0; i < 3; ++i) {
      wakers.emplace_back([&wake] {
        for (int n = 0; n < 200; ++n)
          wake();
      });
    }
    if (round % 2 == 0) client.close();
    for (auto& thread : wakers)
      thread.join();
  }
  stop();
}

TEST_F(StreamTest, MisuseIsAnErrorAndNotACrash) {
  std::string outcome;
  router_.add("GET", "/misuse", [&](Exchange& exchange) -> awaitable<void> {
    outcome += (co_await exchange.write("x")) ? "+" : "-";
    const auto early = exchange.write_now("x");
    outcome += early && *early ? "+" : "-";
    outcome += (co_await exchange.end()) ? "+" : "-";
    HttpResponse first = HttpResponse::text(200, "first");
    outcome += (co_await exchange.respond(std::move(first))) ? "+" : "-";
    HttpResponse second = HttpResponse::text(200, "second");
    outcome += (co_await exchange.respond(std::move(second))) ? "+" : "-";
    wire::Headers headers;
    outcome += (co_await exchange.begin_stream(200, headers)) ? "+" : "-";
  });
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /misuse HTTP/1.1\r\nHost: h\r\n\r\n"));
  EXPECT_TRUE(client.read_answer().ends_with("first"));
  stop();
  EXPECT_EQ(outcome, "---+--");
}

}  // namespace
}  // namespace tidemill::test
