// What one connection is told: framing, limits, routes, in raw bytes.
#include <gtest/gtest.h>

#include "base/json.hpp"
#include "wire/listener_options.hpp"
#include "wire/server_fixture.hpp"

namespace tidemill::test {
namespace {

using ::testing::AssertionFailure;
using ::testing::AssertionResult;
using ::testing::AssertionSuccess;
using RequestTest = ServerTest;

AssertionResult begins(const std::string& text, std::string_view with) {
  return text.starts_with(with) ? AssertionSuccess() : AssertionFailure() << "begins otherwise: " << text;
}
AssertionResult holds(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos ? AssertionSuccess()
                                              : AssertionFailure() << "lacks " << part << ": " << text;
}
AssertionResult lacks(const std::string& text, std::string_view part) {
  return text.find(part) == std::string::npos ? AssertionSuccess()
                                              : AssertionFailure() << "holds " << part << ": " << text;
}
std::string body_of(const std::string& answer) {
  return answer.substr(answer.find("\r\n\r\n") + 4);
}

// A refusal has OpenAI's error object and ends the connection.
void expect_refusal(const std::string& answer, std::string_view status_line) {
  EXPECT_TRUE(begins(answer, status_line));
  EXPECT_TRUE(holds(answer, "Connection: close\r\n"));
  const auto body = base::parse_json(body_of(answer));
  ASSERT_TRUE(body) << answer;
  const auto& error = body->as_object().at("error").as_object();
  EXPECT_FALSE(error.at("message").as_string().empty());
  EXPECT_TRUE(error.contains("type") && error.contains("param") && error.contains("code"));
}

TEST_F(RequestTest, KeepsTheConnectionForFurtherRequests) {
  start();
  RawClient client = connect();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client.send(get_hello));
    const std::string answer = client.read_answer();
    EXPECT_TRUE(begins(answer, "HTTP/1.1 200 OK\r\n"));
    EXPECT_TRUE(holds(answer, "\r\nDate: "));
    EXPECT_TRUE(lacks(answer, "Connection:"));
    EXPECT_EQ(body_of(answer), "hello");
  }
}

