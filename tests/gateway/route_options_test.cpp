// What the file may say of routes, and what is said where it is wrong.
#include <gtest/gtest.h>

#include "gateway/gateway_options.hpp"
#include "gateway/route_plan.hpp"
#include "temporary_folder.hpp"

namespace tidemill::gateway {
namespace {

using namespace std::chrono_literals;

class RouteOptionsFile : public ::testing::Test {
 protected:
  // The error of the configuration or of the plan of its first route; empty: there is none.
  std::string load(const std::string& text) {
    base::ConfigSchema schema;
    register_options(schema, options);
    const auto loaded = schema.load({.file = folder.put("tidemill.toml", text), .environment = {}, .flags = {}});
    if (!loaded) return loaded.error().to_string();
    auto planned = plan_route(options.routes.front());
    if (!planned) {
      EXPECT_TRUE(planned.error().message().starts_with(planned.error().param() + " of the route 'code': "))
          << planned.error().message();
      return planned.error().message();
    }
    plan = *planned;
    return {};
  }
  // Of a route with two targets, and more lines.
  std::string error_of(const std::string& lines) {
    return load(
        "[[gateway.route]]\nmodel = 'code'\n[[gateway.route.target]]\nname = 'v1'\n[[gateway.route.target]]\n"
        "name = 'v2'\n" +
        lines);
  }
  static void expect_part(const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  }

