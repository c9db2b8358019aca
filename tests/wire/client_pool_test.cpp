// Kept connections, what is known of a request that failed, limits in time and number, bodies in pieces.
#include "wire/client_pool.hpp"

#include <array>
#include <optional>
#include <string>
#include <utility>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <gtest/gtest.h>

#include "wire/scripted_server.hpp"
#include "wire/server_fixture.hpp"

namespace tidemill::test {
namespace {

namespace asio = boost::asio;
using base::ErrorCode;
using wire::Cancellation;
using wire::ClientPool;
using wire::ClientStream;
using wire::OutgoingRequest;
using wire::PoolOptions;
using wire::SendReport;
using wire::Url;

constexpr std::string_view kept_answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

// What came of one request.
struct Outcome {
  int status = 0;
  std::string body;
  std::optional<ErrorCode> error;
  std::string message;
  SendReport report;
};

class PoolTest : public ServerTest {
 public:
  ~PoolTest() override { pool_.reset(); }

  ClientPool& pool() {
    if (!pool_) pool_.emplace(pool_options_);
    return *pool_;
  }
  // Runs to its end on this thread.
  void run(asio::awaitable<void> work) {
    bool ended = false;
    asio::co_spawn(io_, std::move(work), [&](std::exception_ptr failure) {
      ended = true;
      io_.stop();
      if (failure) std::rethrow_exception(failure);
    });
    io_.restart();
    io_.run_for(patience);
    ASSERT_TRUE(ended);
  }
  static asio::awaitable<void> collect(ClientStream& stream, Outcome& outcome) {
    outcome.status = stream.head().status;
    while (true) {
      const auto piece = co_await stream.next();
      if (!piece) {
        outcome.error = piece.error().code();
        outcome.message = piece.error().to_string();
      }
      if (!piece || piece->empty()) break;
      outcome.body += *piece;
    }
  }
  asio::awaitable<void> send(OutgoingRequest request, Outcome& outcome) {
    auto stream = co_await pool().open(request, &outcome.report);
    if (!stream) {
      outcome.error = stream.error().code();
      outcome.message = stream.error().to_string();
      co_return;
    }
    co_await collect(*stream, outcome);
  }
  Outcome get(const std::string& url, bool repeatable = false) {
    const Url to = *Url::parse(url);
    Outcome outcome;
    OutgoingRequest request;
    request.to = &to;
    request.repeatable = repeatable;
    request.timeouts = timeouts_;
    run(send(request, outcome));
    return outcome;
  }

