#include "grammar/json_number.hpp"

#include <array>
#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "grammar/acceptor.hpp"
#include "grammar/json_schema.hpp"
#include "grammar/schema_cases.hpp"

namespace tidemill::grammar {
namespace {

using base::ErrorCode;
using test::check;
using test::expect_refusal_saying;

__extension__ using Wide = __int128;

constexpr Wide least = -(Wide{1} << 63);
constexpr Wide most = (Wide{1} << 64) - 1;

std::string digits(Wide value) {
  if (value < 0) return "-" + digits(-value);
  const std::string last(1, static_cast<char>('0' + static_cast<int>(value % 10)));
  return value < 10 ? last : digits(value / 10) + last;
}

TEST(JsonNumber, IntegersPast2To53AreExact) {
  check({R"({"type":"integer","minimum":9007199254740993,"maximum":9007199254740999})",
         {"9007199254740993", "9007199254740996", "9007199254740999"},
         {"9007199254740992", "9007199254741000", "90071992547409930"}});
  check({R"({"type":"integer","exclusiveMinimum":9007199254740992,"exclusiveMaximum":9007199254740994})",
         {"9007199254740993"},
         {"9007199254740992", "9007199254740994"}});
  check({R"({"type":"integer","minimum":9223372036854775806})",
         {"9223372036854775806", "9223372036854775807"},
         {"9223372036854775805", "9223372036854775808", "1"}});
  check({R"({"type":"integer","minimum":9223372036854775808})",
         {"9223372036854775808", "18446744073709551615"},
         {"9223372036854775807", "18446744073709551616"}});
  check({R"({"type":"integer","exclusiveMaximum":-9223372036854775807})",
         {"-9223372036854775808"},
         {"-9223372036854775807", "-9223372036854775809"}});
  check({R"({"type":"number","minimum":9223372036854775807,"maximum":9223372036854775807})",
         {"9223372036854775807"},
         {"9223372036854775808", "9.223372036854775807e18"}});
}

TEST(JsonNumber, BoundsMayBeWrittenInAnyWay) {
  for (const char* thousand : {"1000", "1e3", "1E+3", "1000.0", "10000e-1"}) {
    check({fmt::format(R"({{"type":"integer","minimum":{0},"maximum":{0}}})", thousand), {"1000"}, {"999", "1001"}});
    check({fmt::format(R"({{"type":"integer","exclusiveMinimum":{0},"maximum":1001.5}})", thousand),
           {"1001"},
           {"1000", "1002"}});
    check({fmt::format(R"({{"type":"integer","multipleOf":{}}})", thousand), {"0", "-5000"}, {"500", "1001"}});
    check({fmt::format(R"({{"type":"integer","enum":[{},7]}})", thousand), {"1000", "7"}, {"1e3", "1000.0"}});
  }
  check({R"({"type":"integer","minimum":1e18,"maximum":1e19})",
         {"1000000000000000000", "10000000000000000000"},
         {"999999999999999999", "10000000000000000001"}});
}

// What may have been written as another integer than the double that was read is refused.
TEST(JsonNumber, BoundsThatAreNotKnownToTheDigitAreErrors) {
  expect_refusal_saying(R"({"properties":{"n":{"type":"integer","minimum":9007199254740993.0}}})",
                        ErrorCode::unsupported, {"#/properties/n/minimum", "2^53", "9007199254740992"});
  expect_refusal_saying(R"({"type":"integer","allOf":[{"exclusiveMaximum":1.2345678901234567e18}]})",
                        ErrorCode::unsupported, {"#/allOf/0/exclusiveMaximum", "digits alone"});
  expect_refusal_saying(R"({"type":"integer","multipleOf":9007199254740993.0})", ErrorCode::unsupported,
                        {"#/multipleOf", "2^53"});
  expect_refusal_saying(R"({"type":"integer","minimum":1e200})", ErrorCode::unsupported,
                        {"#/minimum", "18446744073709551615"});
  expect_refusal_saying(R"({"type":"integer","exclusiveMaximum":-1e19})", ErrorCode::unsupported,
                        {"#/exclusiveMaximum", "-9223372036854775808"});
  // Past 64 bits they leave out nothing that is written.
  for (const char* bound : {"18446744073709551616", "1e200", "1.7976931348623157e308"}) {
    check({fmt::format(R"({{"type":"integer","maximum":{0},"minimum":-{0}}})", bound),
           {"0", "999999999999999999", "-999999999999999999"},
           {"1000000000000000000"}});
  }
}

TEST(JsonNumber, ValuesAreExact) {
  check({R"({"const":9223372036854775807})", {"9223372036854775807"}, {"9223372036854775808"}});
  check({R"({"enum":[18446744073709551615,-9223372036854775808,9007199254740993],"type":"integer"})",
         {"18446744073709551615", "-9223372036854775808", "9007199254740993"},
         {"18446744073709551614", "9007199254740992"}});
  check({R"({"enum":[9007199254740992,9007199254740993,9007199254740994],"exclusiveMinimum":9007199254740992,
             "not":{"type":"string"}})",
         {"9007199254740993", "9007199254740994"},
         {"9007199254740992"}});
  check({R"({"enum":[9007199254740993],"allOf":[{"enum":[9007199254740993,9007199254740992.0]}]})",
         {"9007199254740993"},
         {"9007199254740992"}});
  expect_refusal_saying(R"({"const":9007199254740993,"enum":[9007199254740992.0]})", ErrorCode::invalid_argument,
                        {"no value"});
  check({R"({"enum":[9007199254740993,9007199254740995],"multipleOf":3})", {"9007199254740993"}, {"9007199254740995"}});
}

