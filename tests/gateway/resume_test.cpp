// What reaches the client when backends fail in mid-stream.
#include <atomic>
#include <fstream>
#include <mutex>
#include <optional>
#include <utility>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "gateway/fleet_fixture.hpp"
#include "temporary_folder.hpp"

namespace tidemill::test {
namespace {

using namespace std::chrono_literals;
namespace json = base::json;

const std::string question = R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]})";

std::string mark(const std::string& text) {
  return ": tidemill " + text + "\n\n";
}

constexpr int last_token = 6;

std::string group(int token) {
  return "data: {\"text\":\"" + std::to_string(token) + "\"}\n\n";
}

// What a server of marked streams sends for tokens from `first` on: as pieces that are written at once.
std::vector<std::string> marked_stream(int first) {
  std::vector<std::string> pieces = {mark(R"({"open":{"id":"x"}})")};
  for (int token = first; token <= last_token; ++token) {
    pieces.push_back(group(token) + mark(R"({"choice":0,"tokens":[)" + std::to_string(token) + R"(],"state":{"at":)" +
                                         std::to_string(token) + "}}"));
    if (token == 3) pieces.push_back(": waiting\n\n");
  }
  pieces.push_back("data: [DONE]\n\n" + mark(R"({"end":true})"));
  return pieces;
}

// As a client sees them: the same without comments.
std::string without_comments(const std::string& body) {
  std::string out;
  size_t at = 0;
  while (at < body.size()) {
    const size_t end = std::min(body.find("\n\n", at), body.size() - 2) + 2;
    if (body[at] != ':') out += body.substr(at, end - at);
    at = end;
  }
  return out;
}

std::string undisturbed() {
  std::string out;
  for (int token = 1; token <= last_token; ++token)
    out += group(token);
  return out + "data: [DONE]\n\n";
}

// The first token that a request asks for.
int first_wanted(const Received& request) {
  const auto body = base::parse_json(request.body);
  const json::value* resume = body->as_object().if_contains("tidemill_resume");
  if (resume == nullptr) return 1;
  EXPECT_EQ(resume->at("open"), json::value({{"id", "x"}}));
  const json::array& tokens = resume->at("tokens").as_array();
  if (tokens.empty()) return 1;
  int expected = 1;
  for (const json::value& token : tokens.at(0).as_array())
    EXPECT_EQ(token.as_int64(), expected++);
  EXPECT_EQ(resume->at("state"), json::value({{"at", expected - 1}}));
  return expected;
}

class Resume : public FleetFixture {};

// Two servers, the first stream of which dies after `length` bytes, at each length there is: the client's stream is
// always the undisturbed one.
TEST_F(Resume, AStreamThatDiesAtAnyByteGoesOn) {
  std::atomic<size_t> length = 0;
  std::atomic<bool> died = false;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received& request) {
      EXPECT_EQ(request.field("x-tidemill-resumable"), "1");
      std::string bytes = chunked_answer(marked_stream(first_wanted(request)));
      if (died.exchange(true)) return Script{.bytes = bytes};
      return Script{.bytes = bytes.substr(0, length), .end = length % 2 == 0 ? Script::End::reset : Script::End::close};
    });
  }
  start();
  const size_t whole = chunked_answer(marked_stream(1)).size();
  for (size_t at = 0; at < whole; ++at) {
    length = at;
    died = false;
    const wire::HttpResponse response = post("/v1/chat/completions", question);
    ASSERT_EQ(response.status, 200) << at;
    ASSERT_EQ(without_comments(response.body), undisturbed()) << at;
    ASSERT_EQ(response.body.find("tidemill"), std::string::npos) << "marks are not for clients";
  }
  EXPECT_GT(metric("tidemill_gateway_resumed_streams_total{kind=\"exact\"}"), 100);
  EXPECT_EQ(metric("tidemill_gateway_lost_streams_total"), 0);
}

// Every server dies after each group: the stream wanders from one to the other.
TEST_F(Resume, AStreamOutlivesManyDeaths) {
  std::atomic<int> deaths = 0;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received& request) {
      const std::vector<std::string> pieces = marked_stream(first_wanted(request));
      if (pieces.size() <= 2) return Script{.bytes = chunked_answer(pieces)};
      ++deaths;
      std::string bytes = chunked_answer({pieces[0], pieces[1]});
      bytes.resize(bytes.size() - 5);  // its last chunk
      return Script{.bytes = bytes};
    });
  }
  start();
  const wire::HttpResponse response = post("/v1/chat/completions", question);
  EXPECT_EQ(without_comments(response.body), undisturbed());
  EXPECT_GE(deaths, last_token);
}

