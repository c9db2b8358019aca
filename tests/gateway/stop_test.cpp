// What clients hear of a gateway that stops before their answers have ended.
#include <future>
#include <thread>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "gateway/fleet_fixture.hpp"

namespace tidemill::test {
namespace {

namespace json = base::json;

const std::string whole = R"({"model":"m","messages":[{"role":"user","content":"hi"}]})";
const std::string streamed = R"({"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true})";
const std::string first_event =
    R"(data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hi"}}]})"
    "\n\n";

class Stop : public FleetFixture {
 protected:
  // Streams begin, and nothing else is ever said.
  static Script hang(const Received& request) {
    if (request.body == whole) return {.bytes = "", .end = Script::End::hang};
    std::string bytes = chunked_answer({first_event});
    bytes.resize(bytes.size() - std::string("0\r\n\r\n").size());
    return {.bytes = bytes, .end = Script::End::hang};
  }
};

TEST_F(Stop, RefusesWhatIsNewWhileItDrains) {
  ScriptedBackend& backend = add_backend(hang);
  start();
  RawClient running(gateway->port());
  ASSERT_TRUE(running.send(raw_post("/v1/chat/completions", streamed)));
  ASSERT_NE(running.read_through("Hi").find("200"), std::string::npos);
  gateway->drain();
  const wire::HttpResponse ready = get("/ready");
  EXPECT_EQ(ready.status, 503);
  EXPECT_EQ(ready.headers.find("x-tidemill-unready"), "draining");
  EXPECT_EQ(get("/health").status, 200);
  const wire::HttpResponse refused = post("/v1/chat/completions", whole);
  EXPECT_EQ(refused.status, 503);
  EXPECT_TRUE(refused.headers.has("retry-after"));
  EXPECT_EQ(refused.headers.find("x-tidemill-unready"), "draining");
  EXPECT_NE(refused.body.find("the gateway is stopping"), std::string::npos) << refused.body;
  EXPECT_EQ(backend.received().size(), 1U);
  running.close();
  EXPECT_TRUE(backend.wait_for_hang_up()) << "until then it went on";
}

TEST_F(Stop, TellsWhatRunsPastTheLimitThatTheGatewayHasStopped) {
  ScriptedBackend& backend = add_backend(hang);
  start();
  wire::HttpResponse refused;
  std::thread waiter([&] { refused = post("/v1/chat/completions", whole); });
  std::promise<void> begun;
  std::string events;
  std::thread reader([&] {
    wire::HttpClient client;
    const auto response = client.fetch(
        {.method = "POST", .url = gateway->url() + "/v1/chat/completions", .headers = {}, .body = streamed},
        [&](std::string_view bytes) -> base::Result<void> {
          if (events.empty()) begun.set_value();
          events += bytes;
          return {};
        });
    EXPECT_TRUE(response) << response.error().to_string();
  });
  begun.get_future().wait();
  ASSERT_TRUE(backend.wait_for_requests(2));

  EXPECT_FALSE(gateway->stop(base::Duration(0)));
  waiter.join();
  reader.join();
  EXPECT_EQ(refused.status, 503) << refused.body;
  EXPECT_NE(refused.body.find("the gateway has stopped"), std::string::npos) << refused.body;
  const size_t last = events.rfind("data: ");
  ASSERT_NE(last, std::string::npos) << events;
  const auto event = base::parse_json(std::string_view(events).substr(last + 6));
  ASSERT_TRUE(event) << events;
  ASSERT_TRUE(event->as_object().contains("error")) << events;
  EXPECT_EQ(event->at("error").at("message"), "the gateway has stopped before the answer ended");
  EXPECT_TRUE(backend.wait_for_hang_up(2)) << "the backend need not go on";
}

TEST_F(Stop, GivesNoMoreTimeOnceItIsHurried) {
  add_backend(hang);
  start();
  RawClient running(gateway->port());
  ASSERT_TRUE(running.send(raw_post("/v1/chat/completions", streamed)));
  ASSERT_NE(running.read_through("Hi").find("200"), std::string::npos);
  auto stopped = std::async(std::launch::async, [&] { return gateway->stop(std::chrono::hours(1)); });
  gateway->hurry();
  EXPECT_FALSE(stopped.get());
  EXPECT_NE(running.read_through("before the answer ended").find("the gateway has stopped"), std::string::npos);
}

// No request yet, so that nobody counts it.
TEST_F(Stop, GivesHalfARequestNoMoreTimeOnceItIsHurried) {
  add_backend(hang);
  start();
  RawClient half(gateway->port());
  const std::string request = raw_post("/v1/chat/completions", streamed);
  ASSERT_TRUE(half.send(request.substr(0, request.size() - 5)));
  while (metric("tidemill_http_connections") < 2)
    std::this_thread::yield();
  auto stopped = std::async(std::launch::async, [&] { return gateway->stop(std::chrono::hours(1)); });
  gateway->hurry();
  EXPECT_FALSE(stopped.get());
}

}  // namespace
}  // namespace tidemill::test