TEST(JsonNumber, MultiplesAreExact) {
  check({R"({"type":"integer","multipleOf":9007199254740993,"minimum":1})",
         {"9007199254740993", "18014398509481986"},
         {"9007199254740992", "0", "9007199254740994"}});
  check({R"({"type":"integer","multipleOf":18446744073709551615})", {"0"}, {"1"}});
  check({R"({"type":"integer","multipleOf":18446744073709551615,"minimum":1})", {"18446744073709551615"}, {"0"}});
  check({R"({"type":"integer","multipleOf":1000000})",
         {"0", "1000000", "-7000000", "123000000"},
         {"1", "100000", "1000001", "-0", "000000"}});
  check({R"({"type":"integer","multipleOf":300,"minimum":-500,"maximum":5e15})",
         {"-300", "0", "900", "4999999999999800"},
         {"-600", "100", "5000000000000100"}});
  check({R"({"type":"integer","allOf":[{"multipleOf":6},{"multipleOf":4}],"maximum":30,"minimum":0})",
         {"0", "12", "24"},
         {"6", "8", "36"}});
  expect_refusal_saying(R"({"type":"integer","allOf":[{"minimum":0},{"multipleOf":1000003}]})", ErrorCode::unsupported,
                        {"#/allOf/1/multipleOf", "1000003"});
  expect_refusal_saying(R"({"allOf":[{"multipleOf":18446744073709551615},{"multipleOf":18446744073709551614}]})",
                        ErrorCode::unsupported, {"/multipleOf", "64 bits"});
}

// Bounds of all sizes within 64 bits, against integers of 128.
TEST(JsonNumber, BoundsOf64BitsAgainstWiderArithmetic) {
  std::mt19937_64 random(7);
  const auto any = [&] {
    const auto bits = static_cast<unsigned>(random() % 65);
    const Wide magnitude = bits == 0 ? 0 : static_cast<Wide>(random() >> (64 - bits));
    return random() % 2 == 0 ? magnitude : std::max(least, -magnitude);
  };
  for (int round = 0; round < 400; ++round) {
    Wide low = any();
    Wide high = random() % 2 == 0 ? low + static_cast<Wide>(random() % 50) : any();
    if (low > high) std::swap(low, high);
    high = std::min(high, most);
    const bool low_out = random() % 2 == 0;
    const bool high_out = random() % 2 == 0;
    const Wide factor = random() % 2 == 0 ? 1 : (high - low) / 7 + 1 + static_cast<Wide>(random() % 5);
    const std::string schema = fmt::format(
        R"({{"type":"integer","{}":{},"{}":{},"multipleOf":{}}})", low_out ? "exclusiveMinimum" : "minimum",
        digits(low), high_out ? "exclusiveMaximum" : "maximum", digits(high), digits(std::min(factor, most)));
    SCOPED_TRACE(schema);
    const auto parsed = base::parse_json(schema);
    ASSERT_TRUE(parsed);
    GrammarBuilder builder;
    const auto root = json_schema(builder, *parsed);
    const Wide from = low + (low_out ? 1 : 0);
    const Wide to = high - (high_out ? 1 : 0);
    std::vector<Wide> candidates{0, 1, -1};
    for (int off = -3; off <= 3; ++off) {
      for (const Wide near : {low, high, (low + high) / 2, low / factor * factor, high / factor * factor})
        candidates.push_back(near + off);
    }
    const auto fits = [&](Wide value) { return value >= from && value <= to && value % factor == 0; };
    if (!root) {
      EXPECT_EQ(root.error().code(), ErrorCode::invalid_argument) << root.error().message();
      for (const Wide value : candidates)
        EXPECT_FALSE(fits(value)) << digits(value);
      continue;
    }
    test::Acceptor accepts(std::move(builder), *root);
    for (const Wide value : candidates) {
      // Multiples past 2^53 are written only where there are no others.
      const bool usual = factor == 1 || (value < Wide{1} << 53 && value > -(Wide{1} << 53));
      const bool accepted = accepts(digits(value));
      if (!accepted && !usual) continue;
      EXPECT_EQ(accepted, fits(value)) << digits(value);
    }
  }
}

}  // namespace
}  // namespace tidemill::grammar
