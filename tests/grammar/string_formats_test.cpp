#include "grammar/string_formats.hpp"

#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "grammar/json_schema.hpp"
#include "grammar/regex.hpp"
#include "grammar/regex_match.hpp"
#include "grammar/schema_cases.hpp"

namespace tidemill::grammar {
namespace {

using base::ErrorCode;
using test::check;

std::string text(const char* format) {
  return fmt::format(R"({{"type":"string","format":"{}"}})", format);
}

TEST(StringFormats, AreHeldTo) {
  check({text("date"),
         {R"("2024-02-29")", R"("2000-02-29")", R"("0001-01-01")", R"("1999-12-31")"},
         {R"("2023-02-29")", R"("1900-02-29")", R"("2024-04-31")", R"("2024-13-01")", R"("2024-1-01")",
          R"("0000-01-01")"}});
  check({text("time"),
         {R"("23:59:59Z")", R"("00:00:00.123+05:30")"},
         {R"("24:00:00Z")", R"("12:00:00")", R"("12:60:00Z")"}});
  check({text("date-time"), {R"("2024-02-29T12:00:00Z")"}, {R"("2024-02-29 12:00:00Z")", R"("2024-02-30T12:00:00Z")"}});
  check({text("duration"),
         {R"("P1D")", R"("PT1H2M")", R"("P1Y2M3DT4H")", R"("P2W")"},
         {R"("P")", R"("PT")", R"("P1S")"}});
  check({text("email"), {R"("a.b@example.com")"}, {R"("a@")", R"("@b.c")", R"("a b@c.d")", R"("a@b")"}});
  check({text("hostname"), {R"("a")", R"("a-b.example.co.uk.x.y")"}, {R"("")", R"("-a")", R"("a..b")", R"("a_b")"}});
  check({text("ipv4"), {R"("0.0.0.0")", R"("255.199.10.1")"}, {R"("256.0.0.1")", R"("1.2.3")", R"("01.2.3.4")"}});
  check({text("ipv6"),
         {R"("::")", R"("::1")", R"("1:2:3:4:5:6:7:8")", R"("fe80::a:b")", R"("1::")", R"("1:2:3:4:5:6:7::")"},
         {R"("1:2:3")", R"("1::2::3")", R"("12345::")", R"(":1")", R"("1:2:3:4:5:6:7:8:9")"}});
  check({text("uuid"), {R"("123e4567-e89b-12d3-A456-426614174000")"}, {R"("123e4567e89b12d3a456426614174000")"}});
  check({text("uri"),
         {R"("https://example.com/a/b?c=d#e")", R"("mailto:a@b.c")", R"("http://a:80")", R"("urn:x:y%20z")"},
         {R"("example.com")", R"("http://a b")", R"("://a")"}});
  check(
      {text("uri-reference"),
       {R"("https://example.com/a")", R"("")", R"("a/b?c#d")", R"("/x:y")", R"("//host/p")", R"("#top")", R"("../up")"},
       {R"("a b")", R"("1:b")", R"(":")", R"("a/%2")", R"("<a>")"}});
  check({text("iri"), {R"("https://exämple.org/größe?q=字#é")", R"("urn:x")"}, {R"("größe")", R"("http://a b")"}});
  check({text("iri-reference"), {R"("größe/字")", R"("https://a/é")"}, {R"("a b")", "\"a\u202Eb\"", R"("a|b")"}});
  check({text("uri-template"),
         {R"("/users/{id}")", R"("http://a/{?q,lang}{#x:3}")", R"("{+path*}")", R"("")", R"("a%20b")"},
         {R"("{")", R"("}")", R"("{}")", R"("{a b}")", R"("a b")", R"("{a:0}")"}});
  check({text("json-pointer"), {R"("")", R"("/")", R"("/a~0b/~1")", R"("//é")"}, {R"("a")", R"("/~")", R"("/~2")"}});
  check({text("relative-json-pointer"),
         {R"("0")", R"("1/a")", R"("12#")", R"("0/~0")"},
         {R"("")", R"("/a")", R"("01")", R"("-1")", R"("1a")", R"("1#/a")"}});
  check({text("uuid4"),
         {R"("123e4567-e89b-42d3-a456-426614174000")"},
         {R"("123e4567-e89b-12d3-a456-426614174000")", R"("123e4567-e89b-42d3-c456-426614174000")"}});
  for (const char* format : {"base64", "byte"}) {
    check({text(format),
           {R"("")", R"("TWFu")", R"("TWE=")", R"("TQ==")", R"("+/+/")"},
           {R"("T")", R"("TQ")", R"("TQ=")", R"("TR==")", R"("TW F")", R"("-_-_")"}});
  }
}

TEST(StringFormats, OfNumbersAreRanges) {
  const auto number = [](const char* format) { return fmt::format(R"({{"type":"integer","format":"{}"}})", format); };
  check({number("int8"), {"-128", "127"}, {"-129", "128"}});
  check({number("int32"), {"-2147483648", "2147483647"}, {"-2147483649", "2147483648"}});
  check({number("int64"),
         {"-9223372036854775808", "9223372036854775807"},
         {"-9223372036854775809", "9223372036854775808"}});
  check({number("uint8"), {"0", "255"}, {"-1", "256"}});
  check({number("uint64"), {"0", "18446744073709551615"}, {"-1", "18446744073709551616"}});
  check({R"({"type":"number","format":"int32"})", {"1"}, {"1.5"}});
  check({R"({"type":"number","format":"double"})", {"1.5", "1e9"}, {}});
  check({R"({"type":"number","format":"float","minimum":0.5})", {"0.5"}, {"0.4"}});
  check({R"({"type":"integer","format":"uint8","minimum":-5,"maximum":300})", {"0", "255"}, {"-1", "256"}});
  test::expect_refusal_saying(R"({"properties":{"n":{"type":"string","format":"int64"}}})", ErrorCode::unsupported,
                              {"#/properties/n/format", "\"int64\" is a format of numbers"});
  check({R"({"type":"string","format":"int64","pattern":"^-?[0-9]+$"})", {R"("12")"}, {R"("x")"}});
}

TEST(StringFormats, ThatAnyTextHasSayNothing) {
  for (const char* format : {"password", "binary", "path", "file-path", "directory-path"})
    check({text(format), {R"("any / text")"}, {"1"}});
  // Of other types than texts these formats say nothing (validation, section 7.2.1).
  check({R"({"type":["integer","null"],"format":"date"})", {"7", "null"}, {R"("2024-02-29")"}});
}

// Every format of draft 2020-12 is held to.
TEST(StringFormats, OfTheStandardNeverPassUnheld) {
  for (const char* format : {"date-time", "date", "time", "duration", "email", "idn-email", "hostname", "idn-hostname",
                             "ipv4", "ipv6", "uri", "uri-reference", "iri", "iri-reference", "uuid", "uri-template",
                             "json-pointer", "relative-json-pointer", "regex"}) {
    SCOPED_TRACE(format);
    EXPECT_FALSE(format_pattern(format).empty());
    check({text(format), {}, {R"("\u0001")", R"("~ {(")"}});
  }
}

TEST(StringFormats, OfInternationalNames) {
  check({text("idn-hostname"),
         {R"("example.org")", R"("größe.de")", R"("例え.jp")", R"("한국")", R"("a-b.c")"},
         {R"("")", R"("a--b")", R"("xn--a")", R"("-a")", R"("Größe.de")", R"("a b")", R"("a..b")"}});
  check({text("idn-email"),
         {R"("a.b+c@example.org")", R"("größe@例え.jp")", R"("用户@example.org")"},
         {R"("@a.b")", R"("a@b")", R"("a b@c.d")", R"("a@xn--b.c")"}});
  check({R"({"type":"string","format":"idn-hostname","maxLength":40})", {R"("a.b.example.org")"}, {R"("a--b")"}});
}

TEST(StringFormats, OfRegularExpressions) {
  check({text("regex"),
         {R"("")", R"("^import\\s+.*from$")", R"("[\\w.-]+@[^\\s@]+\\.[a-z]{2,}")", R"("(?:foo|bar)+?")",
          R"("((a|b)c)*")", R"("^(?!.*foo)(?<=x)y")", R"("[2-7m-p-]")", R"("\\bfoo\\b")", R"("\\x41\\u00e9\\p{L}")",
          R"("a{1,3}b{12}c{0,15}")"},
         {R"("(")", R"("a**")", R"("[z-a]")", R"("a{2,1}")", R"("^*")", R"("[")", R"("a]")", R"("}")", R"("\\")",
          R"("\\1")", R"("(?i)x")", R"("(?=a)*")", R"("\\q")"}});
  check({R"({"type":"string","format":"regex","maxLength":4})",
         {R"("a*.+")", R"("")", R"("\\d\\w")"},
         {R"("a*.+b")", R"x("(a)")x", R"("**")"}});
  check({R"({"type":"string","format":"regex","minLength":1})", {R"("a|b")"}, {R"("")"}});
}

// Names of zod, pydantic and ajv-formats.
TEST(StringFormats, OfLibraries) {
  check({text("base64url"), {R"("")", R"("TQ")", R"("-_-_TWE")"}, {R"("T")", R"("TQ==")", R"("TR")", R"("+/+/")"}});
  check({text("jwt"),
         {R"("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln")"},
         {R"("")", R"("a.b.c")", R"("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0")", R"("eyJhb.eyJzd.c2ln")"}});
  check({text("emoji"),
         {"\"\U0001F600\"", "\"\U0001F44D\U0001F3FD\"", "\"\U0001F468\u200D\U0001F469\"", "\"\U0001F1E9\U0001F1EA\"",
          "\"1\uFE0F\u20E3\u2764\uFE0F\""},
         {R"("")", R"("a")", R"("1")", "\"\U0001F1E9\"", "\"\uFE0F\"", "\"\u2605\""}});
  check({text("cidrv4"), {R"("10.0.0.0/8")", R"("1.2.3.4/32")"}, {R"("1.2.3.4")", R"("1.2.3.4/33")"}});
  check({text("cidrv6"), {R"("fe80::/10")", R"("::/128")"}, {R"("::")", R"("::/129")"}});
  check({text("ipvanyaddress"), {R"("1.2.3.4")", R"("::1")"}, {R"("1.2.3")"}});
  check({text("ipv4network"), {R"("10.0.0.0/8")", R"("1.2.3.0/24")", R"("1.2.3.4/32")"}, {R"("1.2.3.4/24")"}});
  check({text("ipv6network"), {R"("fe80::/16")", R"("1:2:3:4::/64")", R"("::1/128")"}, {R"("::1/64")"}});
  check({text("e164"), {R"("+4915112345678")"}, {R"("0151123")", R"("+0151123456")"}});
  check({text("mac"), {R"("00:1B:44:11:3A:B7")", R"("00:1b:44:11:3a:b7")"}, {R"("00:1B:44:11:3a:b7")"}});
  check({text("ulid"), {R"("01ARZ3NDEKTSV4RRFFQ69G5FAV")"}, {R"("81ARZ3NDEKTSV4RRFFQ69G5FAV")"}});
  check({text("url"),
         {R"("https://example.org")", R"("http://a-b.example.org:8080/x?y=z#w")"},
         {R"("example.org")", R"("https://localhost")", R"("https://a.b:1")", R"("https://example.org/a b")"}});
  for (const char* format : {"cuid", "cuid2", "guid", "hex", "ipv4interface", "ipv6interface", "ipvanyinterface",
                             "ipvanynetwork", "ksuid", "nanoid", "xid"}) {
    SCOPED_TRACE(format);
    check({text(format), {}, {R"("~")", R"("a b")"}});
  }
}

// As zod writes them, of versions 3 and 4.
TEST(StringFormats, BesidePatternsThatLookAhead) {
  const auto both = [](const char* format, const char* pattern) {
    return fmt::format(R"({{"type":"string","format":"{}","pattern":"{}"}})", format, pattern);
  };
  const std::string hostname = both(
      "hostname",
      R"(^(?=.{1,253}\\.?$)[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\\.[a-zA-Z0-9](?:[-0-9a-zA-Z]{0,61}[0-9a-zA-Z])?)*\\.?$)");
  check({hostname, {R"("a-b.example.org")"}, {R"("a..b")", R"("-a")", R"("a_b")"}});
  const std::string duration = both(
      "duration",
      R"(^P(?:(\\d+W)|(?!.*W)(?=\\d|T\\d)(\\d+Y)?(\\d+M)?(\\d+D)?(T(?=\\d)(\\d+H)?(\\d+M)?(\\d+([.,]\\d+)?S)?)?)$)");
  check({duration, {R"("P2W")", R"("P1Y2M3DT4H5M6S")", R"("PT6S")"}, {R"("P")", R"("P1DT")", R"("P1W2D")"}});
  const std::string emoji = both("emoji", R"(^(?=[\\s\\S]*[\\p{Extended_Pictographic}\\p{Regional_Indicator}\\u20E3])[)"
                                          R"(\\p{Extended_Pictographic}\\p{Emoji_Component}]+$)");
  check({emoji, {"\"\U0001F600\U0001F680\""}, {R"("1")", R"("")"}});
  check({both("emoji", R"(^(\\p{Extended_Pictographic}|\\p{Emoji_Component})+$)"), {"\"\U0001F600\""}, {R"("1")"}});
  for (const char* pattern :
       {R"(^(?!\\.)(?!.*\\.\\.)([A-Za-z0-9_'+\\-\\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$)",
        R"(^(?!\\.)(?!.*\\.\\.)([a-zA-Z0-9_'+\\-\\.]*)[a-zA-Z0-9_+-]@([a-zA-Z0-9][a-zA-Z0-9\\-]*\\.)+[a-zA-Z]{2,}$)",
        R"(^(?!\\.)(?!.*\\.\\.)([a-zA-Z0-9_'+\\-.]*)[a-zA-Z0-9_+-]@([a-zA-Z0-9][a-zA-Z0-9-]*\\.)+[a-zA-Z]{2,}$)"}) {
    check({both("email", pattern),
           {R"("a.b+c@mail.example.org")"},
           {R"(".a@b.cd")", R"("a..b@c.de")", R"("a.@b.cd")", R"("a@b.c")", R"("a'@b.cd")"}});
  }
  // With a bound of length both stay within it.
  check({hostname.substr(0, hostname.size() - 1) + R"(,"maxLength":100})", {R"("a.example.org")"}, {R"("a..b")"}});
  test::expect_refusal_saying(R"({"properties":{"a":{"pattern":"^a(?=.*[0-9]).{8,}$"}}})", ErrorCode::unsupported,
                              {"#/properties/a/pattern", "position 3: lookahead is not supported here"});
}

// A Decimal of pydantic's: any, of two places, of five digits two of them places, of three digits.
TEST(StringFormats, AsPydanticWritesDecimals) {
  const auto decimal = [](const char* rest) {
    return fmt::format(R"({{"type":"string","pattern":"^(?!^[-+.]*$)[+-]?0*{}"}})", rest);
  };
  check({decimal(R"(\\d*\\.?\\d*$)"),
         {R"("0")", R"("-1.50")", R"("+.5")", R"("7.")", R"("001")"},
         {R"("")", R"("-")", R"(".")", R"("+.")", R"("1e5")", R"("1.2.3")"}});
  check({decimal(R"(\\d*\\.?\\d{0,2}0*$)"),
         {R"("1234.56")", R"("1.25000")", R"(".5")", R"("0")"},
         {R"("1.234")", R"("-.")", R"("")"}});
  check({decimal(R"((?:\\d{0,3}|(?=[\\d.]{1,6}0*$)\\d{0,3}\\.\\d{0,2}0*$))"),
         {R"("123.45")", R"("-000123.4500")", R"(".45")", R"("0.")", R"("7")"},
         {R"("1234")", R"("1.234")", R"(".")", R"("")", R"("12 euros")"}});
  check({decimal(R"((?:\\d{0,0}|(?=[\\d.]{1,2}0*$)\\d{0,0}\\.\\d{0,4}0*$))"),
         {R"("0.5")", R"(".5")", R"("0")"},
         {R"("1")", R"("0.55")", R"(".")"}});
  check({decimal(R"((?:\\d{0,3}|(?=[\\d.]{1,4}0*$)\\d*\\.\\d*0*$))"),
         {R"("123")", R"("12.3")", R"(".123")", R"("1.2000")", R"("00.5")"},
         {R"("1234")", R"("12.34")", R"(".1234")", R"("+.")"}});
}

TEST(StringFormats, UnknownOnesAreErrors) {
  test::expect_refusal_saying(
      R"({"items":{"type":"string","format":"color"}})", ErrorCode::unsupported,
      {"#/items/format", "\"color\" is no format that is known", "uuid", "a pattern, or no format"});
  // Not beside what says which texts they are: so zod and others name a pattern of theirs.
  check({R"({"type":"string","format":"nanoid","pattern":"^[a-z]{3}$"})", {R"("abc")"}, {R"("ab")"}});
  check({R"({"type":"string","format":"base64url","pattern":"^[A-Za-z0-9_-]{2}$"})", {R"("TQ")"}, {R"("TQ==")"}});
  check({R"({"type":"string","format":"enum","enum":["a","b"]})", {R"("a")"}, {R"("c")"}});
  check({R"({"format":"kind","const":"a"})", {R"("a")"}, {R"("c")"}});
  check({R"({"type":"string","format":"ends_with","allOf":[{"pattern":"^ab.*"},{"pattern":".*z$"}]})",
         {R"("abz")", R"("ab..z")"},
         {R"("ab")", R"("bz")"}});
  // Nor where the caller can do without.
  JsonSchemaOptions loose;
  loose.loose_formats = true;
  check({R"({"type":"string","format":"color"})", {R"("anything")"}, {"1"}}, loose);
  check({R"({"type":"string","format":"multi-host-uri","maxLength":2})", {R"("((")"}, {R"("(((")"}}, loose);
  check({text("date"), {R"("2024-02-29")"}, {R"("2024-02-30")"}}, loose);
}

TEST(StringFormats, OfBoundedLength) {
  check({R"({"type":"string","format":"email","maxLength":255})", {R"("a.b+c@mail.example.org")"}, {R"("a@b")"}});
  check({R"({"type":"string","format":"email","maxLength":5})", {R"("a@b.c")"}, {R"("ab@b.c")"}});
  check({R"({"type":"string","format":"hostname","maxLength":100})", {R"("a.b.example.org")"}, {R"("a..b")"}});
  check({R"({"type":"string","format":"uri","minLength":1,"maxLength":2048})",
         {R"("https://example.org:80/a/b?c=d")"},
         {R"("example.org")"}});
  check({R"({"type":"string","format":"uri","maxLength":12})", {R"("http://a/b")"}, {R"("https://a/b?cd")"}});
  check({R"({"type":"string","format":"uri-reference","maxLength":2048})", {R"("a/b?c=d")", R"("")"}, {R"("a b")"}});
  check({R"({"type":"string","format":"iri","maxLength":2083})", {R"("http://é/字")"}, {R"("é")"}});
  check({R"({"type":"string","format":"uri-template","maxLength":40})", {R"("/a/{id}")"}, {R"("{}")", R"("{")"}});
  check({R"({"type":"string","format":"json-pointer","maxLength":3})", {R"("/a/")", R"("")"}, {R"("/a/b")", R"("a")"}});
  check({R"({"type":"string","format":"relative-json-pointer","maxLength":300})", {R"("1/a")"}, {R"("/a")"}});
  check({R"({"type":"string","format":"base64","maxLength":1000})", {R"("TQ==")", R"("TWFuTWE=")"}, {R"("TQ")"}});
  check({R"({"type":"string","format":"date-time","maxLength":20})",
         {R"("2024-02-29T12:00:00Z")"},
         {R"("2024-02-29T12:00:00.5Z")"}});
}

TEST(StringFormats, ShorterFormsAreNoLongerThanAllowed) {
  for (const char* format :
       {"hostname", "email", "uri", "uri-reference", "iri", "iri-reference", "uri-template", "json-pointer",
        "relative-json-pointer", "base64", "base64url", "emoji", "idn-email", "idn-hostname", "jwt", "regex", "url"}) {
    for (size_t most = 0; most < 3000; ++most) {
      const std::string pattern = format_pattern_within(format, most);
      if (pattern.empty()) {
        EXPECT_LT(most, 14U) << format;
        continue;
      }
      const auto regex = parse_regex(pattern);
      ASSERT_TRUE(regex) << pattern;
      const auto longest = lengths_of(*regex).most;
      ASSERT_TRUE(longest && *longest <= most) << format << " " << most << " " << pattern;
    }
  }
}

}  // namespace
}  // namespace tidemill::grammar
