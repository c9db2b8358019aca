#include "gateway/roster.hpp"

#include <functional>
#include <optional>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "gateway/gateway.hpp"
#include "gateway/kubernetes_api.hpp"
#include "gateway/scripted_backend.hpp"
#include "temporary_folder.hpp"
#include "wire/http_client.hpp"

namespace tidemill::gateway {
namespace {

using base::ErrorCode;
using test::KubernetesApi;
using Names = std::vector<std::string>;

// Nobody listens on this port of loopback: looks at the backends are refused, and nothing here depends on them.
constexpr std::string_view kPort = "1";

class RosterTest : public testing::Test {
 protected:
  RosterTest() {
    options_.poll_interval = std::chrono::milliseconds(10);
    wanted_.model = "m";
  }

  void begin(Resolve resolve = {}) {
    service_.emplace(options_, base::SystemClock::instance());
    roster_.emplace(*service_, io_.get_executor(), std::move(resolve));
    set();
  }
  // As a reload does.
  void set(std::vector<BackendOptions> named = {}) {
    auto sources = all_sources(options_);
    ASSERT_TRUE(sources) << sources.error().to_string();
    roster_->set(std::move(named), std::move(*sources));
  }
  void run_until(const std::function<bool()>& holds) {
    const auto until = std::chrono::steady_clock::now() + test::patience;
    while (!holds() && std::chrono::steady_clock::now() < until)
      io_.run_one_for(std::chrono::milliseconds(100));
    ASSERT_TRUE(holds());
  }
  Names names() {
    Names all;
    for (const auto& backend : service_->fleet().backends())
      all.push_back(backend->name());
    return all;
  }
  std::shared_ptr<Backend> backend(size_t i) { return service_->fleet().backends().at(i); }

