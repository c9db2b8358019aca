#include "gateway/whole_events.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "gateway/stream_error.hpp"
#include "wire/sse.hpp"

namespace tidemill::gateway {
namespace {

struct Seen {
  std::string type;
  std::string data;
  bool operator==(const Seen&) const = default;
};

// Those with data. All that comes is what was given.
std::vector<Seen> events_in(std::string_view text) {
  std::vector<Seen> seen;
  std::string whole;
  WholeEvents walk(text);
  while (const auto event = walk.next()) {
    whole += event->text;
    if (event->has_data) seen.push_back({std::string(event->type()), std::string(event->data)});
  }
  EXPECT_EQ(whole, text);
  return seen;
}

// The ways in which one event may be written.
std::vector<std::string> spellings(const std::string& name, const std::string& data) {
  std::vector<std::string> all = {"event: " + name + "\ndata: " + data + "\n\n",
                                  "event:" + name + "\ndata:" + data + "\n\n",
                                  "data: " + data + "\nevent: " + name + "\n\n",
                                  "id: 1\nretry: 5\nevent: " + name + "\ndata: " + data + "\n\n",
                                  ": a comment\nevent: " + name + "\n: another\ndata: " + data + "\n\n",
                                  "data: " + data + "\n\n"};
  for (const char* end : {"\r\n", "\r"}) {
    for (size_t i = 0; i < 6; ++i) {
      std::string other;
      for (const char c : all[i])
        c == '\n' ? other += end : other += c;
      all.push_back(other);
    }
  }
  return all;
}

TEST(WholeEvents, ReadsEverySpelling) {
  for (const std::string& text : spellings("message_stop", R"({"type":"message_stop"})")) {
    EXPECT_EQ(events_in(text), (std::vector<Seen>{{"message_stop", R"({"type":"message_stop"})"}})) << text;
    const std::string before = "data: {\"type\":\"message_start\"}\n\n";
    EXPECT_EQ(events_in(before + text).size(), 2U) << text;
    EXPECT_EQ(events_in(text + before).size(), 2U) << text;
  }
}

// As the parser that clients use does.
TEST(WholeEvents, AgreesWithTheParser) {
  const std::string text =
      ": hi\n\ndata: a\ndata:b\ndata\n\nevent: x\n\nevent:y\r\ndata:  two blanks\r\n\r\nid: 7\rdata: {}\r\rdata: "
      "last\n\n";
  wire::SseParser parser;
  const auto expected = parser.feed(text);
  ASSERT_TRUE(expected);
  const std::vector<Seen> got = events_in(text);
  ASSERT_EQ(got.size(), expected->size());
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_EQ(got[i].data, expected->at(i).data) << i;
  EXPECT_EQ(got[0].data, "a\nb\n");
  EXPECT_EQ(got[1].type, "y");
}

TEST(WholeEvents, TypesStandInTheNameOrInTheData) {
  EXPECT_EQ(events_in("event: a\ndata: {\"type\":\"b\"}\n\n"), (std::vector<Seen>{{"a", R"({"type":"b"})"}}));
  EXPECT_EQ(events_in("data: {\"response\":{\"type\":\"c\"},\"type\" : \"b\"}\n\n").at(0).type, "b");
  EXPECT_EQ(events_in("data: {\"type\":7}\n\n").at(0).type, "");
  EXPECT_EQ(events_in("data: [DONE]\n\n").at(0).type, "");
  EXPECT_TRUE(events_in("").empty());
  EXPECT_TRUE(events_in("\n\n\n").empty());
}

std::string whole_of(std::string_view rest) {
  std::string out;
  append_whole_events(out, rest);
  return out;
}

// Whatever the end of its lines, and wherever its last bytes are missing: the event is whole as soon as its data are.
TEST(WholeEvents, TheLastOfAStreamMayLackItsBlankLine) {
  for (const std::string& text : spellings("message_stop", R"({"type":"message_stop"})")) {
    const std::vector<Seen> expected = {{"message_stop", R"({"type":"message_stop"})"}};
    const size_t line = text.find_last_not_of("\r\n") + 1;
    const bool data_last = text.rfind("data:", line) > text.rfind("event:", line) || text.rfind("event:") == text.npos;
    for (size_t length = 1; length <= text.size(); ++length) {
      const std::string whole = whole_of(std::string_view(text).substr(0, length));
      if (length > line || (length == line && data_last)) {
        EXPECT_EQ(events_in(whole), expected) << length << " of " << text;
        const std::string next = "data: {}\n\n";
        EXPECT_EQ(events_in(whole + next).size(), 2U) << "a blank line ends it: " << length << " of " << text;
      } else if (data_last) {
        EXPECT_EQ(whole, "") << length << " of " << text;
      }
    }
  }
}

TEST(WholeEvents, HalfOfOneIsLeftOut) {
  const std::string good = "data: {\"a\":1}\n\n";
  for (const char* half : {"data: {\"a\":", "data: {\"a\":\n", "data: [DO", "data: 1", "data: tru", "data",
                           "event: message_stop", "event: message_stop\n", "event: message_stop\ndata: ",
                           "data: {\"a\":1}\nevent: mess", ": a comm", ": a comment\n"}) {
    EXPECT_EQ(whole_of(half), "") << half;
    EXPECT_EQ(whole_of(good + half), good) << half;
  }
  EXPECT_EQ(whole_of(""), "");
  EXPECT_EQ(whole_of("data: [DONE]"), "data: [DONE]\n\n");
  EXPECT_EQ(whole_of("\ndata: {}\r"), "data: {}\r\n\n");
  EXPECT_EQ(whole_of(": hi\n\ndata: {\"a\":\ndata: 1}\n"), ": hi\n\ndata: {\"a\":\ndata: 1}\n\n");
}

TEST(StreamEnd, IsSeenInEverySpelling) {
  struct Last {
    Dialect dialect;
    std::string name;
    std::string data;
  };
  for (const Last& last : {Last{Dialect::chat, "message", "[DONE]"}, Last{Dialect::completions, "message", "[DONE]"},
                           Last{Dialect::chat, "message", R"({"id":"x","error":{"message":"no"}})"},
                           Last{Dialect::messages, "message_stop", R"({"type":"message_stop"})"},
                           Last{Dialect::messages, "error", R"({"type":"error","error":{}})"},
                           Last{Dialect::responses, "response.completed", R"({"type":"response.completed"})"},
                           Last{Dialect::responses, "response.incomplete", R"({"type":"response.incomplete"})"},
                           Last{Dialect::responses, "response.failed", R"({"type":"response.failed"})"},
                           Last{Dialect::responses, "error", R"({"type":"error"})"}}) {
    for (const std::string& text : spellings(last.name, last.data)) {
      StreamEnd end(last.dialect);
      end.take("data: {\"choices\":[],\"error\":null}\n\n");
      EXPECT_FALSE(end.seen());
      end.take(text);
      EXPECT_TRUE(end.seen()) << text;
      EXPECT_EQ(end.events(), 2);
    }
  }
}

// What an answer says is not what it is.
TEST(StreamEnd, IsNotSeenInWhatIsSaid) {
  StreamEnd chat(Dialect::chat);
  chat.take("data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\":1, [DONE]\"}}]}\n\n: [DONE]\n\n");
  EXPECT_FALSE(chat.seen());
  StreamEnd messages(Dialect::messages);
  messages.take(
      "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"message_stop\"}}\n\nevent: message_stop\n\n");
  EXPECT_FALSE(messages.seen()) << "a name alone makes no event";
  messages.take("event: message_stop\ndata: {\"type\n\n");
  EXPECT_FALSE(messages.seen()) << "nor does it with data that nobody can read";
  StreamEnd responses(Dialect::responses);
  responses.take("event: response.completed\ndata: {\"type\":\"response.completed\",\"resp\n\n");
  EXPECT_FALSE(responses.seen());
}

// Where events end, by looking at each byte by itself: behind a line that is empty.
std::vector<std::string> cut_plainly(const std::string& text) {
  std::vector<std::string> events;
  size_t begin = 0;
  size_t line = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '\n' && text[at] != '\r') continue;
    const bool empty = at == line;
    if (text[at] == '\r' && at + 1 < text.size() && text[at + 1] == '\n') ++at;
    line = at + 1;
    if (!empty) continue;
    events.push_back(text.substr(begin, line - begin));
    begin = line;
  }
  if (begin < text.size()) events.push_back(text.substr(begin));
  return events;
}

TEST(WholeEvents, EndWhereLinesDoWhateverEndsThem) {
  uint32_t state = 7;
  for (int i = 0; i < 5000; ++i) {
    std::string text;
    state = state * 1664525 + 1013904223;
    const size_t length = (state >> 24) % 24;
    for (size_t k = 0; k < length; ++k) {
      state = state * 1664525 + 1013904223;
      text += "ab:\n\n\r\r "[(state >> 24) % 8];
    }
    std::vector<std::string> events;
    WholeEvents walk(text);
    while (const auto event = walk.next())
      events.emplace_back(event->text);
    ASSERT_EQ(events, cut_plainly(text)) << testing::PrintToString(text);
  }
}

}  // namespace
}  // namespace tidemill::gateway