TEST_F(Resume, ASilentStreamIsLeft) {
  options.stall_timeout = 50ms;
  std::atomic<bool> hung = false;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received& request) {
      const std::string bytes = chunked_answer(marked_stream(first_wanted(request)));
      if (hung.exchange(true)) return Script{.bytes = bytes};
      return Script{.bytes = bytes.substr(0, bytes.size() / 2), .end = Script::End::hang};
    });
  }
  start();
  EXPECT_EQ(without_comments(post("/v1/chat/completions", question).body), undisturbed());
}

// What never ends by itself, and only keeps the connection awake.
constexpr int no_end = 1'000'000'000;

Script murmuring(const std::vector<std::string>& pieces) {
  std::string bytes = chunked_answer(pieces);
  bytes.resize(bytes.size() - 5);  // its last chunk
  return {.bytes = bytes, .comments = no_end};
}

TEST_F(Resume, AStreamOfCommentsAloneIsLeft) {
  options.event_timeout = 50ms;
  std::vector<ScriptedBackend*> backends;
  std::atomic<bool> murmured = false;
  for (int i = 0; i < 2; ++i) {
    backends.push_back(&add_backend([&](const Received& request) {
      const std::vector<std::string> pieces = marked_stream(first_wanted(request));
      if (murmured.exchange(true)) return Script{.bytes = chunked_answer(pieces)};
      return murmuring({pieces[0], pieces[1], pieces[2]});
    }));
  }
  start();
  const std::string body = post("/v1/chat/completions", question).body;
  EXPECT_EQ(without_comments(body), undisturbed());
  EXPECT_NE(body.find(": \n\n"), std::string::npos) << "the client heard that somebody is there";
  EXPECT_EQ(metric("tidemill_gateway_resumed_streams_total{kind=\"exact\"}"), 1);
}

// Whoever takes it up murmurs too: the client is told, in a bounded time.
TEST_F(Resume, AStreamOfWhichOnlyCommentsComeEndsWithAnError) {
  options.event_timeout = 20ms;
  options.retries = 1;
  options.resume_window = 1s;
  std::atomic<int> asked = 0;
  ScriptedBackend& backend = add_backend([&](const Received& request) {
    const std::vector<std::string> pieces = marked_stream(first_wanted(request));
    if (asked++ == 0) return murmuring({pieces[0], pieces[1]});
    return murmuring({pieces[0]});
  });
  start();
  const wire::HttpResponse response = post("/v1/chat/completions", question);
  EXPECT_EQ(response.status, 200);
  const std::string said = without_comments(response.body);
  EXPECT_TRUE(said.starts_with(group(1) + "data: {\"error\":")) << said;
  EXPECT_EQ(said.find("[DONE]"), std::string::npos);
  EXPECT_TRUE(backend.wait_for_hang_up(asked));
  EXPECT_EQ(metric("tidemill_gateway_lost_streams_total"), 1);
}

// A server may compute a long prompt for as long as it says that it is there.
TEST_F(Resume, CommentsKeepALongPrefillAlive) {
  std::atomic<int> asked = 0;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received&) {
      ++asked;
      Script script = murmuring({mark(R"({"open":{"id":"x"}})")});
      script.comments = 30;
      std::vector<std::string> pieces = marked_stream(1);
      pieces.erase(pieces.begin());
      const std::string whole = chunked_answer(pieces);
      script.rest = whole.substr(whole.find("\r\n\r\n") + 4);
      return script;
    });
  }
  start();
  const std::string body = post("/v1/chat/completions", question).body;
  EXPECT_EQ(without_comments(body), undisturbed());
  EXPECT_EQ(asked, 1);
}

