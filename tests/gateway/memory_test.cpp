// What requests leave behind in a gateway (nothing), and what an open stream takes. `make soak` looks at the process
// for an hour, `make hop` at ten thousand streams.
#include <atomic>
#include <chrono>
#include <deque>
#include <malloc.h>
#include <string>

#include <gtest/gtest.h>

#include "gateway/fleet_fixture.hpp"
#include "sanitized.hpp"
#include "wire/http_server.hpp"
#include "wire/server_fixture.hpp"

namespace tidemill::test {
namespace {

namespace asio = boost::asio;

constexpr std::string_view one_word = R"({"choices":[{"index":0,"delta":{"content":"a word"},"finish_reason":null}]})";

// Bytes that are allocated, over all arenas.
int64_t allocated() {
  return static_cast<int64_t>(mallinfo2().uordblks);
}

class GatewayMemory : public FleetFixture {
 protected:
  void SetUp() override {
    if (sanitized) GTEST_SKIP() << "sanitizers have an allocator of their own";
    wire::Router router;
    const auto say = [](std::string text) {
      return [text](wire::Exchange& exchange) -> asio::awaitable<void> {
        wire::HttpResponse response = wire::HttpResponse::json(200, text);
        (void)co_await exchange.respond(std::move(response));
      };
    };
    router.add("GET", "/ready", say("{}"));
    router.add("GET", "/metrics", say(""));
    router.add("GET", "/v1/models", say(R"({"data":[{"id":"m"}]})"));
    router.add("POST", "/v1/chat/completions", [](wire::Exchange& exchange) { return chat(exchange); });
    wire::HttpServerOptions http;
    http.io_threads = 1;
    auto started = wire::HttpServer::start(http, std::move(router));
    ASSERT_TRUE(started);
    server = std::move(*started);
    options.backends.push_back({.url = server->url()});
    options.trace_ring = 64;
    start();
  }

  static asio::awaitable<void> chat(wire::Exchange& exchange) {
    const std::string body = exchange.request().body;
    if (body.find("\"stream\":true") == std::string::npos) {
      wire::HttpResponse response =
          wire::HttpResponse::json(200, R"({"choices":[{"message":{"content":")" + std::string(700, 'x') +
                                            R"("}}],"usage":{"prompt_tokens":10,"completion_tokens":10}})");
      (void)co_await exchange.respond(std::move(response));
      co_return;
    }
    const wire::Headers headers{{"Content-Type", std::string(wire::sse_content_type)}};
    if (!co_await exchange.begin_stream(200, headers)) co_return;
    const std::string event = wire::sse_event(one_word);
    for (int i = 0; i < 8; ++i) {
      if (!co_await exchange.write(event)) co_return;
    }
    if (body.find("silence") != std::string::npos) {
      while (co_await exchange.wait() != wire::Wake::disconnected) {
      }
    }
    const std::string done = wire::sse_event("[DONE]");
    if (co_await exchange.write(done)) (void)co_await exchange.end();
  }

  static std::string question(int number, const char* more) {
    return R"({"model":"m","messages":[{"role":"user","content":"question )" + std::to_string(number) +
           std::string(800, 'q') + R"("}])" + more + "}";
  }

  std::unique_ptr<wire::HttpServer> server;
};

TEST_F(GatewayMemory, StaysFlatUnderRequests) {
  const auto ask = [this](int times) {
    for (int i = 0; i < times; ++i)
      EXPECT_EQ(post("/v1/chat/completions", question(i % 50, i % 4 == 0 ? R"(,"stream":true)" : "")).status, 200);
  };
  ask(600);  // until its bounded rings and caches are full
  const int64_t before = allocated();
  ask(2000);
  // Less than 16 bytes a request.
  EXPECT_LT(allocated() - before, 32'000);
}

TEST_F(GatewayMemory, AnOpenStreamIsSmall) {
  constexpr int streams = 200;
  const std::string body = question(1, R"(,"stream":true,"user":"silence")");
  const std::string request = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" +
                              ("Content-Length: " + std::to_string(body.size())) + "\r\n\r\n" + body;
  std::deque<RawClient> clients;
  const auto open = [&](int count) {
    for (int i = 0; i < count; ++i) {
      RawClient& client = clients.emplace_back(gateway->port());
      ASSERT_TRUE(client.send(request));
    }
    for (int i = 0; i < count; ++i)
      clients[clients.size() - 1 - static_cast<size_t>(i)].read_through("a word");
  };
  open(20);
  const int64_t before = allocated();
  open(streams);
  // Ten thousand of them are to fit into 500 MB (50 KB each); this counts the backend's side of each, and the client's,
  // as well.
  EXPECT_LT((allocated() - before) / streams, 40'000);
}

class GatewayFlood : public FleetFixture {};

// The gateway keeps none of what its client does not read: a backend that says more has to wait.
TEST_F(GatewayFlood, AClientThatDoesNotReadHoldsTheBackend) {
  constexpr size_t most = size_t{256} << 20;
  std::atomic<size_t> written = 0;
  Flag held;
  wire::Router router;
  const auto say = [](std::string text) {
    return [text](wire::Exchange& exchange) -> asio::awaitable<void> {
      wire::HttpResponse response = wire::HttpResponse::json(200, text);
      (void)co_await exchange.respond(std::move(response));
    };
  };
  router.add("GET", "/ready", say("{}"));
  router.add("GET", "/metrics", say(""));
  router.add("GET", "/v1/models", say(R"({"data":[{"id":"m"}]})"));
  router.add("POST", "/v1/chat/completions", [&](wire::Exchange& exchange) -> asio::awaitable<void> {
    const wire::Headers headers{{"Content-Type", std::string(wire::sse_content_type)}};
    if (!co_await exchange.begin_stream(200, headers)) co_return;
    const std::string event = wire::sse_event(one_word);
    std::string events;
    while (events.size() < size_t{64} << 10)
      events += event;
    while (written < most) {
      if (!co_await exchange.write(events)) break;
      written += events.size();
    }
    held.set();
  });
  wire::HttpServerOptions http;
  http.io_threads = 1;
  http.write_timeout = std::chrono::milliseconds(100);  // so that the backend says when it is held
  auto backend = wire::HttpServer::start(http, std::move(router));
  ASSERT_TRUE(backend) << backend.error().to_string();
  options.backends.push_back({.url = (*backend)->url()});
  start();
  RawClient client(gateway->port(), 4096);
  const std::string body = R"({"model":"m","messages":[{"role":"user","content":"x"}],"stream":true})";
  ASSERT_TRUE(client.send(raw_post("/v1/chat/completions", body)));
  EXPECT_TRUE(held.wait());
  EXPECT_LT(written, most);
}

}  // namespace
}  // namespace tidemill::test
