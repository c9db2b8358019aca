#include "gateway/discovery_kubernetes.hpp"

#include <optional>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <gtest/gtest.h>

#include "gateway/kubernetes_api.hpp"
#include "temporary_folder.hpp"

namespace tidemill::gateway {
namespace {

namespace fs = std::filesystem;
using test::KubernetesApi;
using Answer = KubernetesApi::Answer;

std::string slice(std::string_view name, std::string_view version, std::string_view address, bool ready = true) {
  return fmt::format(
      R"({{"metadata":{{"name":"{}","resourceVersion":"{}"}},"addressType":"IPv4","ports":[{{"name":"http","port":80}}],)"
      R"("endpoints":[{{"addresses":["{}"],"conditions":{{"ready":{}}},"targetRef":{{"uid":"pod-{}"}}}}]}})",
      name, version, address, ready, address);
}
std::string list(std::string_view version, std::string_view items) {
  return fmt::format(R"({{"metadata":{{"resourceVersion":"{}"}},"items":[{}]}})", version, items);
}
std::string event(std::string_view type, std::string_view object) {
  return fmt::format("{{\"type\":\"{}\",\"object\":{}}}\n", type, object);
}
const std::string kExpired = event("ERROR", R"({"kind":"Status","code":410,"reason":"Expired"})");

class WatchKubernetes : public testing::Test {
 protected:
  void write(std::string_view name, std::string_view text) { folder_.put(name, text); }

  // Runs the watch against a server that answers so, until it has said all.
  void play(std::vector<Answer> script) {
    const size_t answers = script.size();
    api_.emplace(std::move(script));
    write("ca.crt", ca_.empty() ? api_->ca() : ca_);
    KubernetesOptions options{.api_server = api_->url(),
                              .name_space = "prod",
                              .service = "models",
                              .port = "http",
                              .token_file = folder_.path() / "token",
                              .ca_file = folder_.path() / "ca.crt",
                              .seed = 1,
                              .clock = &clock_};
    Sleep sleep = [this](base::Duration time) -> asio::awaitable<void> {
      pauses_.push_back(time);
      if (before_pause_) before_pause_(pauses_.size());
      if (stop_after_pauses_ != 0 && pauses_.size() >= stop_after_pauses_) {
        cancel_.emit(asio::cancellation_type::terminal);
      }
      co_return;
    };
    OnEndpoints on_endpoints = [this](std::vector<route::Endpoint> endpoints) {
      std::string all;
      for (const route::Endpoint& endpoint : endpoints) {
        all += endpoint.address + (endpoint.ready ? "+" : "-") + endpoint.instance + " ";
      }
      told_.push_back(all);
      clock_.advance(told_every_);
      // From outside, while the watch is open.
      if (told_.size() == stop_after_told_ || all == stop_at_) {
        asio::post(io_, [this] { cancel_.emit(asio::cancellation_type::terminal); });
      }
    };
    asio::co_spawn(io_, watch_kubernetes(options, sleep, on_endpoints),
                   asio::bind_cancellation_slot(cancel_.slot(), asio::detached));
    io_.run();
    api_->stop();
    EXPECT_EQ(api_->asked().size(), answers);
  }
  std::string target(size_t i) const { return api_->asked()[i].target; }