// One that answers no look either is known to be frozen long before its streams' silence would be too long.
TEST_F(Resume, AFrozenBackendIsLeft) {
  options.poll_interval = 10ms;
  options.poll_timeout = 50ms;
  options.stall_timeout = 1h;
  options.answer_timeout = 1h;
  std::vector<ScriptedBackend*> backends;
  backends.reserve(2);
  std::atomic<bool> froze = false;
  for (int i = 0; i < 2; ++i) {
    backends.push_back(&add_backend([&, i](const Received& request) {
      const std::string bytes = chunked_answer(marked_stream(first_wanted(request)));
      if (froze.exchange(true)) return Script{.bytes = bytes};
      backends[static_cast<size_t>(i)]->freeze();
      return Script{.bytes = bytes.substr(0, bytes.size() / 2), .end = Script::End::hang};
    }));
  }
  start();
  EXPECT_EQ(without_comments(post("/v1/chat/completions", question).body), undisturbed());
}

// A server that ends its stream in good order, but without having said that it is complete, has not completed it.
TEST_F(Resume, AnOrderlyEndIsNotEnough) {
  std::atomic<bool> ended = false;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received& request) {
      std::vector<std::string> pieces = marked_stream(first_wanted(request));
      if (!ended.exchange(true)) pieces.resize(3);
      return Script{.bytes = chunked_answer(pieces)};
    });
  }
  start();
  EXPECT_EQ(without_comments(post("/v1/chat/completions", question).body), undisturbed());
}

// As with other weights, while those that have the stream's restart.
TEST_F(Resume, DenialsDoNotEndAStreamThatSomebodyTakesUpLater) {
  std::atomic<int> asked = 0;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received& request) {
      const int turn = asked++;
      const std::string bytes = chunked_answer(marked_stream(first_wanted(request)));
      if (turn == 0) return Script{.bytes = bytes.substr(0, bytes.size() / 2)};
      if (turn <= 6) return Script{.bytes = http_answer(400, "application/json", R"({"error":{"message":"other"}})")};
      return Script{.bytes = bytes};
    });
  }
  start();
  EXPECT_EQ(without_comments(post("/v1/chat/completions", question).body), undisturbed());
  EXPECT_EQ(asked, 8);
  EXPECT_EQ(metric("tidemill_gateway_lost_streams_total"), 0);
}

TEST_F(Resume, AStreamThatNobodyTakesUpEndsWithAnError) {
  options.resume_window = 100ms;
  std::atomic<int> asked = 0;
  add_backend([&](const Received&) {
    const std::string bytes = chunked_answer(marked_stream(1));
    return asked++ == 0 ? Script{.bytes = bytes.substr(0, bytes.size() / 2)} : Script{.bytes = ""};
  });
  start();
  for (const char* path : {"/v1/chat/completions", "/v1/messages", "/v1/responses"}) {
    asked = 0;
    const wire::HttpResponse response = post(path, question);
    EXPECT_EQ(response.status, 200);
    EXPECT_TRUE(response.body.starts_with(group(1)));
    EXPECT_EQ(response.body.find("[DONE]"), std::string::npos);
    const size_t last = response.body.rfind("data: ");
    const auto error = base::parse_json(std::string_view(response.body).substr(last + 6));
    ASSERT_TRUE(error) << response.body;
    EXPECT_EQ(response.body.find("127.0.0.1"), std::string::npos) << "addresses are not for clients";
    const json::object& event = error->as_object();
    const std::string_view shape = path;
    if (shape == "/v1/chat/completions") {
      EXPECT_TRUE(event.contains("error"));
    } else {
      EXPECT_EQ(event.at("type"), "error");
      EXPECT_EQ(response.body.substr(last - 13, 13), "event: error\n");
    }
  }
  EXPECT_EQ(metric("tidemill_gateway_lost_streams_total"), 3);
}

