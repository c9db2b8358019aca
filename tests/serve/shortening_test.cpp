// What goes first where a conversation is too long.
#include "serve/shortening.hpp"

#include <set>
#include <string>

#include <gtest/gtest.h>

#include "base/json.hpp"

namespace tidemill::serve {
namespace {

namespace json = base::json;

json::array messages_of(std::string_view text) {
  return base::parse_json(text).value().as_array();
}

// One line: roles' first letters, with the ids of calls and results.
std::string told(const json::array& messages) {
  std::string out;
  for (const json::value& value : messages) {
    const json::object& message = value.as_object();
    out += message.at("role").as_string()[0];
    if (const json::value* calls = message.if_contains("tool_calls")) {
      for (const json::value& call : calls->as_array())
        out += std::string(call.at("id").as_string());
    }
    if (const json::value* id = message.if_contains("tool_call_id")) out += std::string(id->as_string());
    out += ' ';
  }
  return out;
}

const json::array& long_conversation() {
  static const json::array messages = messages_of(R"([
    {"role": "system", "content": "S"},
    {"role": "user", "content": "1"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "a"}, {"id": "b"}]},
    {"role": "tool", "tool_call_id": "b", "content": "B"},
    {"role": "tool", "tool_call_id": "a", "content": "A"},
    {"role": "assistant", "content": "done"},
    {"role": "user", "content": "2"},
    {"role": "assistant", "content": "I look", "tool_calls": [{"id": "c"}]},
    {"role": "tool", "tool_call_id": "c", "content": "C"},
    {"role": "assistant", "content": null, "tool_calls": [{"id": "d"}]},
    {"role": "tool", "tool_call_id": "d", "content": "D"}])");
  return messages;
}

TEST(Shortening, DropsCallsWithTheirResultsThenTurns) {
  const Shortening shortening(long_conversation());
  ASSERT_EQ(shortening.parts(), 4u);
  EXPECT_EQ(told(shortening.without(0)), "s u aab tb ta a u ac tc ad td ");
  EXPECT_EQ(told(shortening.without(1)), "s u ab tb a u ac tc ad td ");
  EXPECT_EQ(told(shortening.without(2)), "s u a u ac tc ad td ");
  EXPECT_EQ(told(shortening.without(3)), "s u ac tc ad td ");
  EXPECT_EQ(told(shortening.without(4)), "s u ad td ");
  EXPECT_EQ(shortening.without(4)[2].at("content"), "I look") << "what was said beside the call stays";
  EXPECT_EQ(told(shortening.without(9)), told(shortening.without(4)));
  EXPECT_EQ(shortening.dropped(2).calls, 2);
  EXPECT_EQ(shortening.dropped(2).turns, 0);
  EXPECT_EQ(shortening.dropped(4).calls, 1);
  EXPECT_EQ(shortening.dropped(4).turns, 1);
}

// Where nothing is left between them answers are one, as where nobody had called between them.
TEST(Shortening, JoinsAnswersBetweenWhichTheCallsAreGone) {
  const json::array messages = messages_of(R"([
    {"role": "user", "content": "1"},
    {"role": "assistant", "content": "A", "reasoning_content": "ra", "tool_calls": [{"id": "a"}]},
    {"role": "tool", "tool_call_id": "a", "content": "R"},
    {"role": "assistant", "content": null, "tool_calls": [{"id": "b"}]},
    {"role": "tool", "tool_call_id": "b", "content": "R"},
    {"role": "assistant", "content": "C", "reasoning_content": "rc", "tool_calls": [{"id": "c"}, {"id": "d"}]},
    {"role": "tool", "tool_call_id": "c", "content": "R"},
    {"role": "tool", "tool_call_id": "d", "content": "R"},
    {"role": "assistant", "content": "E"},
    {"role": "user", "content": "2"}])");
  const Shortening shortening(messages);
  ASSERT_EQ(shortening.parts(), 5u);
  EXPECT_EQ(told(shortening.without(0)), "u aa ta ab tb acd tc td a u ");
  EXPECT_EQ(told(shortening.without(1)), "u ab tb acd tc td a u ");
  EXPECT_EQ(shortening.without(1)[1].at("content"), "A");
  EXPECT_EQ(shortening.without(1)[1].at("reasoning_content"), "ra");
  EXPECT_EQ(told(shortening.without(2)), "u acd tc td a u ");
  EXPECT_EQ(shortening.without(2)[1].at("content"), "A\nC");
  EXPECT_EQ(shortening.without(2)[1].at("reasoning_content"), "ra\nrc");
  EXPECT_EQ(told(shortening.without(3)), "u ad td a u ");
  EXPECT_EQ(told(shortening.without(4)), "u a u ");
  EXPECT_EQ(shortening.without(4)[1].at("content"), "A\nC\nE");
  EXPECT_EQ(told(shortening.without(5)), "u ");
}

