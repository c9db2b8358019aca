#include "route/endpoint_slices.hpp"

#include <gtest/gtest.h>

namespace tidemill::route {
namespace {

using Applied = EndpointSlices::Applied;

base::json::value parse(std::string_view text) {
  return base::parse_json(text).value();
}

std::string slice(std::string_view name, std::string_view version, std::string_view endpoints,
                  std::string_view type = "IPv4") {
  return R"({"metadata":{"name":")" + std::string(name) + R"(","resourceVersion":")" + std::string(version) +
         R"("},"addressType":")" + std::string(type) + R"(","ports":[{"name":"metrics","port":9090},)" +
         R"({"name":"http","port":8080}],"endpoints":[)" + std::string(endpoints) + "]}";
}
std::string list(std::string_view items, std::string_view version = "10") {
  return R"({"kind":"EndpointSliceList","metadata":{"resourceVersion":")" + std::string(version) + R"("},"items":[)" +
         std::string(items) + "]}";
}
std::string event(std::string_view type, std::string_view object) {
  return R"({"type":")" + std::string(type) + R"(","object":)" + std::string(object) + "}";
}

constexpr const char* kReady =
    R"({"addresses":["10.0.0.1"],"conditions":{"ready":true},"targetRef":{"kind":"Pod","uid":"u1"}})";
constexpr const char* kStarting = R"({"addresses":["10.0.0.2"],"conditions":{"ready":false}})";
constexpr const char* kEnding =
    R"({"addresses":["10.0.0.3"],"conditions":{"ready":true,"serving":true,"terminating":true}})";
constexpr const char* kBare = R"({"addresses":["10.0.0.4"]})";

std::string told(const EndpointSlices& slices) {
  std::string all;
  for (const Endpoint& endpoint : slices.endpoints()) {
    all += endpoint.address + (endpoint.ready ? "+" : "-") + endpoint.instance + " ";
  }
  return all;
}

TEST(EndpointSlices, ReadsAList) {
  EndpointSlices slices("http");
  const auto items = std::string(kReady) + "," + kStarting + "," + kEnding + "," + kBare;
  ASSERT_TRUE(slices.replace(parse(list(slice("a", "1", items)))));
  EXPECT_EQ(told(slices), "10.0.0.1:8080+u1 10.0.0.2:8080- 10.0.0.3:8080- 10.0.0.4:8080+ ");
  EXPECT_EQ(slices.resource_version(), "10");
}

TEST(EndpointSlices, ChoosesThePort) {
  for (const auto& [port, told_by] : {std::pair{"http", "10.0.0.4:8080+ "}, std::pair{"8080", "10.0.0.4:8080+ "},
                                      std::pair{"", "10.0.0.4:9090+ "}, std::pair{"grpc", ""}}) {
    EndpointSlices slices(port);
    ASSERT_TRUE(slices.replace(parse(list(slice("a", "1", kBare)))));
    EXPECT_EQ(told(slices), told_by) << port;
  }
}

TEST(EndpointSlices, TellsThePortsThatThereAreInstead) {
  EndpointSlices slices("grpc");
  ASSERT_TRUE(slices.replace(parse(list(slice("a", "1", "")))));
  EXPECT_EQ(slices.ports_instead(), "") << "no endpoints";
  ASSERT_TRUE(slices.replace(parse(list(slice("a", "1", kBare)))));
  EXPECT_EQ(slices.ports_instead(), "metrics (9090), http (8080)");
  EndpointSlices right("http");
  ASSERT_TRUE(right.replace(parse(list(slice("a", "1", kBare)))));
  EXPECT_EQ(right.ports_instead(), "");
}

// They must not empty what is known.
TEST(EndpointSlices, RefusesListsThatAreNone) {
  EndpointSlices slices("http");
  ASSERT_TRUE(slices.replace(parse(list(slice("a", "1", kBare)))));
  for (const char* members : {R"("endpoints":"none")", R"("endpoints":{})", R"("ports":"http","endpoints":[])",
                              R"("ports":[{"name":"http","port":8080}],"endpoints":[{"addresses":"10.0.0.1"}])"}) {
    const std::string object = R"({"metadata":{"name":"a","resourceVersion":"11"},)" + std::string(members) + "}";
    const auto applied = slices.apply(parse(event("MODIFIED", object)));
    ASSERT_FALSE(applied) << members;
    EXPECT_EQ(applied.error().code(), base::ErrorCode::corrupt);
    EXPECT_NE(applied.error().message().find("is not a list"), std::string::npos) << applied.error().message();
    EXPECT_EQ(told(slices), "10.0.0.4:8080+ ");
  }
  EXPECT_FALSE(slices.replace(parse(R"({"metadata":{"resourceVersion":"12"},"items":"none"})")));
  EXPECT_EQ(told(slices), "10.0.0.4:8080+ ");
  ASSERT_TRUE(slices.apply(
      parse(event("MODIFIED", R"({"metadata":{"name":"a","resourceVersion":"13"},"ports":null,"endpoints":null})"))));
  EXPECT_EQ(told(slices), "");
}