// As OpenAI tells it: the response that was begun has failed, under the next number.
TEST_F(Resume, AResponseThatNobodyTakesUpHasFailed) {
  options.resume_window = 100ms;
  std::atomic<int> asked = 0;
  const auto event = [](const std::string& type, int number, const std::string& more) {
    return "event: " + type + "\ndata: {\"type\":\"" + type + "\"" + more +
           ",\"sequence_number\":" + std::to_string(number) + "}\n\n";
  };
  add_backend([&](const Received&) {
    if (asked++ > 0) return Script{.bytes = ""};
    std::string bytes = chunked_answer(
        {mark(R"({"open":{"id":"x"}})"),
         event("response.created", 0, R"(,"response":{"id":"resp_1","status":"in_progress","output":[]})"),
         event("response.output_text.delta", 1, R"(,"delta":"\"sequence_number\":77")"),
         mark(R"({"choice":0,"tokens":[1],"state":{}})")});
    bytes.resize(bytes.size() - 5);
    return Script{.bytes = bytes};
  });
  start();
  const wire::HttpResponse response = post("/v1/responses", R"({"model":"m","stream":true,"input":"hi"})");
  EXPECT_EQ(response.status, 200);
  wire::SseParser parser;
  const auto events = parser.feed(response.body);
  ASSERT_TRUE(events);
  ASSERT_EQ(events->size(), 4U) << response.body;
  EXPECT_EQ(events->at(2).event, "response.failed");
  const auto failed = base::parse_json(events->at(2).data);
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->at("type"), "response.failed");
  EXPECT_EQ(failed->at("sequence_number"), 2);
  EXPECT_EQ(failed->at("response").at("id"), "resp_1");
  EXPECT_EQ(failed->at("response").at("status"), "failed");
  EXPECT_EQ(failed->at("response").at("error").at("code"), "server_error");
  EXPECT_EQ(failed->at("response").at("error").at("message"), "the stream broke off and could not be taken up");
  EXPECT_EQ(events->at(3).event, "error");  // which clients raise
  const auto raised = base::parse_json(events->at(3).data);
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->at("type"), "error");
  EXPECT_EQ(raised->at("code"), "server_error");
  EXPECT_EQ(raised->at("message"), failed->at("response").at("error").at("message"));
  EXPECT_EQ(raised->at("sequence_number"), 3);
}

// A server that does not know the member would begin anew; its words must not reach the client.
TEST_F(Resume, AForeignServerDoesNotTakeUpAMarkedStream) {
  options.resume_window = 200ms;
  std::atomic<int> asked = 0;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received&) {
      const std::string bytes = chunked_answer(marked_stream(1));
      if (asked++ == 0) return Script{.bytes = bytes.substr(0, bytes.size() / 2)};
      return Script{.bytes = chunked_answer({"data: {\"text\":\"anew\"}\n\n", "data: [DONE]\n\n"})};
    });
  }
  start();
  const wire::HttpResponse response = post("/v1/chat/completions", question);
  EXPECT_EQ(response.body.find("anew"), std::string::npos);
  EXPECT_NE(response.body.find("\"error\""), std::string::npos) << response.body;
}

TEST_F(Resume, AClientThatHangsUpInMidStreamEndsTheBackendsWork) {
  ScriptedBackend& backend = add_backend([](const Received&) {
    const std::string bytes = chunked_answer(marked_stream(1));
    return Script{.bytes = bytes.substr(0, bytes.size() / 2), .end = Script::End::hang};
  });
  start();
  RawClient client(gateway->port());
  ASSERT_TRUE(client.send(raw_post("/v1/chat/completions", question)));
  ASSERT_NE(client.read_through("\"text\":\"1\"").find("200"), std::string::npos);
  client.close();
  EXPECT_TRUE(backend.wait_for_hang_up());
  EXPECT_EQ(backend.received().size(), 1U);
}

// ---- backends without marks

std::string chunk(const std::string& id, const std::string& delta, const std::string& finish = "null") {
  return R"(data: {"id":")" + id +
         R"(","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":)" + delta +
         R"(,"finish_reason":)" + finish + "}]}\n\n";
}

struct Heard {
  std::string content;
  std::vector<std::string> ids;
  int roles = 0;
  bool announced = false;
  bool done = false;
  bool error = false;
};

Heard hear(const std::string& body) {
  Heard heard;
  wire::SseParser parser;
  const auto events = parser.feed(body);
  EXPECT_TRUE(events);
  for (const wire::SseEvent& event : *events) {
    if (event.data == "[DONE]") {
      heard.done = true;
      continue;
    }
    const auto parsed = base::parse_json(event.data);
    EXPECT_TRUE(parsed) << event.data;
    const json::object& object = parsed->as_object();
    if (object.contains("error")) {
      heard.error = true;
      continue;
    }
    heard.ids.emplace_back(object.at("id").as_string());
    const json::object& delta = object.at("choices").as_array().at(0).as_object().at("delta").as_object();
    if (delta.contains("content")) heard.content += delta.at("content").as_string();
    heard.roles += delta.contains("role") ? 1 : 0;
  }
  heard.announced = body.find(": resumed best-effort\n\n") != std::string::npos;
  return heard;
}

