// The edges of HTTP/1.1 at the gateway: what it refuses reaches no backend, and what it takes goes on in one plain
// form.
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "gateway/fleet_fixture.hpp"
#include "wire/request_edges.hpp"

namespace tidemill::test {
namespace {

std::string asked(const std::string& fields, const std::string& body) {
  return "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n" + body;
}

class GatewayEdges : public FleetFixture {
 protected:
  static inline const std::string question = R"({"model":"m","messages":[]})";
  static inline const std::string answer = http_answer(200, "application/json", "{}");
};

TEST_F(GatewayEdges, WhatIsRefusedReachesNobody) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  start();
  // Behind each: a request that a backend would answer.
  const std::string behind = asked("Content-Length: " + std::to_string(question.size()) + "\r\n", question);
  for (const Edge& edge : edges()) {
    std::string bytes = edge.bytes;
    if (const size_t path = bytes.find("/echo"); path != std::string::npos) {
      bytes.replace(path, 5, "/v1/chat/completions");
    }
    RawClient client(gateway->port());
    client.send(bytes + behind);
    expect_refused(client.read_all(), edge.status, edge.name);
  }
  EXPECT_TRUE(backend.received().empty());
}

// In the words of their dialect, with an id, though no handler has seen them.
TEST_F(GatewayEdges, RefusalsSayWhichRequestTheyMean) {
  options.max_body = base::ByteSize{1000};
  start();
  for (const char* begin : {"POST /v1/messages HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\nContent-Length: 1001\r\n",
                            "POST /v1/messages/none HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\nConnection: close\r\n",
                            "PUT /v1/messages HTTP/1.1\r\nHost: h\r\nX-Request-Id: mine\r\nConnection: close\r\n"}) {
    RawClient client(gateway->port());
    ASSERT_TRUE(client.send(std::string(begin) + "\r\n"));
    const std::string refusal = client.read_all();
    const auto body = base::parse_json(std::string_view(refusal).substr(refusal.find("\r\n\r\n") + 4));
    ASSERT_TRUE(body) << refusal;
    EXPECT_EQ(body->at("type"), "error");
    EXPECT_EQ(body->at("request_id"), "mine");
    EXPECT_NE(refusal.find("\r\nRequest-Id: mine\r\n"), std::string::npos) << refusal;
  }
}

TEST_F(GatewayEdges, OddChunksGoOnAsOnePlainBody) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  start();
  RawClient client(gateway->port());
  ASSERT_TRUE(
      client.send(asked("transfer-ENCODING: chunked\r\nTrailer: X-Smuggled\r\nConnection: X-Hop\r\nX-Hop: 1\r\n",
                        "0001;a;b=\"c ; \\\"\"\r\n{\r\n"
                        "1A ;x\r\n" +
                            question.substr(1) + "\r\n00\r\nX-Smuggled: 1\r\nContent-Length: 5\r\n\r\n")));
  EXPECT_TRUE(client.read_answer().starts_with("HTTP/1.1 200 "));
  ASSERT_EQ(backend.received().size(), 1U);
  const Received received = backend.received().front();
  EXPECT_EQ(received.body, question);
  EXPECT_EQ(received.field("Content-Length"), std::to_string(question.size()));
  for (const char* name : {"ransfer-", "railer", "Smuggled", "X-Hop", "Content-Length: 5\r"})
    EXPECT_EQ(received.head.find(name), std::string::npos) << name << " in " << received.head;
}

TEST_F(GatewayEdges, PathsThatServersReadDifferentlyReachNobody) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  start();
  for (const char* path : {"/v1/../admin", "/v1/%2e%2e/admin", "/v1/x/%2e/y", "/v1//embeddings", "/v1/embeddings/",
                           "/v1/embeddings;x", "/v1/chat%2fcompletions", "/v1/..\\admin", "/v1/embeddings%23x"}) {
    const wire::HttpResponse response = post(path, question);
    const bool passed = std::string_view(path).ends_with("%23x");  // which is a name like any other
    EXPECT_EQ(response.status, passed ? 200 : 400) << path << " " << response.body;
  }
  EXPECT_EQ(post("//v1/chat/completions", question).status, 404);
  ASSERT_EQ(backend.received().size(), 1U);
  EXPECT_EQ(backend.received().front().path, "/v1/embeddings%23x");
}

TEST_F(GatewayEdges, AnAddressThatIsNoneIsToldAsTheOptionThatItIs) {
  options.host = "nowhere.example";
  const auto started = gateway::Gateway::start(options);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().param(), "gateway.host");
  EXPECT_NE(started.error().message().find("'nowhere.example' is not an IP address"), std::string::npos);
}

// A signal to reload may come at any time.
TEST_F(GatewayEdges, WhatHasStoppedIsNotReloaded) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  start();
  EXPECT_TRUE(gateway->stop(std::chrono::seconds(5)));
  const auto reloaded = gateway->reload(options);
  ASSERT_FALSE(reloaded);
  EXPECT_EQ(reloaded.error().code(), base::ErrorCode::unavailable);
  gateway->look();
  gateway->drain();
  EXPECT_TRUE(gateway->stop(std::chrono::seconds(5)));
  EXPECT_TRUE(backend.received().empty());
}

// As of a file that is read while it is being written.
TEST_F(GatewayEdges, AReloadDoesNotTakeTheLastBackend) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  start();
  gateway::GatewayOptions emptied = options;
  emptied.backends.clear();
  const auto refused = gateway->reload(emptied);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), base::ErrorCode::invalid_argument);
  EXPECT_EQ(refused.error().param(), "gateway.backends");
  for (const char* missing : {"[[gateway.backend]]", "[[gateway.discover]]"})
    EXPECT_NE(refused.error().message().find(missing), std::string::npos) << refused.error().message();
  EXPECT_EQ(post("/v1/chat/completions", R"({"model":"m","messages":[]})").status, 200);
  EXPECT_EQ(backend.received().size(), 1U);
  // The short form is a list too, and one that has none may stay without.
  emptied.backend_urls = {backend.url()};
  EXPECT_TRUE(gateway->reload(emptied));
  EXPECT_FALSE(gateway->reload([&] {
    gateway::GatewayOptions none = emptied;
    none.backend_urls.clear();
    return none;
  }()));
}

// However steadily a request drips, it ends, and no backend hears of it.
TEST_F(GatewayEdges, SlowRequestsAreEnded) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  options.header_timeout = std::chrono::milliseconds(60);
  options.body_timeout = std::chrono::milliseconds(60);
  options.min_body_rate = base::ByteSize{uint64_t{1} << 30};
  start();
  for (const char* begin : {"POST /v1/chat/completions HTTP/1.1\r\nX: ",
                            "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 30000000\r\n\r\n",
                            "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                            "ffffff\r\n"}) {
    RawClient client(gateway->port());
    ASSERT_TRUE(client.send(begin));
    size_t sent = 0;
    while (sent < 60'000 && client.send("x") && !client.has_input())
      ++sent;
    expect_refused(client.read_all(), 408, begin);
  }
  EXPECT_TRUE(backend.received().empty());
}

}  // namespace
}  // namespace tidemill::test