TEST(EndpointSlices, PutsIpv6InBrackets) {
  EndpointSlices slices("");
  ASSERT_TRUE(slices.replace(parse(list(slice("a", "1", R"({"addresses":["fd00::1"]})", "IPv6")))));
  EXPECT_EQ(told(slices), "[fd00::1]:9090+ ");
}

TEST(EndpointSlices, FollowsAWatch) {
  EndpointSlices slices("http");
  ASSERT_TRUE(slices.replace(parse(list(slice("a", "1", kReady)))));
  EXPECT_EQ(*slices.apply(parse(event("ADDED", slice("b", "11", kBare)))), Applied::changed);
  EXPECT_EQ(told(slices), "10.0.0.1:8080+u1 10.0.0.4:8080+ ");
  EXPECT_EQ(*slices.apply(parse(event("MODIFIED", slice("a", "12", kStarting)))), Applied::changed);
  EXPECT_EQ(told(slices), "10.0.0.2:8080- 10.0.0.4:8080+ ");
  EXPECT_EQ(*slices.apply(parse(event("BOOKMARK", R"({"metadata":{"resourceVersion":"15"}})"))), Applied::bookmark);
  EXPECT_EQ(slices.resource_version(), "15");
  EXPECT_EQ(*slices.apply(parse(event("DELETED", slice("b", "16", kBare)))), Applied::changed);
  EXPECT_EQ(told(slices), "10.0.0.2:8080- ");
  EXPECT_EQ(slices.resource_version(), "16");
  EXPECT_EQ(*slices.apply(parse(event("ERROR", R"({"kind":"Status","code":410,"reason":"Expired"})"))),
            Applied::expired);
}

TEST(EndpointSlices, APodThatMovesBetweenSlicesIsCountedOnce) {
  EndpointSlices slices("http");
  ASSERT_TRUE(slices.replace(parse(list(slice("a", "1", kReady) + "," + slice("b", "1", kReady)))));
  EXPECT_EQ(told(slices), "10.0.0.1:8080+u1 ");
}

// A service of two address families.
TEST(EndpointSlices, APodOfBothFamiliesIsCountedOnce) {
  EndpointSlices slices("http");
  const std::string v6 = R"({"addresses":["fd00::1"],"targetRef":{"kind":"Pod","uid":"u1"}},)"
                         R"({"addresses":["fd00::2"],"targetRef":{"kind":"Pod","uid":"u2"}},{"addresses":["fd00::3"]})";
  const std::string nameless = R"({"addresses":["10.0.0.9"]})";
  ASSERT_TRUE(slices.replace(
      parse(list(slice("a", "1", std::string(kReady) + "," + nameless) + "," + slice("a6", "1", v6, "IPv6")))));
  EXPECT_EQ(told(slices), "10.0.0.1:8080+u1 10.0.0.9:8080+ [fd00::2]:8080+u2 [fd00::3]:8080+ ");
  ASSERT_TRUE(slices.apply(parse(event("DELETED", slice("a", "12", "")))));
  EXPECT_EQ(told(slices), "[fd00::1]:8080+u1 [fd00::2]:8080+u2 [fd00::3]:8080+ ");
}

TEST(EndpointSlices, RefusesWhatItCannotReadAndKeepsWhatItHad) {
  EndpointSlices slices("http");
  ASSERT_TRUE(slices.replace(parse(list(slice("a", "1", kReady)))));
  for (const char* text : {"7", "{}", R"({"metadata":{}})", R"({"metadata":{"resourceVersion":"2"},"items":[7]})",
                           R"({"metadata":{"resourceVersion":"2"},"items":[{"metadata":{}}]})",
                           R"({"metadata":{"resourceVersion":"2"},"items":[{"metadata":{"name":"x"},"ports":[7]}]})"}) {
    const auto replaced = slices.replace(parse(text));
    ASSERT_FALSE(replaced) << text;
    EXPECT_EQ(replaced.error().code(), base::ErrorCode::corrupt);
  }
  for (const char* text : {"7", "{}", R"({"type":"ADDED"})", R"({"type":"ADDED","object":{}})",
                           R"({"type":"ADDED","object":{"metadata":{"resourceVersion":"1"}}})",
                           R"({"type":"WHAT","object":{"metadata":{"name":"x","resourceVersion":"1"}}})"}) {
    const auto applied = slices.apply(parse(text));
    ASSERT_FALSE(applied) << text;
    EXPECT_EQ(applied.error().code(), base::ErrorCode::corrupt);
  }
  const auto failed = slices.apply(parse(event("ERROR", R"({"code":500,"message":"etcd is away"})")));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), base::ErrorCode::unavailable);
  EXPECT_NE(failed.error().message().find("etcd is away"), std::string::npos);
  EXPECT_EQ(told(slices), "10.0.0.1:8080+u1 ");
  EXPECT_EQ(slices.resource_version(), "10");
}

}  // namespace
}  // namespace tidemill::route