// Says "one two three four" word by word, from behind what the request already holds.
std::vector<std::string> foreign_stream(const Received& request, const std::string& id) {
  const std::vector<std::string> words = {"one ", "two ", "three ", "four"};
  const auto body = base::parse_json(request.body);
  std::string said;
  const json::object& last = body->at("messages").as_array().back().as_object();
  if (last.at("role") == "assistant") {
    said = last.at("content").as_string();
    EXPECT_EQ(body->at("continue_final_message"), true);
    EXPECT_EQ(body->at("add_generation_prompt"), false);
  }
  std::vector<std::string> pieces = {chunk(id, R"({"role":"assistant","content":""})")};
  std::string so_far;
  for (const std::string& word : words) {
    so_far += word;
    if (so_far.size() > said.size()) pieces.push_back(chunk(id, R"({"content":")" + word + "\"}"));
  }
  pieces.push_back(chunk(id, "{}", "\"stop\""));
  pieces.emplace_back("data: [DONE]\n\n");
  return pieces;
}

TEST_F(Resume, AForeignChatGoesOnAsWellAsCanBe) {
  std::atomic<size_t> length = 0;
  std::atomic<bool> died = false;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received& request) {
      if (died.exchange(true)) return Script{.bytes = chunked_answer(foreign_stream(request, "second"))};
      return Script{.bytes = chunked_answer(foreign_stream(request, "first")).substr(0, length)};
    });
  }
  start();
  const size_t whole = chunked_answer(foreign_stream({.head = {}, .path = {}, .body = question}, "first")).size();
  int announced = 0;
  for (size_t at = 0; at < whole; ++at) {
    length = at;
    died = false;
    const wire::HttpResponse response = post("/v1/chat/completions", question);
    ASSERT_EQ(response.status, 200) << at;
    const Heard heard = hear(response.body);
    ASSERT_EQ(heard.content, "one two three four") << at << "\n" << response.body;
    ASSERT_TRUE(heard.done) << at;
    ASSERT_FALSE(heard.error) << at;
    ASSERT_EQ(heard.roles, 1) << at;
    ASSERT_EQ(std::count(heard.ids.begin(), heard.ids.end(), heard.ids.front()), std::ssize(heard.ids)) << at;
    announced += heard.announced ? 1 : 0;
  }
  EXPECT_GT(announced, 100);
  EXPECT_EQ(metric("tidemill_gateway_resumed_streams_total{kind=\"best_effort\"}"), announced);
}

// Says four words to a prompt of ten tokens, and counts what it is shown of them as prompt. `length`: of words that it
// says before it dies; nullopt: it does not.
std::string counted_stream(const Received& request, std::optional<size_t> length) {
  std::vector<std::string> pieces = foreign_stream(request, "any");  // a role, the words, "stop", [DONE]
  const size_t left = pieces.size() - 3;
  if (length && *length <= left) {
    pieces.resize(1 + *length);
    std::string bytes = chunked_answer(pieces);
    bytes.resize(bytes.size() - 5);
    return bytes;
  }
  const size_t prompt = 10 + 4 - left;
  pieces.insert(pieces.end() - 1,
                R"(data: {"id":"any","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":)" +
                    std::to_string(prompt) + R"(,"completion_tokens":)" + std::to_string(left) +
                    R"(,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":)" + std::to_string(prompt) +
                    "}}}\n\n");
  return chunked_answer(pieces);
}

