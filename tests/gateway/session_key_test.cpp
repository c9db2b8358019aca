#include "gateway/session_key.hpp"

#include <set>

#include <gtest/gtest.h>

#include "gateway/route_options.hpp"

namespace tidemill::gateway {
namespace {

std::vector<SessionSource> sources_of(const std::vector<std::string>& words) {
  std::vector<SessionSource> sources;
  for (const std::string& word : words) {
    auto source = parse_session_source(word);
    EXPECT_TRUE(source) << word;
    sources.push_back(*source);
  }
  return sources;
}

struct Said {
  std::string body = "{}";
  wire::Headers headers{};
  std::string tenant{};
  std::string conversation{};
};

std::string key_of(const Said& said, const std::vector<std::string>& words = RouteOptions().session) {
  wire::HttpRequest request;
  request.headers = said.headers;
  const auto outline = RequestOutline::read(said.body);
  EXPECT_TRUE(outline) << said.body;
  return session_key(sources_of(words), said.tenant, request, *outline, said.conversation);
}

TEST(SessionKey, IsWhatTheRequestSays) {
  EXPECT_EQ(key_of({}), "");
  std::set<std::string> keys;
  for (const Said& said :
       {Said{.headers = {{"X-Session-Token", "a"}}}, Said{.body = R"({"user":"a"})"}, Said{.body = R"({"user":"b"})"},
        Said{.body = R"({"safety_identifier":"a"})"}, Said{.body = R"({"prompt_cache_key":"a"})"},
        Said{.body = R"({"conversation":"a"})"}, Said{.body = R"({"user":"a"})", .tenant = "t"}}) {
    const std::string key = key_of(said);
    EXPECT_NE(key, "") << said.body;
    EXPECT_EQ(key, key_of(said));
    EXPECT_TRUE(keys.insert(key).second) << said.body << " is another session";
  }
  // However it is written.
  EXPECT_EQ(key_of({.body = R"({"user" : "\u0061"})"}), key_of({.body = R"({"user":"a"})"}));
  EXPECT_EQ(key_of({.body = R"({"conversation":{"id":"a"}})"}), key_of({.body = R"({"conversation":"a"})"}));
  EXPECT_EQ(key_of({.body = R"({"metadata":{"x":1,"user_id":"a"}})"}), key_of({.body = R"({"user":"a"})"}));
}

TEST(SessionKey, TheFirstSourceThatSaysOneCounts) {
  const std::string all = R"({"user":"u","prompt_cache_key":"p","safety_identifier":"s","conversation":"c"})";
  EXPECT_EQ(key_of({.body = all, .headers = {{"x-session-token", "h"}}}),
            key_of({.headers = {{"x-session-token", "h"}}}));
  EXPECT_EQ(key_of({.body = all}), key_of({.body = R"({"conversation":"c"})"}));
  EXPECT_EQ(key_of({.body = all}, {"user", "conversation"}), key_of({.body = R"({"user":"u"})"}));
  EXPECT_EQ(key_of({.body = all}, {"header:x-chat"}), "");
  EXPECT_NE(key_of({.body = all, .headers = {{"X-Chat", "7"}}}, {"header:x-chat"}), "");
}

// A turn is of its conversation's session, under the key that the first turn was given.
TEST(SessionKey, EarlierTurnsHaveDecided) {
  EXPECT_EQ(key_of({.body = R"({"user":"u"})", .conversation = "as before"}), "as before");
  EXPECT_EQ(key_of({.headers = {{"x-session-token", "h"}}, .conversation = "as before"}),
            key_of({.headers = {{"x-session-token", "h"}}}));
  EXPECT_EQ(key_of({.conversation = "as before"}, {"user"}), "");
}

TEST(SessionKey, WhatIsNoTextSaysNothing) {
  for (const char* body :
       {R"({"user":7})", R"({"user":null})", R"({"user":""})", R"({"user":["a"]})", R"({"conversation":{"name":"a"}})",
        R"({"metadata":"a"})", R"({"metadata":{"user_id":7}})"}) {
    EXPECT_EQ(key_of({.body = body}), "") << body;
  }
}

TEST(SessionKey, LongOnesAreKeptShort) {
  const std::string one = key_of({.body = R"({"user":")" + std::string(5000, 'a') + R"("})"});
  const std::string two = key_of({.body = R"({"user":")" + std::string(5001, 'a') + R"("})"});
  EXPECT_LE(one.size(), 64U);
  EXPECT_NE(one, two);
}

TEST(SessionKey, SourcesAreNamedRightly) {
  for (const char* word : {"", "header:", "header:a b", "header:a:b", "User", "x-session-token", "tenant"}) {
    const auto source = parse_session_source(word);
    ASSERT_FALSE(source) << word;
    EXPECT_NE(source.error().message().find("\"header:NAME\""), std::string::npos);
  }
}

// What decides which version answers may not stand in a body twice.
TEST(SessionKey, TwoOfOneKindAreRefused) {
  const auto outline = RequestOutline::read(R"({"user":"a","user":"b"})");
  ASSERT_FALSE(outline);
  EXPECT_EQ(outline.error().param(), "user");
}

}  // namespace
}  // namespace tidemill::gateway
