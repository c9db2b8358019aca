// Streams of backends without marks whose bodies end well, as HTTP sees it, but in the middle of an event.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "gateway/fleet_fixture.hpp"

namespace tidemill::test {
namespace {

namespace json = base::json;

struct Telling {
  std::string path;
  std::string request;
  std::string before;  // events of the answer
  std::string last;    // the one by which it ends
};

const std::vector<Telling> tellings = {
    {"/v1/messages", R"({"model":"m","stream":true,"max_tokens":5,"messages":[{"role":"user","content":"hi"}]})",
     "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\"}}\n\n"
     "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"good\"}}\n\n",
     "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"},
    {"/v1/responses", R"({"model":"m","stream":true,"store":false,"input":"hi"})",
     "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n"
     "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"good\"}\n\n",
     "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\"}}\n\n"},
    {"/v1/completions", R"({"model":"m","stream":true,"prompt":"hi"})",
     "data: {\"choices\":[{\"text\":\"good\",\"finish_reason\":null}]}\n\n", "data: [DONE]\n\n"},
};

// As one chunk and the last one, or up to the end of the connection.
std::string framed(const std::string& events, bool as_chunks) {
  if (as_chunks) return chunked_answer({events});
  return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + events;
}

// What clients read; each event has data that can be read.
std::vector<std::string> data_of(const std::string& body) {
  EXPECT_TRUE(body.ends_with("\n\n")) << body;
  wire::SseParser parser;
  const auto events = parser.feed(body);
  EXPECT_TRUE(events);
  std::vector<std::string> all;
  for (const wire::SseEvent& event : *events) {
    EXPECT_TRUE(event.data == "[DONE]" || base::parse_json(event.data)) << body;
    all.push_back(event.data);
  }
  return all;
}

class CutEvent : public FleetFixture {};

// Only the blank line behind the last event may be missing, and then the client gets it.
TEST_F(CutEvent, IsNoEndOfAStream) {
  std::string said;
  add_backend([&said](const Received&) { return Script{.bytes = said}; });
  start();
  int lost = 0;
  for (const Telling& telling : tellings) {
    for (const bool as_chunks : {true, false}) {
      for (size_t cut = 1; cut <= telling.last.size(); ++cut) {
        SCOPED_TRACE(telling.path + " " + telling.last.substr(0, cut));
        said = framed(telling.before + telling.last.substr(0, cut), as_chunks);
        const std::string body = post(telling.path, telling.request).body;
        ASSERT_TRUE(body.starts_with(telling.before)) << body;
        if (cut + 2 >= telling.last.size()) {
          ASSERT_EQ(body, telling.before + telling.last);
          continue;
        }
        ++lost;
        ASSERT_EQ(body.find(telling.last.substr(0, telling.last.find('\n'))), std::string::npos) << body;
        ASSERT_NE(data_of(body).back().find("could not be taken up"), std::string::npos) << body;
      }
    }
  }
  EXPECT_EQ(metric("tidemill_gateway_lost_streams_total"), lost);
}

std::string piece_of_chat(const std::string& content, const std::string& finish = "null") {
  return R"(data: {"id":"c","object":"chat.completion.chunk","created":5,"choices":[{"index":0,"delta":{"content":")" +
         content + R"("},"finish_reason":)" + finish + "}]}\n\n";
}

// Half an event of a chat is dropped, and its text comes whole from whoever goes on.
TEST_F(CutEvent, OfAChatComesWholeFromElsewhere) {
  const std::string begun = piece_of_chat("one ");
  const std::string next = piece_of_chat("two");
  std::string said;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received& request) {
      const auto body = base::parse_json(request.body);
      const json::object& last = body->at("messages").as_array().back().as_object();
      if (last.at("role") != "assistant") return Script{.bytes = said};
      const std::string rest = last.at("content") == "one " ? next : "";
      return Script{.bytes = framed(rest + piece_of_chat("", "\"stop\"") + "data: [DONE]\n\n", true)};
    });
  }
  start();
  for (const bool as_chunks : {true, false}) {
    for (size_t cut = 0; cut <= next.size(); ++cut) {
      SCOPED_TRACE(next.substr(0, cut));
      said = framed(begun + next.substr(0, cut), as_chunks);
      const std::string body =
          post("/v1/chat/completions", R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]})")
              .body;
      std::string text;
      for (const std::string& data : data_of(body)) {
        if (data == "[DONE]") continue;
        const auto chunk = base::parse_json(data);
        ASSERT_TRUE(chunk);
        ASSERT_FALSE(chunk->as_object().contains("error")) << body;
        const json::object& choice = chunk->at("choices").as_array().at(0).as_object();
        text += std::string(choice.at("delta").at("content").as_string());
      }
      ASSERT_EQ(text, "one two") << body;
      ASSERT_EQ(data_of(body).back(), "[DONE]");
    }
  }
}

// What only its backend could tell is missed, in so many words; the text is whole.
TEST_F(CutEvent, AUsageThatDoesNotComeIsMissed) {
  const std::string text = piece_of_chat("one ") + piece_of_chat("", "\"stop\"");
  const std::string usage =
      "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":8}}\n\n";
  const std::string missed = ": the text is whole, but the stream broke off before its usage was told\n\n";
  const std::string done = "data: [DONE]\n\n";
  std::string said;
  add_backend([&said](const Received&) { return Script{.bytes = said}; });
  start();
  const auto ask = [&](const std::string& more) {
    return post("/v1/chat/completions",
                R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}])" + more + "}")
        .body;
  };
  const std::string asks = R"(,"stream_options":{"include_usage":true})";
  int lost = 0;
  for (const bool as_chunks : {true, false}) {
    for (size_t cut = 0; cut <= usage.size(); ++cut) {
      SCOPED_TRACE(usage.substr(0, cut));
      said = framed(text + usage.substr(0, cut), as_chunks);
      const bool came = cut + 2 >= usage.size();
      ASSERT_EQ(ask(asks), text + (came ? usage : missed) + done);
      lost += came ? 0 : 1;
    }
    said = framed(text, as_chunks);
    for (const char* other : {"", R"(,"stream_options":{"include_usage":false})", R"(,"stream_options":null)"})
      ASSERT_EQ(ask(other), text + done) << other;
  }
  EXPECT_EQ(metric("tidemill_gateway_lost_usages_total"), lost);
  EXPECT_EQ(metric("tidemill_gateway_lost_streams_total"), 0);
}

}  // namespace
}  // namespace tidemill::test