// Whatever was said before a break is output: for the client, the log and the bill.
TEST_F(Resume, AUsageIsThatOfTheWholeChat) {
  const TemporaryFolder folder;
  options.access_log = (folder.path() / "access.jsonl").string();
  options.policy = (folder.path() / "policy.toml").string();
  std::ofstream(options.policy) << "[prices.\"*\"]\ninput = 1000000\ncached_input = 1000000\noutput = 2000000\n";
  std::atomic<size_t> each = 0;  // words of a backend that dies
  std::atomic<int> deaths = 0;   // to come
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received& request) {
      const bool dies = deaths-- > 0;
      return Script{.bytes = counted_stream(request, dies ? std::optional<size_t>(each) : std::nullopt)};
    });
  }
  start();
  const std::string counted =
      R"({"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]})";
  int asked = 0;
  for (const auto& [length, times] : {std::pair<size_t, int>{0, 0}, {1, 1}, {3, 1}, {4, 1}, {1, 3}}) {
    each = length;
    deaths = times;
    const std::string body = post("/v1/chat/completions", counted).body;
    EXPECT_NE(body.find(R"("prompt_tokens":10,"completion_tokens":4,"total_tokens":14,)"
                        R"("prompt_tokens_details":{"cached_tokens":10},"cost":18.00)"),
              std::string::npos)
        << length << " " << times << "\n"
        << body;
    ++asked;
  }
  gateway.reset();
  std::ifstream log(options.access_log);
  int lines = 0;
  for (std::string line; std::getline(log, line);) {
    if (line.find("/v1/chat/completions") == std::string::npos) continue;
    ++lines;
    const auto parsed = base::parse_json(line);
    EXPECT_EQ(parsed->at("prompt_tokens"), 10) << line;
    EXPECT_EQ(parsed->at("output_tokens"), 4) << line;
    EXPECT_EQ(parsed->at("cost"), "18.00") << line;
  }
  EXPECT_EQ(lines, asked);
}

TEST_F(Resume, WhatCannotGoOnEndsWithAnError) {
  std::atomic<int> asked = 0;
  std::string delta;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received&) {
      ++asked;
      std::string bytes =
          chunked_answer({chunk("first", R"({"role":"assistant","content":"a"})"), chunk("first", delta)});
      bytes.resize(bytes.size() - 5);
      return Script{.bytes = bytes};
    });
  }
  start();
  for (const char* text : {R"({"tool_calls":[{"index":0}]})", R"({"reasoning_content":"hm"})"}) {
    asked = 0;
    delta = text;
    const Heard heard = hear(post("/v1/chat/completions", question).body);
    EXPECT_TRUE(heard.error);
    EXPECT_FALSE(heard.done);
    EXPECT_EQ(asked, 1);
  }
}

TEST_F(Resume, BestEffortCanBeTurnedOff) {
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received& request) {
      std::string bytes = chunked_answer(foreign_stream(request, "first"));
      return Script{.bytes = bytes.substr(0, bytes.size() / 2)};
    });
    options.backends.back().resume = "exact";
  }
  start();
  const Heard heard = hear(post("/v1/chat/completions", question).body);
  EXPECT_TRUE(heard.error);
  EXPECT_FALSE(heard.done);
}

// ---- what is no word of an answer

// As it stands when the server dies: without the last chunk.
std::string cut_off(const std::vector<std::string>& pieces) {
  std::string bytes = chunked_answer(pieces);
  bytes.resize(bytes.size() - 5);
  return bytes;
}

struct Silence {
  std::string path;
  std::string said;  // that is none
};

// A whole stream of each dialect, and its last words.
std::string whole_stream(const std::string& path) {
  if (path == "/v1/messages") {
    return "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\"}}\n\n"
           "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"good\"}}\n\n"
           "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
  }
  if (path == "/v1/responses") {
    return "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\"}}\n\n"
           "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"good\"}\n\n"
           "event: response.completed\ndata: {\"type\":\"response.completed\"}\n\n";
  }
  if (path == "/v1/completions") return "data: {\"choices\":[{\"text\":\"good\"}]}\n\ndata: [DONE]\n\n";
  return chunk("c", R"({"role":"assistant","content":""})") + chunk("c", R"({"content":"good"})") + "data: [DONE]\n\n";
}

std::string asked_of(const std::string& path) {
  if (path == "/v1/responses") return R"({"model":"m","stream":true,"store":false,"input":"hi"})";
  if (path == "/v1/completions") return R"({"model":"m","stream":true,"prompt":"hi"})";
  return R"({"model":"m","stream":true,"max_tokens":5,"messages":[{"role":"user","content":"hi"}]})";
}