TEST_F(RequestTest, PipelinedRequestsAreAnsweredInOrder) {
  start();
  std::string requests;
  for (int i = 0; i < 200; ++i) {
    const std::string body = "body " + std::to_string(i);
    requests += "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  RawClient client = connect();
  ASSERT_TRUE(client.send(requests));
  for (int i = 0; i < 200; ++i)
    ASSERT_EQ(body_of(client.read_answer()), "body " + std::to_string(i));
}

TEST_F(RequestTest, BytesThatArriveWhileAHandlerRunsAreNotLost) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /when-told HTTP/1.1\r\nHost: h\r\n\r\n"));
  const auto wake = waker_.get();
  ASSERT_TRUE(client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nbeh"));
  wake();
  EXPECT_EQ(body_of(client.read_answer()), "woken");
  ASSERT_TRUE(client.send("ind"));
  EXPECT_EQ(body_of(client.read_answer()), "behind");
}

TEST_F(RequestTest, MorePipelinedThanTheBufferHolds) {
  options_.max_header_bytes = 1024;
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /when-told HTTP/1.1\r\nHost: h\r\n\r\n"));
  const auto wake = waker_.get();
  // A few hundred kilobytes wait in the server's bounded buffer and the kernel's while the first handler runs.
  const std::string body(300'000, 'x');
  ASSERT_TRUE(client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n" + body));
  wake();
  EXPECT_EQ(body_of(client.read_answer()), "woken");
  EXPECT_EQ(body_of(client.read_answer()), body);
}

TEST_F(RequestTest, OneThatPipelinesLeavesOthersTheirTurn) {
  Flag blocked, go_on;
  std::string order;  // of the one thread
  router_.add("GET", "/block", [&](Exchange& exchange) -> awaitable<void> {
    blocked.set();
    EXPECT_TRUE(go_on.wait());
    (void)co_await exchange.respond(HttpResponse::text(200, ""));
  });
  for (const char* name : {"/many", "/one"}) {
    router_.add("GET", name, [&order, name](Exchange& exchange) -> awaitable<void> {
      order += name[1];
      (void)co_await exchange.respond(HttpResponse::text(200, name));
    });
  }
  options_.io_threads = 1;
  start();
  RawClient many = connect();
  RawClient one = connect();
  ASSERT_TRUE(one.send(get_hello));
  EXPECT_TRUE(begins(one.read_answer(), "HTTP/1.1 200"));
  std::string requests = "GET /block HTTP/1.1\r\nHost: h\r\n\r\n";
  for (int i = 0; i < 200; ++i)
    requests += "GET /many HTTP/1.1\r\nHost: h\r\n\r\n";
  ASSERT_TRUE(many.send(requests));
  ASSERT_TRUE(blocked.wait());
  ASSERT_TRUE(one.send("GET /one HTTP/1.1\r\nHost: h\r\n\r\n"));
  go_on.set();
  EXPECT_TRUE(begins(one.read_answer(), "HTTP/1.1 200"));
  for (int i = 0; i < 201; ++i)
    ASSERT_TRUE(begins(many.read_answer(), "HTTP/1.1 200"));
  stop();
  EXPECT_LT(order.find('o'), 100u) << order;
}

TEST_F(RequestTest, Http10) {
  start();
  const std::string closing = exchange_and_close("GET /hello HTTP/1.0\r\n\r\n");
  EXPECT_TRUE(begins(closing, "HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(holds(closing, "Connection: close\r\n"));
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
  EXPECT_TRUE(holds(client.read_answer(), "Connection: keep-alive\r\n"));
  ASSERT_TRUE(client.send("GET /hello HTTP/1.0\r\n\r\n"));
  EXPECT_EQ(body_of(client.read_all()), "hello");
}

TEST_F(RequestTest, ConnectionCloseIsHonoured) {
  start();
  const std::string answer = exchange_and_close("GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(holds(answer, "Connection: close\r\n"));
  EXPECT_EQ(body_of(answer), "hello");
}

TEST_F(RequestTest, ChunkedUpload) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n"));
  ASSERT_TRUE(client.send("a;x=y\r\n0123456789\r\n0\r\n\r\n"));
  EXPECT_EQ(body_of(client.read_answer()), "abcd0123456789");
}

TEST_F(RequestTest, ExpectContinue) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
  EXPECT_EQ(client.read_through("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  ASSERT_TRUE(client.send("abc"));
  EXPECT_EQ(body_of(client.read_answer()), "abc");
}

TEST_F(RequestTest, ExpectContinueIsRefusedBeforeTheBody) {
  options_.max_body_bytes = 10;
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n"));
  expect_refusal(client.read_all(), "HTTP/1.1 413 ");
}

TEST_F(RequestTest, BodiesOverTheLimit) {
  options_.max_body_bytes = 1000;
  start();
  RawClient declared = connect();
  ASSERT_TRUE(declared.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n"));  // and nothing after
  expect_refusal(declared.read_all(), "HTTP/1.1 413 ");

  std::string chunks = "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 11; ++i)
    chunks += "64\r\n" + std::string(100, 'x') + "\r\n";
  expect_refusal(exchange_and_close(chunks), "HTTP/1.1 413 ");

  const std::string largest = exchange_and_close(
      "POST /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n" + std::string(1000, 'x'));
  EXPECT_EQ(body_of(largest).size(), 1000U);
}

TEST_F(RequestTest, TheAnswerToAnOversizeBodySurvivesTheRestOfIt) {
  options_.max_body_bytes = 1000;
  start();
  // The client sends megabytes that nobody wants; a plain close would reset the connection and lose the 413.
  const std::string answer = exchange_and_close("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n" +
                                                std::string(4'000'000, 'x'));
  expect_refusal(answer, "HTTP/1.1 413 ");
}

TEST_F(RequestTest, HeadsOverTheLimit) {
  options_.max_header_bytes = 1024;
  start();
  expect_refusal(exchange_and_close("GET /hello HTTP/1.1\r\nHost: h\r\nX: " + std::string(200'000, 'x')),
                 "HTTP/1.1 431 ");
}

TEST_F(RequestTest, MalformedRequests) {
  start();
  expect_refusal(exchange_and_close("nonsense\r\n\r\n"), "HTTP/1.1 400 ");
  expect_refusal(exchange_and_close("GET /hello HTTP/1.1\r\n\r\n"), "HTTP/1.1 400 ");
  expect_refusal(
      exchange_and_close(
          "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
      "HTTP/1.1 400 ");
  // What follows a refused request is never taken for one.
  const std::string smuggled = exchange_and_close(
      "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx" + std::string(get_hello));
  expect_refusal(smuggled, "HTTP/1.1 400 ");
  EXPECT_TRUE(lacks(smuggled, "200 OK"));
}

TEST_F(RequestTest, TruncatedRequest) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab"));
  client.finish_sending();
  expect_refusal(client.read_all(), "HTTP/1.1 400 ");
}

TEST_F(RequestTest, SlowHeadAndSlowBodyTimeOut) {
  options_.header_timeout = std::chrono::milliseconds(30);
  options_.body_timeout = std::chrono::milliseconds(30);
  start();
  expect_refusal(exchange_and_close("GET /hel"), "HTTP/1.1 408 ");
  expect_refusal(exchange_and_close("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab"), "HTTP/1.1 408 ");
}

TEST_F(RequestTest, IdleConnectionsAreClosedWithoutAWord) {
  options_.idle_timeout = std::chrono::milliseconds(30);
  start();
  RawClient fresh = connect();
  EXPECT_EQ(fresh.read_all(), "");
  RawClient used = connect();
  ASSERT_TRUE(used.send(get_hello));
  EXPECT_EQ(body_of(used.read_all()), "hello");
}

TEST_F(RequestTest, HalfClosedClientsGetQuickAnswers) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send(get_hello));
  client.finish_sending();
  EXPECT_EQ(body_of(client.read_all()), "hello");
}

// What no handler answers is told in the words of the path's dialect, and has an id like everything else.
struct Refusal {
  std::string before;  // the path
  std::string behind;
  int status;
  bool named;  // by the caller: the head was read
  std::string type;
};

void expect_named(const std::string& answer, const Refusal& refusal, bool anthropic) {
  EXPECT_TRUE(begins(answer, "HTTP/1.1 " + std::to_string(refusal.status) + " "));
  const size_t at = answer.find("X-Request-Id: ");
  ASSERT_NE(at, std::string::npos) << answer;
  const std::string id = answer.substr(at + 14, answer.find('\r', at) - at - 14);
  EXPECT_EQ(id == "mine", refusal.named) << answer;
  const auto body = base::parse_json(body_of(answer));
  ASSERT_TRUE(body) << answer;
  if (anthropic) {
    EXPECT_EQ(body->at("type"), "error");
    EXPECT_EQ(body->at("error").at("type"), base::json::value(refusal.type));
    EXPECT_EQ(body->at("request_id"), base::json::value(id)) << answer;
    EXPECT_TRUE(holds(answer, "\r\nRequest-Id: " + id + "\r\n"));
  } else {
    EXPECT_TRUE(body->at("error").as_object().contains("param")) << answer;
    EXPECT_TRUE(lacks(answer, "\r\nRequest-Id: "));
  }
}

constexpr std::string_view named_head = " HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\n";

TEST_F(RequestTest, RefusalsAreNamedInTheWordsOfTheirDialect) {
  const auto unheard = [](Exchange&) -> awaitable<void> { co_return; };
  options_.max_header_bytes = 1024;
  options_.max_body_bytes = 1000;
  for (const char* path : {"/v1/messages", "/v1/chat/completions"})
    router_.add("POST", path, unheard);
  start();
  const std::string head(named_head);
  const std::string last = head + "Connection: close\r\n\r\n";
  for (const Refusal& refusal : {
           Refusal{"POST ", head + "Content-Length: 1001\r\n\r\n", 413, true, "request_too_large"},
           Refusal{"POST ", "?beta=true" + head + "Content-Length: 1001\r\n\r\n", 413, true, "request_too_large"},
           Refusal{"POST http://h", head + "Content-Length: 1001\r\n\r\n", 413, true, "request_too_large"},
           Refusal{"POST ", head + "Transfer-Encoding: chunked\r\n\r\n3e9\r\n", 413, true, "request_too_large"},
           Refusal{"POST ", head + "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\b", 415, true,
                   "invalid_request_error"},
           Refusal{"POST ", head + "X: " + std::string(2000, 'x'), 431, false, "invalid_request_error"},
           Refusal{"POST ", head + "Content-Length: x\r\n\r\n", 400, true, "invalid_request_error"},
           Refusal{"POST ", head + "no colon\r\n\r\n", 400, true, "invalid_request_error"},
           Refusal{"POST ", "/batches" + last, 404, true, "not_found_error"},
           Refusal{"PUT ", last, 405, true, "invalid_request_error"},
           Refusal{"POST ", last, 500, true, "api_error"},
       }) {
    for (const std::string path : {"/v1/messages", "/v1/chat/completions"})
      expect_named(exchange_and_close(refusal.before + path + refusal.behind), refusal, path == "/v1/messages");
  }
}

TEST_F(RequestTest, SoAreThoseThatComeTooSlowly) {
  options_.header_timeout = std::chrono::milliseconds(30);
  options_.body_timeout = std::chrono::milliseconds(30);
  start();
  const std::string head = "POST /v1/messages" + std::string(named_head);
  expect_named(exchange_and_close(head + "X: y"), {{}, {}, 408, false, "timeout_error"}, true);
  expect_named(exchange_and_close(head + "Content-Length: 5\r\n\r\nab"), {{}, {}, 408, true, "timeout_error"}, true);
  // Before its first line is whole nobody knows what a request asks for.
  expect_named(exchange_and_close("POST /v1/messages"), {{}, {}, 408, false, {}}, false);
}

TEST_F(RequestTest, UnknownPathsAndMethods) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n"));
  std::string answer = client.read_answer();
  EXPECT_TRUE(begins(answer, "HTTP/1.1 404 Not Found\r\n"));
  EXPECT_TRUE(holds(answer, R"("message":"no such URL: GET /nowhere")"));
  ASSERT_TRUE(client.send("DELETE /hello HTTP/1.1\r\nHost: h\r\n\r\n"));
  answer = client.read_answer();
  EXPECT_TRUE(begins(answer, "HTTP/1.1 405 Method Not Allowed\r\n"));
  EXPECT_TRUE(holds(answer, "Allow: GET, HEAD, OPTIONS\r\n"));
  ASSERT_TRUE(client.send("OPTIONS /echo HTTP/1.1\r\nHost: h\r\n\r\n"));
  answer = client.read_answer();
  EXPECT_TRUE(begins(answer, "HTTP/1.1 204 No Content\r\n"));
  EXPECT_TRUE(holds(answer, "Allow: POST, OPTIONS\r\n"));
  EXPECT_TRUE(lacks(answer, "Content-Length"));
}

TEST_F(RequestTest, HeadIsGetWithoutTheBody) {
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("HEAD /hello HTTP/1.1\r\nHost: h\r\n\r\n" + std::string(get_hello)));
  const std::string head = client.read_through("\r\n\r\n");
  EXPECT_TRUE(begins(head, "HTTP/1.1 200 OK\r\n"));
  EXPECT_TRUE(holds(head, "Content-Length: 5\r\n"));
  EXPECT_TRUE(begins(client.read_answer(), "HTTP/1.1 200 OK\r\n"));  // no stray body in between
}

// An origin that no browser writes so would never match.
TEST(ListenerOptions, OriginsAreAsBrowsersWriteThem) {
  EXPECT_TRUE(wire::check_origins({"*", "null", "https://a.example", "http://localhost:3000", "https://[::1]:8443",
                                   "chrome-extension://abc", "tauri://localhost"},
                                  "gateway"));
  for (const char* origin :
       {"nonsense", "", "://a", "https://", "https://:80", "https://a.example/", "https://a/b", "https://A.example",
        "https://a.example:443", "http://a.example:80", "https://u@a", "https://*.a.example", "https://a, https://b"}) {
    const auto checked = wire::check_origins({"https://a.example", origin}, "gateway");
    ASSERT_FALSE(checked) << origin;
    EXPECT_EQ(checked.error().param(), "gateway.cors_origins");
    EXPECT_NE(checked.error().message().find("'" + std::string(origin) + "' is no web origin"), std::string::npos)
        << checked.error().message();
  }
}

TEST_F(RequestTest, CorsAnswersOnlyKnownOrigins) {
  options_.cors_origins = {"https://a.example"};
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /hello HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\n\r\n"));
  std::string answer = client.read_answer();
  EXPECT_TRUE(holds(answer, "Access-Control-Allow-Origin: https://a.example\r\n"));
  EXPECT_TRUE(holds(answer, "Vary: Origin\r\n"));
  ASSERT_TRUE(client.send("GET /hello HTTP/1.1\r\nHost: h\r\nOrigin: https://b.example\r\n\r\n"));
  EXPECT_TRUE(lacks(client.read_answer(), "Access-Control"));
  ASSERT_TRUE(
      client.send("OPTIONS /echo HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\n"
                  "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\r\n"));
  answer = client.read_answer();
  EXPECT_TRUE(holds(answer, "Access-Control-Allow-Methods: POST, OPTIONS\r\n"));
  EXPECT_TRUE(holds(answer, "Access-Control-Allow-Headers: authorization\r\n"));
}

TEST_F(RequestTest, HandlersThatThrowOrForgetAnswer500) {
  router_.add("GET", "/throws", [](Exchange&) -> awaitable<void> {
    throw std::runtime_error("secret detail");
    co_return;
  });
  router_.add("GET", "/forgets", [](Exchange&) -> awaitable<void> { co_return; });
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /throws HTTP/1.1\r\nHost: h\r\n\r\nGET /forgets HTTP/1.1\r\nHost: h\r\n\r\n"));
  const std::string thrown = client.read_answer();
  EXPECT_TRUE(begins(thrown, "HTTP/1.1 500 Internal Server Error\r\n"));
  EXPECT_TRUE(lacks(thrown, "secret"));
  EXPECT_TRUE(begins(client.read_answer(), "HTTP/1.1 500 Internal Server Error\r\n"));
  ASSERT_TRUE(client.send(get_hello));
  EXPECT_EQ(body_of(client.read_answer()), "hello");
}

TEST_F(RequestTest, HeadersOfHandlersCannotForgeOthers) {
  router_.add("GET", "/forge", [](Exchange& exchange) -> awaitable<void> {
    HttpResponse response = HttpResponse::text(200, "x");
    response.headers.set("X-Id", "1\r\nSet-Cookie: evil");
    response.headers.set("Content-Length", "1000");
    (void)co_await exchange.respond(std::move(response));
  });
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /forge HTTP/1.1\r\nHost: h\r\n\r\n"));
  const std::string answer = client.read_answer();
  EXPECT_TRUE(lacks(answer, "\r\nSet-Cookie"));
  EXPECT_TRUE(holds(answer, "Content-Length: 1\r\n"));
}

TEST_F(RequestTest, RequestsCarryRoutePeerAndTimes) {
  base::ManualClock clock;
  options_.clock = &clock;
  router_.add("GET", "/models/*", [&](Exchange& exchange) -> awaitable<void> {
    const auto& request = exchange.request();
    HttpResponse response =
        HttpResponse::text(200, request.route + "|" + request.path_rest + "|" + std::string(request.bearer_token()) +
                                    "|" + (request.peer.starts_with("127.0.0.1:") ? "peer" : request.peer) + "|" +
                                    (request.received_wall == clock.wall_now() ? "now" : "another time"));
    (void)co_await exchange.respond(std::move(response));
  });
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /models/a%2Fb HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer k\r\n\r\n"));
  const std::string answer = client.read_answer();
  EXPECT_EQ(body_of(answer), "/models/*|a/b|k|peer|now");
  EXPECT_TRUE(holds(answer, "Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"));
  stop();
  EXPECT_EQ(last_status_, 200);
  EXPECT_EQ(last_route_, "/models/*");
  EXPECT_FALSE(last_unfinished_);
}

}  // namespace
}  // namespace tidemill::test
