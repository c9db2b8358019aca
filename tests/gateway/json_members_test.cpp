#include "gateway/json_members.hpp"

#include <random>

#include <gtest/gtest.h>

#include "base/json.hpp"

namespace tidemill::gateway {
namespace {

namespace json = base::json;

std::string walk(std::string_view text) {
  JsonMembers members(text);
  std::string out;
  while (const auto member = members.next())
    out += std::string(member->key) + "=" + std::string(member->value) + ";";
  return members.whole() ? out : "broken after " + out;
}

TEST(JsonMembers, FindsThemInOrder) {
  EXPECT_EQ(walk("{}"), "");
  EXPECT_EQ(walk(" {\n} \n"), "");
  EXPECT_EQ(walk(R"({"a":1,"b" : "x,}" ,"c":[{"d":"]"},[]], "e":{"f":{}},"g":null})"),
            R"(a=1;b="x,}";c=[{"d":"]"},[]];e={"f":{}};g=null;)");
  EXPECT_EQ(walk(R"({"a\"b":"c\\","d":"\\\""})"), R"(a\"b="c\\";d="\\\"";)");
}

TEST(JsonMembers, SaysWhatIsNoObject) {
  for (const char* text : {"",
                           " ",
                           "[]",
                           "1",
                           "{",
                           "{\"a\"",
                           "{\"a\":",
                           "{\"a\":}",
                           "{\"a\":1",
                           "{\"a\":1,",
                           "{\"a\":1,}",
                           "{\"a\":1}x",
                           "{\"a\":\"x",
                           "{\"a\":\"x\\\"}",
                           "{\"a\":[1}",
                           "{\"a\":{\"b\":1}",
                           "{a:1}",
                           "{\"a\" 1}",
                           "{\"a\":1 \"b\":2}",
                           "{,}"}) {
    EXPECT_TRUE(walk(text).starts_with("broken")) << text << " gave " << walk(text);
  }
}

unsigned draw(std::mt19937& random, unsigned below) {
  return static_cast<unsigned>(random() % below);
}

json::value random_value(std::mt19937& random, int depth) {
  const unsigned kind = draw(random, depth > 0 ? 7 : 5);
  if (kind == 0) return nullptr;
  if (kind == 1) return draw(random, 2) == 0;
  if (kind == 2) return static_cast<int64_t>(random());
  if (kind <= 4) {
    std::string text;
    for (unsigned i = draw(random, 8); i > 0; --i)
      text += "\"\\{}[],: \n\x01z"[draw(random, 12)];
    return json::string(text);
  }
  if (kind == 5) {
    json::array items;
    for (unsigned i = draw(random, 4); i > 0; --i)
      items.push_back(random_value(random, depth - 1));
    return items;
  }
  json::object object;
  for (unsigned i = draw(random, 4); i > 0; --i)
    object["k\"" + std::to_string(draw(random, 100))] = random_value(random, depth - 1);
  return object;
}

// Whatever a full parser accepts is cut into the same members, and every beginning of it is seen to be cut off.
TEST(JsonMembers, AgreesWithAParser) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    json::object object;
    for (unsigned i = draw(random, 5); i > 0; --i)
      object["m\\" + std::to_string(draw(random, 1000))] = random_value(random, 3);
    const std::string text = json::serialize(object);
    JsonMembers members(text);
    json::object found;
    while (const auto member = members.next())
      found[*json_text("\"" + std::string(member->key) + "\"")] = *base::parse_json(member->value);
    ASSERT_TRUE(members.whole()) << text;
    EXPECT_EQ(found, object);
    EXPECT_EQ(text[members.closing_brace()], '}');
    for (size_t length = 0; length < text.size(); ++length)
      ASSERT_TRUE(walk(std::string_view(text).substr(0, length)).starts_with("broken")) << text.substr(0, length);
  }
}

TEST(JsonMembers, AMemberIsAddedBehindTheOthers) {
  const auto add = [](std::string_view object) {
    JsonMembers members(object);
    while (members.next()) {
    }
    return with_member(object, members.closing_brace(), "x", "[1]");
  };
  EXPECT_EQ(add("{}"), R"({"x":[1]})");
  EXPECT_EQ(add("{ } "), R"({ "x":[1]} )");
  EXPECT_EQ(add("{\"a\":\"{\"\n}\n"), "{\"a\":\"{\"\n,\"x\":[1]}\n");
}

TEST(JsonMembers, TextsAndIntegers) {
  EXPECT_EQ(json_text(R"("plain")"), "plain");
  EXPECT_EQ(json_text(R"("\u0061\n")"), "a\n");
  EXPECT_EQ(json_text("12"), std::nullopt);
  EXPECT_EQ(json_text("\""), std::nullopt);
  EXPECT_EQ(json_integer("-12"), -12);
  EXPECT_EQ(json_integer("1.5"), std::nullopt);
  EXPECT_EQ(json_integer(""), std::nullopt);
}

TEST(JsonMembers, Counts) {
  EXPECT_EQ(json_count("0"), 0);
  EXPECT_EQ(json_count("200"), 200);
  EXPECT_EQ(json_count("200.0"), 200);
  EXPECT_EQ(json_count("1.5"), 2);
  EXPECT_EQ(json_count("2e3"), 2000);
  for (const char* large : {"1000000000001", "9223372036854775807", "99999999999999999999999", "1e30", "1e999"})
    EXPECT_EQ(json_count(large), most_counted) << large;
  for (const char* none :
       {"", "-1", "-9223372036854775808", "-1e999", "null", "\"5\"", "[5]", "5x", "inf", "nan", "+5"})
    EXPECT_EQ(json_count(none), std::nullopt) << none;
}

}  // namespace
}  // namespace tidemill::gateway