// Whoever dies before a word of the answer has said nothing: in every dialect another begins anew, and the client sees
// one stream, without what the first had announced.
TEST_F(Resume, WhatIsNoWordOfTheAnswerIsNoBeginning) {
  const std::string ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
  const std::vector<Silence> silences = {
      {"/v1/chat/completions", ": ping\n\n"},
      {"/v1/chat/completions", chunk("dead", R"({"role":"assistant","content":""})")},
      {"/v1/chat/completions", "data: {\"id\":\"dead\",\"choices\":[]}\n\n"},
      {"/v1/completions", ": ping\n\n"},
      {"/v1/completions", "data: {\"id\":\"dead\",\"choices\":[{\"text\":\"\"}]}\n\n"},
      {"/v1/messages", ": ping\n\n"},
      {"/v1/messages", ping},
      {"/v1/messages", "data: {\"type\":\"message_start\",\"message\":{\"id\":\"dead\"}}\n\n" + ping},
      {"/v1/responses", ": ping\n\n"},
      {"/v1/responses", "data: {\"type\":\"response.created\",\"response\":{\"id\":\"dead\"}}\n\n"}};
  std::atomic<int> asked = 0;
  std::string said;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received& request) {
      EXPECT_EQ(request.body.find("continue_final_message"), std::string::npos) << "there is nothing to go on with";
      if (asked++ == 0) return Script{.bytes = cut_off({said})};
      return Script{.bytes = chunked_answer({whole_stream(request.path)})};
    });
  }
  start();
  for (const Silence& silence : silences) {
    SCOPED_TRACE(silence.path + " " + silence.said);
    asked = 0;
    said = silence.said;
    const wire::HttpResponse response = post(silence.path, asked_of(silence.path));
    EXPECT_EQ(asked, 2);
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body.find("dead"), std::string::npos) << response.body;
    const size_t begin = response.body.size() - std::min(response.body.size(), whole_stream(silence.path).size());
    EXPECT_EQ(response.body.substr(begin), whole_stream(silence.path));
    const std::string before = response.body.substr(0, begin);
    EXPECT_TRUE(before.empty() || before == ": ping\n\n" || before == ping) << before;
  }
  EXPECT_EQ(metric("tidemill_gateway_resumed_streams_total{kind=\"best_effort\"}"), 0);
  EXPECT_EQ(metric("tidemill_gateway_lost_streams_total"), 0);
}

// The client has read comments, so what else comes of its request is told within the stream.
TEST_F(Resume, AfterCommentsAnErrorIsOneOfTheStream) {
  std::atomic<int> asked = 0;
  std::string other;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received&) {
      if (asked++ == 0 || other.empty()) return Script{.bytes = cut_off({": ping\n\n"})};
      return Script{.bytes = other};
    });
  }
  start();
  const wire::HttpResponse dead = post("/v1/chat/completions", question);
  EXPECT_EQ(asked, 4) << "gateway.retries is 3";
  EXPECT_EQ(dead.status, 200);
  EXPECT_EQ(dead.body.substr(0, 8 * 4), ": ping\n\n: ping\n\n: ping\n\n: ping\n\n");
  EXPECT_NE(dead.body.find("no backend answered, after 4 tries"), std::string::npos) << dead.body;
  EXPECT_TRUE(hear(dead.body).error);
  asked = 0;
  other = http_answer(400, "application/json", R"({"error":{"message":"the prompt is too long"}})");
  const wire::HttpResponse declined = post("/v1/chat/completions", question);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(declined.status, 200);
  EXPECT_NE(declined.body.find("the prompt is too long"), std::string::npos) << declined.body;
  EXPECT_TRUE(hear(declined.body).error);
}

class NoProgress : public Resume, public ::testing::WithParamInterface<size_t> {
 protected:
  // What whoever takes the stream up sends, and then is gone: a part of a head, comments, what announces an answer.
  static std::string silence() {
    const std::vector<std::string> all = {
        "HTTP/1.1 200 OK\r\n", cut_off({": ping\n\n"}), cut_off({chunk("d", R"({"role":"assistant","content":""})")}),
        cut_off({chunk("d", "{}")}), cut_off({"data: {\"id\":\"d\",\"choices\":[],\"usage\":null}\n\n"})};
    return all.at(GetParam());
  }
};