  // In the order in which they need each other: the API server waits for its client to hang up.
  std::optional<KubernetesApi> api_;
  GatewayOptions options_;
  Wanted wanted_;
  std::optional<Service> service_;
  asio::io_context io_;
  std::optional<Roster> roster_;
};

TEST_F(RosterTest, FollowsADnsName) {
  std::vector<std::string> addresses = {"127.0.0.1", "127.0.0.2"};
  options_.discover = {{.dns = "https://models.example:1",
                        .interval = std::chrono::milliseconds(10),
                        .models = {"m"},
                        .api_key = "secret"}};
  begin([&](std::string host) -> asio::awaitable<base::Result<std::vector<std::string>>> {
    EXPECT_EQ(host, "models.example");
    co_return addresses;
  });
  run_until([&] { return names() == Names{"127.0.0.1:1", "127.0.0.2:1"}; });
  const auto stays = backend(0);
  EXPECT_EQ(
      stays->options(),
      (BackendOptions{.url = "https://127.0.0.1:1", .name = "127.0.0.1:1", .models = {"m"}, .api_key = "secret"}));

  // One goes while it has a request: no further ones, and this one ends well.
  auto lease = service_->fleet().pick(wanted_, {stays.get()});
  ASSERT_TRUE(lease) << lease.error().to_string();
  addresses = {"127.0.0.1", "127.0.0.3"};
  run_until([&] { return names() == Names{"127.0.0.1:1", "127.0.0.3:1"}; });
  EXPECT_EQ(backend(0), stays);
  EXPECT_EQ((*lease)->name(), "127.0.0.2:1");
  EXPECT_EQ((*lease)->in_flight(), 1);
  EXPECT_FALSE(service_->fleet().pick(wanted_, {stays.get(), backend(1).get()}));
  lease->end(Outcome::answered);

  // A reload that says something else of the backends has them at once; what it names itself, it says better.
  options_.discover[0].api_key = "other";
  set({{.url = "http://127.0.0.3:1", .name = "third"}});
  EXPECT_EQ(names(), (Names{"third", "127.0.0.1:1"}));
  EXPECT_EQ(backend(1)->options().api_key, "other");

  // And one that no longer looks for them ends the looking.
  options_.discover.clear();
  set();
  EXPECT_EQ(names(), Names{});
  io_.run_for(test::patience);
  EXPECT_TRUE(io_.stopped());
  EXPECT_EQ(names(), Names{});
}

std::string slice(std::string_view version, std::string_view uid) {
  return fmt::format(
      R"({{"metadata":{{"name":"a","resourceVersion":"{}"}},"addressType":"IPv4","ports":[{{"name":"http","port":{}}}],)"
      R"("endpoints":[{{"addresses":["127.0.0.1"],"conditions":{{"ready":true}},"targetRef":{{"uid":"{}"}}}},)"
      R"({{"addresses":["127.0.0.2"],"conditions":{{"ready":false}},"targetRef":{{"uid":"other"}}}}]}})",
      version, kPort, uid);
}

TEST_F(RosterTest, FollowsAServiceOfKubernetes) {
  const test::TemporaryFolder folder;
  api_.emplace(std::vector<KubernetesApi::Answer>{
      {.status = 200,
       .pieces = {fmt::format(R"({{"metadata":{{"resourceVersion":"10"}},"items":[{}]}})", slice("5", "old"))}},
      {.status = 200, .pieces = {"{\"type\":\"MODIFIED\",\"object\":" + slice("11", "new") + "}\n"}, .stay = true}});
  folder.put("token", "secret");
  folder.put("ca.crt", api_->ca());
  options_.poll_interval = std::chrono::hours(1);
  options_.discover = {{.kubernetes = "prod/models",
                        .port = "http",
                        .api_server = api_->url(),
                        .token_file = (folder.path() / "token").string(),
                        .ca_file = (folder.path() / "ca.crt").string(),
                        .models = {"m"}}};
  begin();
  run_until([&] { return names() == Names{"127.0.0.1:1", "127.0.0.2:1"}; });
  Fleet& fleet = service_->fleet();
  const auto old = backend(0);
  const auto not_ready = backend(1);
  EXPECT_EQ(old->options().instance, "old");
  EXPECT_EQ(old->options().url, "http://127.0.0.1:1");

  // One that is about to end may say itself that it is well.
  fleet.note_poll(*not_ready, {}, base::SystemClock::instance().now());
  EXPECT_FALSE(fleet.pick(wanted_, {old.get()}));

  const PromptBlocks prompt = prompt_blocks("", "", "", std::string(4096, 'x'));
  wanted_.blocks = prompt.blocks;
  wanted_.prompt_bytes = prompt.bytes;
  auto lease = fleet.pick(wanted_, {});
  ASSERT_TRUE(lease) << lease.error().to_string();
  EXPECT_EQ((*lease)->name(), "127.0.0.1:1");
  const auto believed = [&] {
    uint64_t blocks = 0;
    for (const route::BackendView& view : fleet.view())
      blocks += view.believed_blocks;
    return blocks;
  };
  EXPECT_EQ(believed(), prompt.blocks.size());

  // Another pod has the address now: nothing is believed of its cache, and the one that has not changed stays.
  run_until([&] { return backend(0) != old; });
  EXPECT_EQ(backend(0)->name(), "127.0.0.1:1");
  EXPECT_EQ(backend(0)->options().instance, "new");
  EXPECT_EQ(believed(), 0U);
  EXPECT_EQ(backend(1), not_ready);
  lease->end(Outcome::answered);
}

TEST(AllSources, NamesTheKeyThatIsWrong) {
  const auto key_of = [](DiscoverOptions source) {
    GatewayOptions options;
    options.discover = {std::move(source)};
    const auto sources = all_sources(options);
    return sources ? "" : sources.error().param();
  };
  EXPECT_EQ(key_of({}), "gateway.discover.dns");
  EXPECT_EQ(key_of({.dns = "a:1", .kubernetes = "b/c"}), "gateway.discover.dns");
  EXPECT_EQ(key_of({.dns = "models.example"}), "gateway.discover.dns");
  EXPECT_EQ(key_of({.dns = "models.example", .port = "8000"}), "");
  EXPECT_EQ(key_of({.dns = "models.example", .port = "http"}), "gateway.discover.port");
  EXPECT_EQ(key_of({.kubernetes = "a/b/c", .api_server = "https://k:1"}), "gateway.discover.kubernetes");
  EXPECT_EQ(key_of({.kubernetes = "models", .api_server = "https://k:1"}), "gateway.discover.kubernetes");
  EXPECT_EQ(key_of({.kubernetes = "a/b", .api_server = "http://k:1"}), "gateway.discover.api_server");
  EXPECT_EQ(key_of({.kubernetes = "a/b", .api_server = "https://k:1"}), "");
}

TEST(GatewayDiscovery, AnswersFromWhatItFinds) {
  test::ScriptedBackend server([](const test::Received&) {
    return test::Script{.bytes = test::http_answer(200, "application/json", R"({"choices":[]})")};
  });
  GatewayOptions options;
  options.port = 0;
  options.io_threads = 2;
  options.discover = {{.dns = fmt::format("models.example:{}", server.port())}};
  auto started = Gateway::start(options, base::SystemClock::instance(),
                                [](std::string) -> asio::awaitable<base::Result<std::vector<std::string>>> {
                                  co_return std::vector<std::string>{"127.0.0.1"};
                                });
  ASSERT_TRUE(started) << started.error().to_string();
  const auto gateway = std::move(*started);
  wire::HttpClient client;
  const auto ask = [&](const std::string& path, const std::string& body = "") {
    wire::ClientRequest request;
    request.method = body.empty() ? "GET" : "POST";
    request.url = gateway->url() + path;
    request.body = body;
    auto answer = client.fetch(std::move(request));
    EXPECT_TRUE(answer) << answer.error().to_string();
    return answer ? *answer : wire::HttpResponse{};
  };
  const auto until = std::chrono::steady_clock::now() + test::patience;
  while (ask("/ready").status != 200 && std::chrono::steady_clock::now() < until) {
  }
  gateway->look();  // its models are known then
  const wire::HttpResponse answer = ask("/v1/completions", R"({"model":"m","prompt":"x"})");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, R"({"choices":[]})");

  options.discover[0].dns = "no port";
  const auto wrong = gateway->reload(options);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().param(), "gateway.discover.dns");
  const std::string backends = ask("/backends").body;
  EXPECT_NE(backends.find(fmt::format("127.0.0.1:{}", server.port())), std::string::npos) << backends;
}

}  // namespace
}  // namespace tidemill::gateway
