// Numbers in JSON are read as what they say: to the last bit of a double.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "base/json.hpp"

namespace tidemill::base {
namespace {

// The C library's reading, which rounds to the nearest.
double read_by_c(const std::string& text) {
  return std::strtod(text.c_str(), nullptr);
}

// Alone, where the text ends with it, with blanks behind it, inside, and as a member.
void expect_double(const std::string& text, double wanted) {
  for (const std::string& whole :
       {text, text + " ", "[" + text + "]", "[0.5," + text + ",1]", R"({"a":)" + text + "}"}) {
    const auto parsed = parse_json(whole);
    ASSERT_TRUE(parsed) << whole << ": " << parsed.error().message();
    const json::value& value = parsed->is_array()    ? parsed->get_array()[parsed->get_array().size() == 1 ? 0 : 1]
                               : parsed->is_object() ? parsed->at("a")
                                                     : *parsed;
    ASSERT_TRUE(value.is_double()) << whole;
    ASSERT_EQ(std::bit_cast<uint64_t>(value.get_double()), std::bit_cast<uint64_t>(wanted)) << whole;
  }
}

TEST(JsonNumbers, AreTheNearestDouble) {
  for (const char* text : {"110.00000000000001",
                           "1.17549435e-38",
                           "3.4028234663852886e38",
                           "1004.9999999999999",
                           "0.30000000000000004",
                           "37.77492950000001",
                           "-122.41941550000001",
                           "1.602176634e-19",
                           "6.62607015e-34",
                           "1e23",
                           "1E22",
                           "1e+22",
                           "9007199254740993.0",
                           "9007199254740991.5",
                           "179.99999999999997",
                           "1.7976931348623157e308",
                           "2.2250738585072014e-308",
                           "2.2250738585072011e-308",
                           "5e-324",
                           "4.9406564584124654e-324",
                           "-5e-324",
                           "2.4703282292062327208e-324",
                           "3e-324",
                           "-0.0",
                           "0.0",
                           "-0e5",
                           "0.1",
                           "1.5",
                           "100e-2"}) {
    expect_double(text, read_by_c(text));
  }
}

TEST(JsonNumbers, OfManyDigitsAreTheNearestDouble) {
  for (const std::string& text :
       {"0." + std::string(400, '0') + "12345e400", "1" + std::string(300, '0') + ".5e-300",
        "3." + std::string(2000, '3'), "9007199254740992." + std::string(700, '0') + "1",
        "0.5" + std::string(100'000, '0') + "1", std::string("18446744073709551616"),
        std::string("-9223372036854775809"), std::string(25, '9'), "1" + std::string(308, '0')}) {
    expect_double(text, read_by_c(text));
  }
}

// Shortest as printers write them, and with fewer and more digits than that.
TEST(JsonNumbers, OfEveryMagnitudeAreReadAsTheyWereWritten) {
  std::mt19937_64 random(20'241);
  for (int i = 0; i < 20'000; ++i) {
    const auto number = std::bit_cast<double>(random());
    if (!std::isfinite(number)) continue;
    expect_double(fmt::format("{:.16e}", number), number);
    const std::string shortest = fmt::format("{}", number);
    if (shortest.find_first_of(".e") != std::string::npos) expect_double(shortest, number);
    const std::string some = fmt::format("{:.{}e}", number, 8 + static_cast<int>(random() % 8));
    expect_double(some, read_by_c(some));
  }
}

TEST(JsonNumbers, AsPeopleWriteThemAreReadAsTheyWereWritten) {
  std::mt19937_64 random(20'242);
  std::uniform_real_distribution<double> number(-1, 1);
  for (int i = 0; i < 20'000; ++i) {
    const double scaled = number(random) * std::pow(10, static_cast<int>(random() % 20) - 5);
    for (const int digits : {9, 13, 15, 16, 17}) {
      const std::string text = fmt::format("{:.{}g}", scaled, digits);
      if (text.find_first_of(".e") != std::string::npos) expect_double(text, read_by_c(text));
    }
  }
}

// JSON has no infinity: what was read can be written, and read again.
TEST(JsonNumbers, BeyondADoubleAreTheLargestOrZero) {
  constexpr double largest = std::numeric_limits<double>::max();
  for (const std::string& text :
       {std::string("1e309"), std::string("1.8e308"), std::string("1e400"), std::string("1e2147483647"),
        std::string("1e2147483648"), std::string("1e9999999999"), std::string("0.001E+00099999999999"),
        "1e" + std::string(1000, '9'), std::string(400, '9'), std::string(400, '9') + ".5"}) {
    expect_double(text, largest);
    expect_double("-" + text, -largest);
    const json::value read = parse_json("[" + text + ",-" + text + "]").value();
    for (const std::string& written : {json::serialize(read), pretty_json(read)}) {
      const auto again = parse_json(written);
      ASSERT_TRUE(again) << written;
      EXPECT_EQ(*again, read) << written;
    }
  }
  for (const char* text : {"1e-324", "2e-324", "1e-400", "0e400", "0e2147483647", "1e-2147483648", "1e-9999999999",
                           "123.5E-00099999999999", "0e9999999999", "0.0e99999999999999999999"}) {
    expect_double(text, 0.0);
    expect_double(std::string("-") + text, -0.0);
  }
}

// Beside them everything else stays what it is.
TEST(JsonNumbers, LongExponentsAreNoMatterOfWhatStandsAround) {
  const auto read = parse_json(
      R"({"1e-9999999999":"2e9999999999\\","b\"":[1e-9999999999,"\"3e9999999999",1e5,1e-0000000000005,-7E+9999999999],)"
      R"("true":true,"e1":false})");
  ASSERT_TRUE(read) << read.error().to_string();
  constexpr double largest = std::numeric_limits<double>::max();
  const json::value expected = {{"1e-9999999999", "2e9999999999\\"},
                                {"b\"", json::array{0.0, "\"3e9999999999", 1e5, 1e-5, -largest}},
                                {"true", true},
                                {"e1", false}};
  EXPECT_EQ(*read, expected);
  // Faults keep their places and their kinds.
  for (const auto& [text, said] : {std::pair("[1e-9999999999,\n  1e]", "line 2, column 5: "),
                                   {"[1e9999999999x]", "line 1, column 14: "},
                                   {"[1e-9999999999] 2", "line 1, column 17: "}}) {
    const auto fault = parse_json(text);
    ASSERT_FALSE(fault) << text;
    EXPECT_NE(fault.error().message().find(std::string("invalid JSON at ") + said), std::string::npos)
        << fault.error().message();
  }
}

TEST(JsonNumbers, BeyondADoubleAreRefusedWhereThatIsAsked) {
  const auto fault = [](const std::string& text) {
    const auto parsed = parse_json(text, 8, PastDoubles::refused);
    return parsed ? std::string("(none)") : parsed.error().message();
  };
  for (const std::string& number :
       {std::string("1e309"), std::string("-1e400"), std::string("1E+9999999999"), std::string(400, '9')}) {
    const std::string message = fault("{\n  \"a\": " + number + "}");
    EXPECT_NE(message.find("a number at line 2, column 8 that is out of the range"), std::string::npos)
        << number << ": " << message;
    EXPECT_NE(fault(number).find("line 1, column 1 "), std::string::npos) << number;
  }
  for (const char* text :
       {"1.7976931348623157e308", "-1e308", "1e-400", "0e400", "18446744073709551616", "1e-9999999999", "0e9999999999"})
    EXPECT_EQ(fault(text), "(none)") << text;
}

TEST(JsonNumbers, ThatAreNotFiniteAreShownAsNull) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(pretty_json(json::value(infinity)), "null");
  EXPECT_EQ(pretty_json(json::value(-infinity)), "null");
  EXPECT_EQ(pretty_json(json::value(std::numeric_limits<double>::quiet_NaN())), "null");
}

TEST(JsonNumbers, IntegersStayIntegers) {
  EXPECT_EQ(parse_json("9007199254740993")->get_int64(), 9007199254740993);
  EXPECT_EQ(parse_json("[-9223372036854775808]")->at(0).get_int64(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(parse_json("18446744073709551615")->get_uint64(), std::numeric_limits<uint64_t>::max());
  EXPECT_TRUE(parse_json("-0")->is_int64());
}

TEST(JsonNumbers, ThatAreNoneAreRefused) {
  for (const char* bad : {"1.", "1.e5", ".5", "1e", "1e+", "-", "+1", "01", "0x1", "1.5.5", "NaN", "Infinity"}) {
    EXPECT_FALSE(parse_json(bad)) << bad;
    EXPECT_FALSE(parse_json(std::string("[") + bad + "]")) << bad;
  }
}

}  // namespace
}  // namespace tidemill::base