// One question with eighty rounds of calls: the last stays, and no call without its result at any step.
TEST(Shortening, ShortensASingleTurn) {
  json::array messages = messages_of(R"([{"role": "user", "content": "1"}])");
  for (int i = 0; i < 80; ++i) {
    const std::string id = std::to_string(i);
    messages.push_back(
        json::object{{"role", "assistant"}, {"content", ""}, {"tool_calls", {json::object{{"id", id}}}}});
    messages.push_back(json::object{{"role", "tool"}, {"tool_call_id", id}, {"content", "R"}});
  }
  const Shortening shortening(messages);
  ASSERT_EQ(shortening.parts(), 79u);
  for (size_t count = 0; count <= shortening.parts(); ++count) {
    const json::array left = shortening.without(count);
    ASSERT_EQ(left.size(), 1 + 2 * (80 - count));
    std::multiset<std::string> calls;
    std::multiset<std::string> results;
    for (const json::value& message : left) {
      if (const json::value* made = message.as_object().if_contains("tool_calls")) {
        calls.insert(std::string(made->at(0).at("id").as_string()));
      }
      if (const json::value* id = message.as_object().if_contains("tool_call_id")) {
        results.insert(std::string(id->as_string()));
      }
    }
    EXPECT_EQ(calls, results);
    EXPECT_TRUE(calls.contains("79"));
  }
}

// What the user says while a call runs begins a turn of its own; the result behind it is the call's all the same.
TEST(Shortening, DropsAResultWithTheCallOfAnEarlierTurn) {
  const json::array messages = messages_of(R"([
    {"role": "user", "content": "1"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "a"}, {"id": "b"}]},
    {"role": "tool", "tool_call_id": "a", "content": "A"},
    {"role": "user", "content": "meanwhile"},
    {"role": "tool", "tool_call_id": "b", "content": "B"},
    {"role": "assistant", "content": "done"},
    {"role": "user", "content": "2"},
    {"role": "assistant", "content": "", "tool_calls": [{"id": "a"}]},
    {"role": "user", "content": "3"},
    {"role": "tool", "tool_call_id": "a", "content": "A again"}])");
  const Shortening shortening(messages);
  ASSERT_EQ(shortening.parts(), 6u);
  EXPECT_EQ(told(shortening.without(1)), "u ab u tb a u aa u ta ");
  EXPECT_EQ(told(shortening.without(2)), "u u a u aa u ta ") << "both calls, and the result behind the next question";
  EXPECT_EQ(told(shortening.without(3)), "u a u aa u ta ");
  EXPECT_EQ(told(shortening.without(4)), "u aa u ta ");
  EXPECT_EQ(told(shortening.without(5)), "u u ");
  EXPECT_EQ(told(shortening.without(6)), "u ");
  EXPECT_EQ(shortening.dropped(6).turns, 3);
}

// At no step is there a result without its call, nor a call without its result.
TEST(Shortening, KeepsCallsAndResultsTogetherWhereverTheyStand) {
  json::array messages;
  for (int i = 0; i < 30; ++i) {
    const std::string id = std::to_string(i);
    const std::string late = std::to_string(i - 2);
    messages.push_back(json::object{{"role", "user"}, {"content", id}});
    if (i >= 2) messages.push_back(json::object{{"role", "tool"}, {"tool_call_id", late}, {"content", "R"}});
    messages.push_back(
        json::object{{"role", "assistant"}, {"content", "x"}, {"tool_calls", {json::object{{"id", id}}}}});
  }
  for (const int i : {28, 29})
    messages.push_back(json::object{{"role", "tool"}, {"tool_call_id", std::to_string(i)}, {"content", "R"}});
  const Shortening shortening(messages);
  for (size_t count = 0; count <= shortening.parts(); ++count) {
    std::multiset<std::string> calls;
    std::multiset<std::string> results;
    for (const json::value& message : shortening.without(count)) {
      if (const json::value* made = message.as_object().if_contains("tool_calls"))
        calls.insert(std::string(made->at(0).at("id").as_string()));
      if (const json::value* id = message.as_object().if_contains("tool_call_id"))
        results.insert(std::string(id->as_string()));
    }
    EXPECT_EQ(calls, results) << count;
  }
}

TEST(Shortening, LeavesAShortConversationAlone) {
  EXPECT_EQ(Shortening(json::array()).parts(), 0u);
  EXPECT_EQ(Shortening(messages_of(R"([{"role": "user", "content": "1"}])")).parts(), 0u);
  EXPECT_EQ(
      Shortening(messages_of(R"([{"role": "assistant", "content": "1"}, {"role": "system", "content": "2"}])")).parts(),
      0u);
}

}  // namespace
}  // namespace tidemill::serve