  base::ManualClock clock_;
  base::Duration told_every_{};  // as the watch's clock sees it
  test::TemporaryFolder folder_;
  std::string ca_;
  asio::io_context io_;
  asio::cancellation_signal cancel_;
  std::optional<KubernetesApi> api_;
  std::vector<std::string> told_;
  std::vector<base::Duration> pauses_;
  size_t stop_after_pauses_ = 0;
  size_t stop_after_told_ = 0;
  std::string stop_at_ = "nothing";
  std::function<void(size_t)> before_pause_;
};

TEST_F(WatchKubernetes, APortThatNobodyHasIsToldOf) {
  write("token", "secret");
  std::string other = slice("a", "5", "10.0.0.1");
  other.replace(other.find("\"http\""), 6, "\"web\"");
  stop_after_told_ = 1;
  testing::internal::CaptureStderr();
  play({{.status = 200, .pieces = {list("10", other)}}, {.status = 200, .pieces = {}, .stay = true}});
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(told_, std::vector<std::string>{""});
  EXPECT_NE(log.find("none has a port 'http' (gateway.discover.port); there is web (80)"), std::string::npos) << log;
}

TEST_F(WatchKubernetes, ListsAndFollows) {
  write("token", "secret\n");
  const std::string added = event("ADDED", slice("b", "11", "10.0.0.2"));
  stop_at_ = "10.0.0.1:80-pod-10.0.0.1 ";
  play({{.status = 200, .pieces = {list("10", slice("a", "5", "10.0.0.1"))}},
        {.status = 200,
         .pieces = {added.substr(0, 30),
                    added.substr(30) + event("MODIFIED", slice("a", "12", "10.0.0.1", false)).substr(0, 9),
                    event("MODIFIED", slice("a", "12", "10.0.0.1", false)).substr(9),
                    event("BOOKMARK", R"({"metadata":{"resourceVersion":"20"}})")}},
        {.status = 200, .pieces = {event("DELETED", slice("b", "21", "10.0.0.2"))}, .stay = true}});
  // What came in one read is told at once, and where reads end is up to the network.
  std::vector<std::string> expected = {
      "10.0.0.1:80+pod-10.0.0.1 ", "10.0.0.1:80+pod-10.0.0.1 10.0.0.2:80+pod-10.0.0.2 ",
      "10.0.0.1:80-pod-10.0.0.1 10.0.0.2:80+pod-10.0.0.2 ", "10.0.0.1:80-pod-10.0.0.1 "};
  if (told_.size() == 3) expected.erase(expected.begin() + 1);
  EXPECT_EQ(told_, expected);
  const std::string base =
      "/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dmodels";
  EXPECT_EQ(target(0), base);
  EXPECT_EQ(target(1), base + "&watch=true&allowWatchBookmarks=true&resourceVersion=10&timeoutSeconds=300");
  EXPECT_EQ(target(2), base + "&watch=true&allowWatchBookmarks=true&resourceVersion=20&timeoutSeconds=300");
  EXPECT_EQ(api_->asked()[0].token, "secret");
  EXPECT_TRUE(pauses_.empty());
}

TEST_F(WatchKubernetes, ListsAgainWhenTheVersionHasExpired) {
  write("token", "t");
  stop_after_told_ = 3;
  play({{.status = 200, .pieces = {list("10", slice("a", "5", "10.0.0.1"))}},
        {.status = 200, .pieces = {kExpired}},
        {.status = 200, .pieces = {list("30", slice("c", "29", "10.0.0.3"))}},
        {.status = 410, .pieces = {R"({"kind":"Status","code":410})"}},
        {.status = 200, .pieces = {list("40", "")}}});
  EXPECT_EQ(told_, (std::vector<std::string>{"10.0.0.1:80+pod-10.0.0.1 ", "10.0.0.3:80+pod-10.0.0.3 ", ""}));
  EXPECT_NE(target(3).find("resourceVersion=30"), std::string::npos);
  EXPECT_EQ(pauses_.size(), 2U);
}

TEST_F(WatchKubernetes, ReadsTheTokenAgainAndKeepsWhatItKnows) {
  write("token", "old");
  before_pause_ = [this](size_t) { write("token", "new"); };
  stop_after_told_ = 2;
  play({{.status = 200, .pieces = {list("10", slice("a", "5", "10.0.0.1"))}},
        {.status = 401, .pieces = {R"({"kind":"Status","message":"Unauthorized"})"}},
        {.status = 200, .pieces = {event("ADDED", slice("b", "11", "10.0.0.2"))}, .stay = true}});
  EXPECT_EQ(told_, (std::vector<std::string>{"10.0.0.1:80+pod-10.0.0.1 ",
                                             "10.0.0.1:80+pod-10.0.0.1 10.0.0.2:80+pod-10.0.0.2 "}));
  EXPECT_EQ(api_->asked()[1].token, "old");
  EXPECT_EQ(api_->asked()[2].token, "new");
}

TEST_F(WatchKubernetes, WaitsLongerAfterEachFailure) {
  write("token", "t");
  stop_after_pauses_ = 6;
  play({{.status = 500, .pieces = {"oops"}},
        {.status = 403, .pieces = {R"({"message":"forbidden"})"}},
        {.status = 200, .pieces = {"no JSON"}},
        {.status = 200, .pieces = {R"({"metadata":{}})"}},
        {.status = 503, .pieces = {}},
        {.status = 503, .pieces = {}}});
  EXPECT_TRUE(told_.empty());
  ASSERT_EQ(pauses_.size(), 6U);
  base::Duration most = std::chrono::milliseconds(500);
  for (const base::Duration pause : pauses_) {
    EXPECT_LE(pause, most);
    EXPECT_GE(pause, most / 2);
    most *= 2;
  }
}

// As behind a proxy that cuts what it does not know.
TEST_F(WatchKubernetes, WaitsLongerAfterEachWatchThatEndsAtOnce) {
  write("token", "t");
  stop_after_pauses_ = 4;
  const Answer bookmark{.status = 200, .pieces = {event("BOOKMARK", R"({"metadata":{"resourceVersion":"20"}})")}};
  play({{.status = 200, .pieces = {list("10", slice("a", "5", "10.0.0.1"))}},
        bookmark,
        bookmark,
        bookmark,
        bookmark,
        bookmark});
  ASSERT_EQ(pauses_.size(), 4U) << "none after the first, which may be chance";
  base::Duration most = std::chrono::milliseconds(500);
  for (const base::Duration pause : pauses_) {
    EXPECT_LE(pause, most);
    EXPECT_GE(pause, most / 2);
    most *= 2;
  }
}

TEST_F(WatchKubernetes, AWatchThatLastedIsBegunAgainAtOnce) {
  write("token", "t");
  told_every_ = std::chrono::seconds(2);
  stop_after_told_ = 4;
  const auto added = [](const char* name, const char* version) {
    return Answer{.status = 200, .pieces = {event("ADDED", slice(name, version, std::string("10.0.0.") + version))}};
  };
  Answer last = added("d", "13");
  last.stay = true;
  play(
      {{.status = 200, .pieces = {list("10", slice("a", "5", "10.0.0.1"))}}, added("b", "11"), added("c", "12"), last});
  EXPECT_TRUE(pauses_.empty());
}

TEST_F(WatchKubernetes, ListsAgainAfterAnEventThatItCannotRead) {
  write("token", "t");
  stop_after_told_ = 2;
  play({{.status = 200, .pieces = {list("10", slice("a", "5", "10.0.0.1"))}},
        {.status = 200, .pieces = {"{]\n"}},
        {.status = 200, .pieces = {list("12", slice("b", "12", "10.0.0.2"))}}});
  EXPECT_EQ(told_.back(), "10.0.0.2:80+pod-10.0.0.2 ");
}

TEST_F(WatchKubernetes, TrustsNobodyButTheClustersAuthority) {
  write("token", "secret");
  ca_ = test::TlsCertificate::for_localhost().certificate_pem;
  stop_after_pauses_ = 1;
  play({{.status = 200, .pieces = {list("10", slice("a", "5", "10.0.0.1"))}}});
  EXPECT_TRUE(told_.empty());
  EXPECT_EQ(api_->asked()[0].token, "");  // the handshake failed
}

TEST(InPod, FindsItsCluster) {
  const test::TemporaryFolder folder;
  folder.put("namespace", "prod\n");
  const auto environment = [](std::string_view name) -> std::optional<std::string> {
    if (name == "KUBERNETES_SERVICE_HOST") return "10.96.0.1";
    if (name == "KUBERNETES_SERVICE_PORT") return "443";
    return std::nullopt;
  };
  const auto options = in_pod("models", "http", environment, folder.path());
  ASSERT_TRUE(options) << options.error().to_string();
  EXPECT_EQ(options->api_server, "https://10.96.0.1:443");
  EXPECT_EQ(options->name_space, "prod");
  EXPECT_EQ(options->token_file, folder.path() / "token");
  EXPECT_FALSE(in_pod("models", "http", environment, folder.path() / "none"));
  const auto outside = in_pod(
      "models", "http", [](std::string_view) { return std::nullopt; }, folder.path());
  ASSERT_FALSE(outside);
  EXPECT_NE(outside.error().message().find("KUBERNETES_SERVICE_HOST"), std::string::npos);
}

}  // namespace
}  // namespace tidemill::gateway