  PoolOptions pool_options_;
  wire::RequestTimeouts timeouts_;
  asio::io_context io_{1};
  std::optional<ClientPool> pool_;
};

TEST_F(PoolTest, KeepsAConnectionForTheNextRequest) {
  start();
  for (int i = 0; i < 10; ++i) {
    const Outcome outcome = get(server_->url() + "/hello");
    ASSERT_FALSE(outcome.error) << outcome.message;
    EXPECT_EQ(outcome.body, "hello");
    EXPECT_EQ(outcome.report.reused, i > 0);
    EXPECT_TRUE(outcome.report.request_sent && outcome.report.answer_began && !outcome.report.repeated);
    EXPECT_EQ(pool().idle_connections(), 1U);
  }
  EXPECT_EQ(server_->connections(), 1U);
}

TEST_F(PoolTest, WithoutIdleOnesEveryRequestSaysThatItCloses) {
  pool_options_.max_idle = 0;
  std::string head;
  ScriptedServer server({[&](ScriptedConnection& connection) {
    head = connection.read_head();
    connection.send(kept_answer);
  }});
  EXPECT_EQ(get(server.url("/x?y=1")).body, "hello");
  server.join();
  EXPECT_EQ(head, "GET /x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(server.port()) +
                      "\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(pool().idle_connections(), 0U);
}

TEST_F(PoolTest, AConnectionThatTheServerClosedWhileItWaitedIsNotUsed) {
  Flag closed;
  ScriptedServer server({[&](ScriptedConnection& connection) {
                           connection.read_head();
                           connection.send(kept_answer);
                           connection.close();
                           closed.set();
                         },
                         [](ScriptedConnection& connection) {
                           connection.read_head();
                           connection.send(kept_answer);
                         }});
  EXPECT_EQ(get(server.url()).body, "hello");
  ASSERT_TRUE(closed.wait());
  const Outcome second = get(server.url());
  EXPECT_EQ(second.body, "hello");
  EXPECT_FALSE(second.report.reused);
  EXPECT_FALSE(second.report.repeated);
}

// The server takes the second request on the kept connection and closes it without a word: the race that no liveness
// check wins.
std::vector<ScriptedServer::Script> closes_at_the_second_request() {
  return {[](ScriptedConnection& connection) {
            connection.read_head();
            connection.send(kept_answer);
            connection.read_head();
          },
          [](ScriptedConnection& connection) {
            connection.read_head();
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain");
          }};
}

TEST_F(PoolTest, AStaleConnectionIsReplacedIfTheRequestMayBeRepeated) {
  ScriptedServer server(closes_at_the_second_request());
  EXPECT_EQ(get(server.url()).body, "hello");
  const Outcome second = get(server.url(), true);
  EXPECT_EQ(second.body, "again") << second.message;
  EXPECT_TRUE(second.report.repeated && !second.report.reused && second.report.request_sent);
  EXPECT_EQ(second.report.sends, 2);
  EXPECT_TRUE(second.report.connected);
  EXPECT_EQ(server.accepted(), 2);
}

TEST_F(PoolTest, AStaleConnectionIsReportedIfTheRequestMayNotBeRepeated) {
  ScriptedServer server(closes_at_the_second_request());
  EXPECT_EQ(get(server.url()).body, "hello");
  const Outcome second = get(server.url(), false);
  EXPECT_EQ(second.error, ErrorCode::unavailable);
  EXPECT_TRUE(second.report.reused && second.report.request_sent);
  EXPECT_FALSE(second.report.repeated || second.report.answer_began);
  EXPECT_EQ(second.report.sends, 1);
  EXPECT_EQ(server.accepted(), 1);
}

TEST_F(PoolTest, NothingIsRepeatedOnceAnAnswerBegan) {
  ScriptedServer server({[](ScriptedConnection& connection) {
    connection.read_head();
    connection.send(kept_answer);
    connection.read_head();
    connection.send("HTTP/1.1 200");
  }});
  EXPECT_EQ(get(server.url()).body, "hello");
  const Outcome second = get(server.url(), true);
  EXPECT_EQ(second.error, ErrorCode::unavailable);
  EXPECT_TRUE(second.report.reused && second.report.answer_began);
  EXPECT_FALSE(second.report.repeated);
}

TEST_F(PoolTest, AFreshConnectionThatFailsIsNotRepeated) {
  ScriptedServer server({[](ScriptedConnection& connection) { connection.read_head(); }});
  const Outcome outcome = get(server.url(), true);
  EXPECT_EQ(outcome.error, ErrorCode::unavailable);
  EXPECT_TRUE(outcome.report.request_sent);
  EXPECT_TRUE(outcome.report.connected);
  EXPECT_FALSE(outcome.report.reused || outcome.report.repeated);
}

TEST_F(PoolTest, NobodyThereMeansThatNothingWasSent) {
  uint16_t port = 0;
  {
    const ScriptedServer server({});
    port = server.port();
  }
  const Outcome outcome = get("http://127.0.0.1:" + std::to_string(port) + "/");
  EXPECT_EQ(outcome.error, ErrorCode::unavailable);
  EXPECT_FALSE(outcome.report.request_sent || outcome.report.connected);
}

TEST_F(PoolTest, ConnectionsThatCannotServeAgainAreNotKept) {
  for (const std::string_view answer :
       {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n"}) {
    ScriptedServer server({[answer](ScriptedConnection& connection) {
      connection.read_head();
      connection.send(answer);
    }});
    EXPECT_EQ(get(server.url()).body, "hello") << answer;
    EXPECT_EQ(pool().idle_connections(), 0U) << answer;
  }
}

TEST_F(PoolTest, AnswersWithoutABodyAreCompleteAtOnce) {
  for (const std::string_view answer :
       {"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 x\r\n\r\n"}) {
    ScriptedServer server({[answer](ScriptedConnection& connection) {
      connection.read_head();
      connection.send(answer);
      connection.read_to_end();
    }});
    const Outcome outcome = get(server.url());
    EXPECT_FALSE(outcome.error) << outcome.message;
    EXPECT_EQ(outcome.body, "");
    EXPECT_EQ(pool().idle_connections(), 1U) << answer;
    pool_.reset();
    io_.restart();
    io_.poll();  // closes what was idle
  }
}

TEST_F(PoolTest, ChunksAreJoinedAndCheckedUpToTheEnd) {
  std::string chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  std::string body;
  for (int i = 0; i < 3000; ++i) {
    const std::string piece = "data: " + std::to_string(i) + "\n\n";
    body += piece;
    chunks +=
        std::to_string(piece.size() / 16) + "0123456789abcdef"[piece.size() % 16] + ";ext=\"a;b\"\r\n" + piece + "\r\n";
  }
  chunks += "0\r\nTrailer: t\r\n\r\n";
  ScriptedServer server({[&](ScriptedConnection& connection) {
    connection.read_head();
    connection.send(chunks);
    connection.read_to_end();
  }});
  const Outcome outcome = get(server.url());
  EXPECT_FALSE(outcome.error) << outcome.message;
  EXPECT_EQ(outcome.body, body);
  EXPECT_EQ(pool().idle_connections(), 1U);
  pool_.reset();
  io_.restart();
  io_.poll();
}

TEST_F(PoolTest, AStringIsOneChunk) {
  ScriptedServer server({[](ScriptedConnection& connection) {
    connection.read_head();
    connection.send(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n");
    connection.read_to_end();
  }});
  const Url to = *Url::parse(server.url());
  std::string seen;
  run([](ClientPool& from, const Url& url, std::string& out) -> asio::awaitable<void> {
    OutgoingRequest request;
    request.to = &url;
    auto stream = co_await from.open(request);
    while (stream) {
      const auto piece = co_await stream->read();
      if (!piece || !piece->has_value()) break;
      out += **piece + "|";
    }
  }(pool(), to, seen));
  EXPECT_EQ(seen, "one|two|three|");
  EXPECT_EQ(pool().idle_connections(), 1U);
  pool_.reset();
  io_.restart();
  io_.poll();
}

TEST_F(PoolTest, ACancelledCoroutineHangsUp) {
  start();
  const Url told = *Url::parse(server_->url() + "/when-told");
  OutgoingRequest request;
  request.to = &told;
  Outcome outcome;
  asio::cancellation_signal signal;
  bool ended = false;
  asio::co_spawn(io_, send(request, outcome), asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr) {
                   ended = true;
                   io_.stop();
                 }));
  std::thread canceller([&] {
    (void)waker_.get();
    asio::post(io_, [&] { signal.emit(asio::cancellation_type::terminal); });
  });
  io_.run_for(patience);
  canceller.join();
  EXPECT_TRUE(ended);
  EXPECT_EQ(outcome.error, ErrorCode::cancelled) << outcome.message;
  EXPECT_TRUE(client_gone_.wait());
}

TEST_F(PoolTest, AnswersThatAreNotHttpAreCorrupt) {
  for (const std::string_view answer :
       {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", "HTTP/1.1 200 OK\nX: y\n\n", "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "220 smtp.example ESMTP\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 x\r\nhello\r\n0\r\n\r\n"}) {
    ScriptedServer server({[answer](ScriptedConnection& connection) {
      connection.read_head();
      connection.send(answer);
    }});
    const Outcome outcome = get(server.url(), true);
    EXPECT_EQ(outcome.error, ErrorCode::corrupt) << answer << outcome.message;
    EXPECT_EQ(pool().idle_connections(), 0U);
  }
}

TEST_F(PoolTest, AtTheLimitARequestWaitsForAPlace) {
  pool_options_.max_connections = 1;
  start();
  const Url told = *Url::parse(server_->url() + "/when-told");
  const Url hello = *Url::parse(server_->url() + "/hello");
  OutgoingRequest slow;
  slow.to = &told;
  OutgoingRequest quick;
  quick.to = &hello;
  Outcome first;
  std::array<Outcome, 3> others;
  int left = 4;
  const auto finish = [&](std::exception_ptr) {
    if (--left == 0) io_.stop();
  };
  asio::co_spawn(io_, send(slow, first), finish);
  for (Outcome& outcome : others)
    asio::co_spawn(io_, send(quick, outcome), finish);
  std::thread waker([this] { waker_.get()(); });
  io_.run_for(patience);
  waker.join();
  EXPECT_EQ(left, 0);
  EXPECT_EQ(first.body, "woken");
  for (const Outcome& outcome : others) {
    EXPECT_EQ(outcome.body, "hello") << outcome.message;
    EXPECT_TRUE(outcome.report.reused);
  }
  EXPECT_EQ(server_->connections(), 1U);
}

TEST_F(PoolTest, WithoutAPlaceInTimeThePoolIsExhausted) {
  pool_options_.max_connections = 1;
  start();
  const Url told = *Url::parse(server_->url() + "/when-told");
  OutgoingRequest slow;
  slow.to = &told;
  OutgoingRequest late = slow;
  late.timeouts.connect = std::chrono::milliseconds(20);
  Outcome outcome;
  run([](PoolTest& test, OutgoingRequest holds, OutgoingRequest waits, Outcome& seen) -> asio::awaitable<void> {
    Cancellation cancellation;
    holds.cancellation = &cancellation;
    Outcome held;
    bool ended = false;
    asio::co_spawn(test.io_, test.send(holds, held), [&ended](std::exception_ptr) { ended = true; });
    co_await test.send(waits, seen);
    cancellation.cancel();
    while (!ended)
      co_await asio::post(test.io_, asio::use_awaitable);
    EXPECT_EQ(held.error, ErrorCode::cancelled);
  }(*this, slow, late, outcome));
  EXPECT_EQ(outcome.error, ErrorCode::exhausted) << outcome.message;
  EXPECT_FALSE(outcome.report.request_sent);
}

TEST_F(PoolTest, SilenceBeforeTheAnswerTimesOut) {
  start();
  timeouts_.first_byte = std::chrono::milliseconds(20);
  const Outcome outcome = get(server_->url() + "/when-told", true);
  EXPECT_EQ(outcome.error, ErrorCode::timeout);
  EXPECT_TRUE(outcome.report.request_sent);
  EXPECT_FALSE(outcome.report.answer_began);
  EXPECT_TRUE(client_gone_.wait());
}

TEST_F(PoolTest, SilenceInTheBodyTimesOut) {
  timeouts_.idle = std::chrono::milliseconds(20);
  ScriptedServer server({[](ScriptedConnection& connection) {
    connection.read_head();
    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
    connection.read_to_end();
  }});
  const Outcome outcome = get(server.url());
  EXPECT_EQ(outcome.error, ErrorCode::timeout);
  EXPECT_EQ(outcome.body, "hel");
}

TEST_F(PoolTest, AHandshakeThatDoesNotEndTimesOut) {
  timeouts_.connect = std::chrono::milliseconds(20);
  ScriptedServer server({[](ScriptedConnection& connection) { connection.read_to_end(); }});
  const Outcome outcome = get("https://127.0.0.1:" + std::to_string(server.port()) + "/");
  EXPECT_EQ(outcome.error, ErrorCode::timeout);
  EXPECT_FALSE(outcome.report.request_sent);
}

TEST_F(PoolTest, CancellingHangsUp) {
  start();
  const Url told = *Url::parse(server_->url() + "/when-told");
  Cancellation cancellation;
  OutgoingRequest request;
  request.to = &told;
  request.cancellation = &cancellation;
  Outcome outcome;
  std::thread canceller([&] {
    (void)waker_.get();  // the server is at work on it
    asio::post(io_, [&] { cancellation.cancel(); });
  });
  run(send(request, outcome));
  canceller.join();
  EXPECT_EQ(outcome.error, ErrorCode::cancelled);
  EXPECT_TRUE(client_gone_.wait());
  Outcome again;
  run(send(request, again));  // stays cancelled
  EXPECT_EQ(again.error, ErrorCode::cancelled);
  EXPECT_FALSE(again.report.request_sent);
}

TEST_F(PoolTest, DroppingAStreamHangsUp) {
  router_.add("GET", "/stream", [this](Exchange& exchange) -> awaitable<void> {
    exchange.on_disconnect([this] { client_gone_.set(); });
    wire::Headers headers;
    (void)co_await exchange.begin_stream(200, headers);
    (void)co_await exchange.write("x");
    while (co_await exchange.wait() != wire::Wake::disconnected) {
    }
  });
  start();
  const Url to = *Url::parse(server_->url() + "/stream");
  run([](ClientPool& from, const Url& url) -> asio::awaitable<void> {
    OutgoingRequest request;
    request.to = &url;
    auto stream = co_await from.open(request);
    EXPECT_TRUE(stream);
    if (!stream) co_return;
    const auto piece = co_await stream->next();
    EXPECT_TRUE(piece && *piece == "x" && !stream->complete());
  }(pool(), to));
  EXPECT_TRUE(client_gone_.wait());
  EXPECT_EQ(pool().idle_connections(), 0U);
}

TEST_F(PoolTest, NamesAreResolvedOnceForAWhile) {
  start();
  const std::string url = "http://localhost:" + std::to_string(server_->port()) + "/hello";
  EXPECT_EQ(get(url).body, "hello");
  EXPECT_EQ(get(url).body, "hello");
  const Outcome nowhere = get("http://no-such-host.invalid/");
  EXPECT_EQ(nowhere.error, ErrorCode::unavailable);
  EXPECT_NE(nowhere.message.find("cannot resolve no-such-host.invalid"), std::string::npos) << nowhere.message;
}

TEST_F(PoolTest, WhatCannotBeSentIsRefused) {
  const Url to = *Url::parse("http://127.0.0.1:1/");
  const auto code_of = [&](OutgoingRequest request) {
    request.to = &to;
    Outcome outcome;
    run(send(request, outcome));
    return outcome.error;
  };
  const wire::Headers forged{{"X", "a\r\nY: b"}};
  OutgoingRequest request;
  request.headers = &forged;
  EXPECT_EQ(code_of(request), ErrorCode::invalid_argument);
  OutgoingRequest method;
  method.method = "GET /";
  EXPECT_EQ(code_of(method), ErrorCode::invalid_argument);
  OutgoingRequest target;
  target.target = "/ HTTP/1.1\r\nX: y";
  EXPECT_EQ(code_of(target), ErrorCode::invalid_argument);
}

TEST_F(PoolTest, OutlivesItsContextAndIsOutlivedByIt) {
  start();
  const Url to = *Url::parse(server_->url() + "/hello");
  OutgoingRequest request;
  request.to = &to;
  std::optional<ClientPool> first(std::in_place);
  {
    asio::io_context io(1);
    const auto fetch = [](ClientPool& from, const OutgoingRequest& what) -> asio::awaitable<void> {
      auto stream = co_await from.open(what);
      EXPECT_TRUE(stream && (co_await stream->next()).has_value());
    };
    ClientPool second;
    asio::co_spawn(io, fetch(*first, request), [&](std::exception_ptr) {
      asio::co_spawn(io, fetch(second, request), [&](std::exception_ptr) { io.stop(); });
    });
    io.run_for(patience);
    EXPECT_EQ(first->idle_connections() + second.idle_connections(), 2U);
  }
  EXPECT_EQ(first->idle_connections(), 0U);
  first.reset();
  wait_for_connections(0);
}

}  // namespace
}  // namespace tidemill::test
