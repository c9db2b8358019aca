#include "base/begun_json.hpp"

#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace tidemill::base {
namespace {

std::string begun(std::string_view text) {
  return json::serialize(begun_object(text));
}

TEST(BegunJson, KeepsWhatIsComplete) {
  EXPECT_EQ(begun(R"({"a": "x", "b": "y)"), R"({"a":"x"})");
  EXPECT_EQ(begun(R"({"a": "x", "b)"), R"({"a":"x"})");
  EXPECT_EQ(begun(R"({"a": "x", "b")"), R"({"a":"x"})");
  EXPECT_EQ(begun(R"({"a": "x", "b":)"), R"({"a":"x"})");
  EXPECT_EQ(begun(R"({"a": {"b": [1, {"c": "d\"}, "e)"), R"({"a":{"b":[1,{"c":"d\"}, "}]}})");
  EXPECT_EQ(begun(R"({"a": [)"), R"({"a":[]})");
  EXPECT_EQ(begun(R"({"a": 12)"), "{}") << "more digits may follow";
  EXPECT_EQ(begun(R"({"a": 12 )"), R"({"a":12})");
  EXPECT_EQ(begun(R"({"a": [12, 3.)"), R"({"a":[12]})");
  EXPECT_EQ(begun(R"({"a": true)"), R"({"a":true})");
  EXPECT_EQ(begun(R"({"a": nul)"), "{}");
  EXPECT_EQ(begun(R"({"a": "\)"), "{}");
}

// Past what a double holds: what is handed on is JSON all the same.
TEST(BegunJson, HasNumbersThatCanBeWritten) {
  EXPECT_EQ(begun(R"({"a": 1e400, "b": [-1e400 , 5)"), R"({"a":1.7976931348623157E308,"b":[-1.7976931348623157E308]})");
}

TEST(BegunJson, EndsAtAFault) {
  EXPECT_EQ(begun(R"({"a": 1, "b": 2.}, "c": 3})"), R"({"a":1})");
  EXPECT_EQ(begun(R"({"a": 1 so)"), R"({"a":1})");
  EXPECT_EQ(begun(R"({"a": [1}, "b": 2})"), R"({"a":[1]})");
  EXPECT_EQ(begun(R"({"a": 1,}, "b": 2})"), R"({"a":1})");
  EXPECT_EQ(begun(R"({"a": "\q", "b": 2})"), "{}");
  EXPECT_EQ(begun(R"({"a": 1} and more)"), R"({"a":1})");
  for (const std::string_view none : {"", " ", "[1]", "\"a\"", "so", "1"})
    EXPECT_EQ(begun(none), "{}") << none;
}

TEST(BegunJson, IsTheWholeObjectOrLessOfIt) {
  const std::string whole = R"({"a":[1,"t\u00e9",{"b":null,"c":[[],{}]}],"d":-1.5e3,"e":{"f":true}})";
  EXPECT_EQ(json::serialize(begun_object(whole)), json::serialize(parse_json(whole)->as_object()));
  size_t longest = 0;
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    const std::string part = begun(std::string_view(whole).substr(0, cut));
    ASSERT_TRUE(parse_json(part)) << part;
    EXPECT_GE(part.size() + 1, longest) << "at " << cut;
    longest = std::max(longest, part.size());
  }
}

TEST(BegunJson, HasBounds) {
  const std::string deep(1 << 16, '[');
  const std::string part = begun("{\"a\":1,\"b\":" + deep);
  EXPECT_TRUE(part.starts_with(R"({"a":1)")) << part;
  EXPECT_LT(part.size(), 200U);
}

}  // namespace
}  // namespace tidemill::base