// A stream that whoever takes it up gets no further with is not resumed for ever.
TEST_P(NoProgress, EndsTheStream) {
  std::atomic<int> asked = 0;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received&) {
      if (asked++ == 0) return Script{.bytes = cut_off({chunk("c", R"({"role":"assistant","content":"Hello "})")})};
      return Script{.bytes = silence()};
    });
  }
  start();
  const wire::HttpResponse response = post("/v1/chat/completions", question);
  EXPECT_EQ(asked, 1 + 4) << "gateway.retries is 3";
  const Heard heard = hear(response.body);
  EXPECT_EQ(heard.content, "Hello ");
  EXPECT_EQ(heard.ids.size(), 1U) << "what announces an answer is not repeated: " << response.body;
  EXPECT_TRUE(heard.error);
  EXPECT_FALSE(heard.done);
  EXPECT_FALSE(heard.announced);
  EXPECT_EQ(metric("tidemill_gateway_resumed_streams_total{kind=\"best_effort\"}"), 0);
  EXPECT_EQ(metric("tidemill_gateway_lost_streams_total"), 1);
}

INSTANTIATE_TEST_SUITE_P(OfAForeignChat, NoProgress, ::testing::Range<size_t>(0, 5));

// Each server of marked streams that takes it up says comments and what its marks allow, and no token.
TEST_F(Resume, AMarkedStreamWithoutProgressEnds) {
  std::atomic<int> asked = 0;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received&) {
      std::vector<std::string> pieces = {mark(R"({"open":{"id":"x"}})")};
      if (asked++ == 0) {
        pieces.push_back(group(1) + mark(R"({"choice":0,"tokens":[1],"state":{"at":1}})"));
      } else {
        pieces.push_back(": waiting\n\n" + mark(R"({"choice":0,"tokens":[],"state":{"at":1}})"));
      }
      return Script{.bytes = cut_off(pieces)};
    });
  }
  start();
  const wire::HttpResponse response = post("/v1/chat/completions", question);
  EXPECT_EQ(asked, 1 + 4) << "gateway.retries is 3";
  EXPECT_TRUE(without_comments(response.body).starts_with(group(1) + "data: {\"error\"")) << response.body;
  EXPECT_EQ(metric("tidemill_gateway_lost_streams_total"), 1);
}

// Before the first token the tries are bounded as those of any request, and each begins anew.
TEST_F(Resume, AMarkedStreamWithoutATokenHasNotBegun) {
  std::atomic<int> asked = 0;
  std::string said;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received& request) {
      EXPECT_EQ(request.body.find("tidemill_resume"), std::string::npos) << request.body;
      ++asked;
      return Script{.bytes = cut_off({mark(R"({"open":{"id":"x"}})"), said})};
    });
  }
  start();
  said = chunk("c", R"({"role":"assistant","content":""})") + mark(R"({"choice":0,"tokens":[],"state":{}})");
  const wire::HttpResponse silent = post("/v1/chat/completions", question);
  EXPECT_EQ(asked, 4) << "gateway.retries is 3";
  EXPECT_EQ(silent.status, 503) << silent.body;
  asked = 0;
  said = ": waiting\n\n";
  const wire::HttpResponse waited = post("/v1/chat/completions", question);
  EXPECT_EQ(asked, 4);
  EXPECT_EQ(waited.status, 200);
  EXPECT_TRUE(waited.body.starts_with(": waiting\n\n")) << waited.body;
  EXPECT_NE(waited.body.find("no backend answered"), std::string::npos) << waited.body;
}

// Tokens that show nothing, such as reasoning that nobody wants to see, are not made twice.
TEST_F(Resume, TokensThatShowNothingAreGoneOnFrom) {
  std::atomic<int> asked = 0;
  std::atomic<int> wanted = 0;
  for (int i = 0; i < 2; ++i) {
    add_backend([&](const Received& request) {
      const int first = first_wanted(request);
      if (asked++ == 0) {
        return Script{
            .bytes = cut_off({mark(R"({"open":{"id":"x"}})"), mark(R"({"choice":0,"tokens":[1],"state":{"at":1}})")})};
      }
      wanted = first;
      return Script{.bytes = chunked_answer(marked_stream(first))};
    });
  }
  start();
  const wire::HttpResponse response = post("/v1/chat/completions", question);
  EXPECT_EQ(asked, 2);
  EXPECT_EQ(wanted, 2);
  EXPECT_EQ(group(1) + without_comments(response.body), undisturbed());
}

}  // namespace
}  // namespace tidemill::test
