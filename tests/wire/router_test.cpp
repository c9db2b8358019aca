#include <gtest/gtest.h>

#include "wire/http_server.hpp"

namespace tidemill::wire {
namespace {

Handler named() {
  return [](Exchange&) -> asio::awaitable<void> { co_return; };
}

TEST(Router, ExactWinsThenTheLongest) {
  Router router;
  router.add("GET", "/*", named());
  router.add("GET", "/v1/models/*", named());
  router.add("GET", "/v1/models/special", named());
  EXPECT_EQ(router.find("GET", "/v1/models/special").route, "/v1/models/special");
  EXPECT_EQ(router.find("GET", "/v1/models/a/b").route, "/v1/models/*");
  EXPECT_EQ(router.find("GET", "/v1/models/a/b").rest, "a/b");
  EXPECT_EQ(router.find("GET", "/v1/models/").route, "/*");
  EXPECT_EQ(router.find("GET", "/v1/models").rest, "v1/models");
  EXPECT_EQ(router.find("GET", "").route, "");
}

TEST(Router, MethodsOfOnePath) {
  Router router;
  router.add("GET", "/a", named());
  router.add("POST", "/a", named());
  EXPECT_EQ(router.find("GET", "/a").handler, router.find("HEAD", "/a").handler);
  EXPECT_NE(router.find("GET", "/a").handler, router.find("POST", "/a").handler);
  EXPECT_EQ(router.find("PUT", "/a").handler, nullptr);
  EXPECT_EQ(router.find("PUT", "/a").allow(), "GET, HEAD, POST, OPTIONS");
  EXPECT_EQ(router.find("PUT", "/b").route, "");
}

}  // namespace
}  // namespace tidemill::wire