  test::TemporaryFolder folder;
  GatewayOptions options;
  RoutePlan plan;
};

TEST_F(RouteOptionsFile, SplitsByWeightAndHeader) {
  ASSERT_EQ(load(R"(
[[gateway.route]]
model = "code"
sticky = "session"
[[gateway.route.target]]
model = "coder-30b"
weight = 95
[[gateway.route.target]]
name = "next"
model = "coder-next"
weight = 5
headers = ["x-version: next", "x-beta"]
backends = ["gpu-*", "spare"]
)"),
            "");
  EXPECT_TRUE(plan.sticky);
  ASSERT_EQ(plan.targets.size(), 2U);
  EXPECT_EQ(plan.targets[0].name, "coder-30b");
  EXPECT_EQ(plan.split.versions[1].weight, 5);
  ASSERT_EQ(plan.split.headers.size(), 2U);
  EXPECT_EQ(plan.split.headers[0].header, "x-version");
  EXPECT_EQ(plan.split.headers[0].value, "next");
  EXPECT_EQ(plan.split.headers[1].value, std::nullopt);
  const AskedBackends some(plan.targets[1].backends);
  EXPECT_TRUE(some.contains("gpu-7"));
  EXPECT_TRUE(some.contains("spare"));
  EXPECT_FALSE(some.contains("spare-2"));
  EXPECT_TRUE(AskedBackends(plan.targets[0].backends).contains("any"));
}

TEST_F(RouteOptionsFile, ACanaryTakesItsStepsAndLimits) {
  ASSERT_EQ(error_of("[gateway.route.canary]\ntarget = 'v2'\nsteps = ['5%', '12.5%']\npause = '10m'\n"
                     "max_ttft_ratio = 1.4\nmax_error_increase = 0.01\n"),
            "");
  ASSERT_TRUE(plan.canary);
  EXPECT_EQ(plan.canary_target, 1U);
  EXPECT_EQ(plan.stable_target, 0U);
  ASSERT_EQ(plan.canary->steps.size(), 2U);
  EXPECT_DOUBLE_EQ(plan.canary->steps[0].share, 0.05);
  EXPECT_TRUE(plan.canary->steps[0].gross);
  EXPECT_FALSE(plan.canary->steps[1].gross);
  EXPECT_EQ(plan.canary->steps[1].min_time, 10min);
  EXPECT_DOUBLE_EQ(plan.canary->limits.ttft.regression, 1.4);
  EXPECT_NEAR(plan.canary->limits.ttft.tolerated, 1.1, 1e-9);
  EXPECT_NEAR(plan.canary->limits.failures.tolerated, 0.00125, 1e-9);
  const std::string before = plan.canary->name;
  ASSERT_EQ(error_of("[gateway.route.canary]\ntarget = 'v2'\nsteps = ['5%', '12.5%']\npause = '10m'\n"
                     "max_ttft_ratio = 1.4\nmax_error_increase = 0.01\nrevision = 'again'\n"),
            "");
  EXPECT_NE(plan.canary->name, before) << "another revision is another rollout";
}

TEST_F(RouteOptionsFile, AShadowGetsNoTraffic) {
  ASSERT_EQ(error_of("[gateway.route.mirror]\ntarget = 'v2'\nshare = '10%'\n"), "");
  EXPECT_EQ(plan.split.versions[1].weight, 0);
  EXPECT_DOUBLE_EQ(plan.mirror->share, 0.1);
}

TEST_F(RouteOptionsFile, AdaptiveRoutesStateTheirTrade) {
  ASSERT_EQ(error_of("[gateway.route.adaptive]\nreference = 'v2'\nmethod = 'linucb'\ncost_weight = 0.5\n"
                     "latency_scale = '10s'\nmax_quality_loss = 0.1\n[gateway.route.mirror]\ntarget = 'reference'\n"),
            "");
  ASSERT_TRUE(plan.adaptive);
  EXPECT_EQ(plan.adaptive->models, (std::vector<std::string>{"v1", "v2"}));
  EXPECT_EQ(plan.adaptive->reference, "v2");
  EXPECT_EQ(plan.adaptive->method, rollout::Method::lin_ucb);
  EXPECT_EQ(plan.adaptive->trade.latency_scale, 10);
  EXPECT_EQ(plan.adaptive->max_quality_loss, 0.1);
}

// What a section says counts for nothing without the target that it is about.
TEST_F(RouteOptionsFile, ASectionWithoutItsTargetIsNamed) {
  for (const auto& [section, key] :
       {std::pair("canary]\nsteps = ['5%']\n", "canary.target"), std::pair("canary]\n", "canary.target"),
        std::pair("mirror]\nshare = '1%'\n", "mirror.target"), std::pair("mirror]\nmax_load = 0.5\n", "mirror.target"),
        std::pair("adaptive]\nexplore = 0.5\n", "adaptive.reference")}) {
    const std::string error = error_of(std::string("[gateway.route.") + section);
    expect_part(error, "tidemill.toml:7: gateway.route.");
    expect_part(error, (std::string(key) + " is missing").c_str());
  }
  EXPECT_EQ(error_of("[gateway.route.canary]\ntarget = ''\nsteps = ['5%']\n"),
            "gateway.route.canary.target of the route 'code': it is empty, and what else the section says counts for "
            "nothing; name the target that is new");
  expect_part(error_of("[gateway.route.mirror]\ntarget = ''\nshare = '5%'\n"), "gateway.route.mirror.target");
  expect_part(error_of("[gateway.route.adaptive]\nreference = ''\nexplore = 0.5\n"),
              "gateway.route.adaptive.reference");
  // As --print-config writes it of a route that has none of them.
  EXPECT_EQ(error_of(""), "");
  base::ConfigSchema schema;
  register_options(schema, options);
  EXPECT_EQ(load(schema.dump()), "");
}

TEST_F(RouteOptionsFile, WhatIsWrongIsNamed) {
  expect_part(load("[[gateway.route]]\nmodel = 'code'\n"), "[[gateway.route.target]]");
  expect_part(load("[[gateway.route]]\nmodel='code'\n[[gateway.route.target]]\nwieght=2\n"),
              "the nearest known one is 'gateway.route.target.weight'");
  expect_part(load("[[gateway.route]]\nmodel='code'\n[[gateway.route.target]]\n[[gateway.route.target]]\n"),
              "two targets are named 'code'");
  EXPECT_EQ(
      load("[[gateway.route]]\nmodel='code'\n[[gateway.route.target]]\nweight=0\n"),
      "gateway.route.target.weight of the route 'code': every version of a split has weight 0: one must be above");
  EXPECT_EQ(
      load("[[gateway.route]]\nmodel='code'\n[[gateway.route.target]]\nname='v1'\n"
           "[gateway.route.mirror]\ntarget='v1'\n"),
      "gateway.route.mirror.target of the route 'code': 'v1' gets copies and no other traffic, and no other target "
      "has a weight above 0; add the one that answers");
  expect_part(load("[[gateway.route]]\nmodel='code'\nsticky='tenant'\n[[gateway.route.target]]\n"), "session");
  expect_part(load("[[gateway.route]]\nmodel='code'\nsticky='session'\nsession=[]\n[[gateway.route.target]]\n"),
              "name what makes requests one session");
  expect_part(load("[[gateway.route]]\nmodel='code'\nsession=['x-user']\n[[gateway.route.target]]\n"),
              "'x-user' names no session; write \"header:NAME\"");
  expect_part(load("[[gateway.route]]\nmodel='code'\nsession=['header:a b']\n[[gateway.route.target]]\n"),
              "names no session");
  expect_part(load("[[gateway.route]]\nmodel='code'\n[[gateway.route.target]]\nheaders=['a b: c']\n"),
              "names no header; write \"x-version: beta\"");
  expect_part(load("[[gateway.route]]\nmodel='code'\n[[gateway.route.target]]\nbackends=['b', 'gpu-*-x']\n"),
              "'gpu-*-x' has a * before its end; write a name, or gpu-*");
  expect_part(error_of("[gateway.route.canary]\ntarget = 'v3'\n"), "'v3' is none of its targets; they are v1, v2");
  expect_part(error_of("[gateway.route.canary]\ntarget='v2'\nstable='v2'\n"), "the other target, which is 'v1'");
  expect_part(error_of("[gateway.route.canary]\ntarget='v2'\nsteps=['5']\n"), "'5' is no step");
  expect_part(error_of("[gateway.route.canary]\ntarget='v2'\nsteps=['100%']\n"), "below 100%");
  expect_part(error_of("[gateway.route.canary]\ntarget='v2'\nsteps=['50%','5%']\n"), "shares grow");
  expect_part(error_of("[gateway.route.canary]\ntarget='v2'\nmax_ttft_ratio=0.5\n"), "must be a number from 1.01");
  expect_part(error_of("[gateway.route.canary]\ntarget='v2'\n[gateway.route.mirror]\ntarget='v2'\n"), "take another");
  expect_part(error_of("[[gateway.route.target]]\nname='v3'\n[gateway.route.canary]\ntarget='v2'\n"),
              "there are 2 other targets");
  expect_part(error_of("[gateway.route.mirror]\ntarget='v2'\nshare='2'\n"), "'2' is no share");
  expect_part(error_of("[gateway.route.adaptive]\nreference='big'\n"), "'big' is none of its targets");
  expect_part(error_of("[gateway.route.adaptive]\nreference='v2'\n[gateway.route.mirror]\ntarget='v1'\n"),
              "write \"reference\"");
  expect_part(error_of("[gateway.route.adaptive]\nreference='v1'\n[gateway.route.canary]\ntarget='v2'\n"),
              "give each a route of its own");
}

}  // namespace
}  // namespace tidemill::gateway
