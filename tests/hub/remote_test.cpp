#include "hub/remote.hpp"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "expect_says.hpp"
#include "hub/fake_hub.hpp"

namespace tidemill::hub {
namespace {

using base::Duration;
using base::ErrorCode;
using namespace std::chrono_literals;
using test::FakeHub;
using test::HubClient;

ModelName tiny() {
  return {.repository = "acme/tiny", .revision = "main", .choice = ""};
}

Remote remote_for(const HubClient& client, const ModelName& name = tiny()) {
  auto remote = Remote::create(name, client.options);
  EXPECT_TRUE(remote) << remote.error().to_string();
  return *std::move(remote);
}

// Answers the first requests with these, one after the other, and then as a hub does.
FakeHub::Answer first(std::vector<std::string> answers) {
  return [answers = std::move(answers), next = size_t{0}](const FakeHub::Request&) mutable {
    return next < answers.size() ? std::optional(answers[next++]) : std::nullopt;
  };
}

TEST(HubRemote, ListsAllPages) {
  FakeHub hub;
  for (int i = 0; i < 7; ++i)
    hub.files[fmt::format("f{}.gguf", i)] = std::string(static_cast<size_t>(i), 'x');
  hub.page = 3;
  const HubClient client(hub);
  Remote remote = remote_for(client);
  EXPECT_EQ(*remote.commit(), hub.commit);
  const auto files = remote.list(hub.commit);
  ASSERT_TRUE(files) << files.error().to_string();
  ASSERT_EQ(files->size(), 7);
  EXPECT_EQ(files->at(6).path, "f6.gguf");
  EXPECT_EQ(files->at(6).size, 6);
  EXPECT_EQ(files->at(6).digest->hex, digest_of(DigestKind::sha256, "xxxxxx"));
  EXPECT_EQ(hub.requests().size(), 4);
}

TEST(HubRemote, RevisionsAndPathsAreEscaped) {
  FakeHub hub;
  const HubClient client(hub);
  Remote remote = remote_for(client, {.repository = "acme/tiny", .revision = "refs/pr/1?x", .choice = ""});
  EXPECT_TRUE(remote.commit());
  EXPECT_EQ(hub.requests().at(0).target, "/api/models/acme/tiny/revision/refs%2Fpr%2F1%3Fx");
  EXPECT_EQ(remote.url_of({.path = "a b/\xc3\xa9#?.gguf", .size = 0, .digest = std::nullopt}, "C"),
            hub.url() + "/acme/tiny/resolve/C/a%20b/%C3%A9%23%3F.gguf");
}

TEST(HubRemote, WhatPassesIsTriedAgain) {
  FakeHub hub;
  hub.answer = first({"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "", FakeHub::whole(503, "", ""),
                      FakeHub::whole(429, "Retry-After: 42\r\n", "")});
  HubClient client(hub);
  const auto commit = remote_for(client).commit();
  ASSERT_TRUE(commit) << commit.error().to_string();
  EXPECT_EQ(*commit, hub.commit);
  EXPECT_EQ(client.pauses, (std::vector<Duration>{1s, 2s, 4s, 42s}));
  EXPECT_SAYS(client.reasons.at(2), "503 Service Unavailable");
}

TEST(HubRemote, ButNotForEver) {
  FakeHub hub;
  hub.answer = [](const FakeHub::Request&) { return FakeHub::whole(502, "", ""); };
  HubClient client(hub);
  client.options.longest_pause = 3s;
  const auto commit = remote_for(client).commit();
  ASSERT_FALSE(commit);
  EXPECT_EQ(commit.error().code(), ErrorCode::unavailable);
  EXPECT_SAYS(commit.error().to_string(), "given up after 5 tries");
  EXPECT_SAYS(commit.error().to_string(), "502");
  EXPECT_EQ(client.pauses, (std::vector<Duration>{1s, 2s, 3s, 3s}));
}

TEST(HubRemote, AWaitThatIsTooLongIsAnError) {
  FakeHub hub;
  hub.answer = first(
      {FakeHub::whole(429, "RateLimit: \"api\";r=0;t=100\r\n", ""), FakeHub::whole(429, "Retry-After: 3600\r\n", "")});
  HubClient client(hub);
  const auto commit = remote_for(client).commit();
  ASSERT_FALSE(commit);
  EXPECT_SAYS(commit.error().to_string(), "asks to wait for 1h");
  EXPECT_EQ(client.pauses, (std::vector<Duration>{100s}));
}

TEST(HubRemote, RefusalsSayWhatToDo) {
  struct Case {
    int status;
    const char* headers;
    bool token;
    ErrorCode code;
    const char* said;
  };
  const Case cases[] = {
      {401, "", false, ErrorCode::not_found, "hf:acme/tiny does not exist, or is private or gated"},
      {401, "", true, ErrorCode::not_found, "the token in HF_TOKEN is not valid"},
      {401, "X-Error-Code: GatedRepo\r\n", false, ErrorCode::unavailable, "accept its licence at http://127.0.0.1:"},
      {403, "X-Error-Code: GatedRepo\r\n", true, ErrorCode::unavailable, "/acme/tiny, and set HF_TOKEN"},
      {403, "", false, ErrorCode::unavailable, "hf:acme/tiny: the hub answers 403 Forbidden"},
      {404, "X-Error-Code: RepoNotFound\r\n", false, ErrorCode::not_found, "there is no hf:acme/tiny"},
      {404, "X-Error-Code: RevisionNotFound\r\n", false, ErrorCode::not_found, "no branch, tag or commit 'main'"},
      {400, "X-Error-Message: odd name\r\n", false, ErrorCode::unavailable, "answers 400 Bad Request: odd name"},
  };
  for (const Case& c : cases) {
    FakeHub hub;
    hub.answer = [&](const FakeHub::Request&) { return FakeHub::whole(c.status, c.headers, "<html>"); };
    HubClient client(hub);
    if (c.token) client.options.token = "hf_secret";
    const auto commit = remote_for(client).commit();
    ASSERT_FALSE(commit);
    EXPECT_EQ(commit.error().code(), c.code) << c.said;
    EXPECT_SAYS(commit.error().to_string(), c.said);
    EXPECT_EQ(commit.error().to_string().find("hf_secret"), std::string::npos);
    EXPECT_TRUE(client.pauses.empty());
  }
}

TEST(HubRemote, RedirectsAreFollowedAndTheTokenStays) {
  FakeHub hub;
  FakeHub other;  // another port, another origin
  hub.answer = [&](const FakeHub::Request& request) -> std::optional<std::string> {
    if (request.target.ends_with("/main")) {
      return FakeHub::whole(307, "Location: /api/models/acme/tiny/revision/here\r\n", "gone");
    }
    return FakeHub::whole(302, "Location: " + other.url() + "/signed?key=abc\r\n", "");
  };
  other.answer = [&](const FakeHub::Request&) {
    return FakeHub::whole(200, "", fmt::format(R"({{"sha": "{}"}})", hub.commit));
  };
  HubClient client(hub);
  client.options.token = "hf_secret";
  const auto commit = remote_for(client).commit();
  ASSERT_TRUE(commit) << commit.error().to_string();
  EXPECT_EQ(*commit, hub.commit);
  ASSERT_EQ(hub.requests().size(), 2);
  for (const auto& request : hub.requests())
    EXPECT_EQ(request.header("Authorization"), "Bearer hf_secret");
  ASSERT_EQ(other.requests().size(), 1);
  EXPECT_EQ(other.requests()[0].target, "/signed?key=abc");
  EXPECT_EQ(other.requests()[0].head.find("hf_secret"), std::string::npos);
}

TEST(HubRemote, RedirectsThatLeadNowhere) {
  for (const char* location : {"Location: /api/models/acme/tiny/revision/main\r\n", "", "Location: ftp://x\r\n"}) {
    FakeHub hub;
    hub.answer = [&](const FakeHub::Request&) { return FakeHub::whole(302, location, ""); };
    const HubClient client(hub);
    const auto commit = remote_for(client).commit();
    ASSERT_FALSE(commit);
    EXPECT_EQ(commit.error().code(), ErrorCode::corrupt);
    EXPECT_LT(hub.requests().size(), 20);
  }
}

// An address that was signed has run out: the hub gives a new one.
TEST(HubRemote, RefusalsOfOtherServersAreTriedAgain) {
  FakeHub hub;
  FakeHub other;
  hub.answer = [&](const FakeHub::Request&) {
    return FakeHub::whole(302, "Location: " + other.url() + "/x?signature=s3cret\r\n", "");
  };
  other.answer = [&, asked = 0](const FakeHub::Request&) mutable {
    return asked++ == 0 ? FakeHub::whole(403, "", "")
                        : FakeHub::whole(200, "", fmt::format(R"({{"sha": "{}"}})", hub.commit));
  };
  HubClient client(hub);
  EXPECT_TRUE(remote_for(client).commit());
  ASSERT_EQ(client.reasons.size(), 1);
  EXPECT_SAYS(client.reasons[0], "answers 403");
  EXPECT_EQ(client.reasons[0].find("s3cret"), std::string::npos);
}

TEST(HubRemote, TokensAreNotSentInTheClear) {
  RemoteOptions options;
  options.token = "hf_secret";
  options.endpoint = "http://hub.example";
  const auto remote = Remote::create(tiny(), options);
  ASSERT_FALSE(remote);
  EXPECT_EQ(remote.error().code(), ErrorCode::invalid_argument);
  EXPECT_EQ(remote.error().to_string().find("hf_secret"), std::string::npos);
  options.endpoint = "https://hub.example/mirror/";
  EXPECT_TRUE(Remote::create(tiny(), options));
  for (const char* endpoint : {"hub.example", "https://hub.example?x"}) {
    options.endpoint = endpoint;
    EXPECT_SAYS(Remote::create(tiny(), options).error().to_string(), "HF_ENDPOINT");
  }
}

wire::ProxyRules proxies(const std::string& proxy, const std::string& exceptions) {
  return wire::ProxyRules::from_environment([&](const char* name) {
    return std::string_view(name) == "HTTP_PROXY" ? proxy : std::string_view(name) == "NO_PROXY" ? exceptions : "";
  });
}

// Here the hub is asked directly, and where it redirects to through the proxy.
TEST(HubRemote, ProxiesAreLookedUpForEachServer) {
  FakeHub hub;
  FakeHub proxy;
  hub.answer = [](const FakeHub::Request&) {
    return FakeHub::whole(302, "Location: http://files.example/signed?key=abc\r\n", "");
  };
  proxy.answer = [&](const FakeHub::Request&) {
    return FakeHub::whole(200, "", fmt::format(R"({{"sha": "{}"}})", hub.commit));
  };
  HubClient client(hub);
  client.options.token = "hf_secret";
  client.options.proxies = proxies(proxy.url(), "127.0.0.1");
  const auto commit = remote_for(client).commit();
  ASSERT_TRUE(commit) << commit.error().to_string();
  EXPECT_EQ(hub.requests().size(), 1);
  ASSERT_EQ(proxy.requests().size(), 1);
  EXPECT_EQ(proxy.requests()[0].target, "http://files.example/signed?key=abc");
  EXPECT_EQ(proxy.requests()[0].head.find("hf_secret"), std::string::npos);
}

TEST(HubRemote, ProxiesDoNotReadTokens) {
  RemoteOptions options;
  options.token = "hf_secret";
  options.endpoint = "http://localhost:1";
  options.proxies = proxies("http://tom:word@p:1", "");
  const auto remote = Remote::create(tiny(), options);
  ASSERT_FALSE(remote);
  EXPECT_SAYS(remote.error().to_string(), "would go to the proxy p:1 (HTTP_PROXY) for it to read");
  EXPECT_SAYS(remote.error().to_string(), "NO_PROXY");
  options.proxies = proxies("http://tom:word@p:1", "localhost");
  EXPECT_TRUE(Remote::create(tiny(), options));
  options.proxies = proxies("socks5h://p:1", "");
  EXPECT_SAYS(Remote::create(tiny(), options).error().to_string(), "'socks5h' are not supported");
}

TEST(HubRemote, WhatAProxyRefusesForGoodIsNotTriedAgain) {
  FakeHub proxy;
  proxy.answer = [](const FakeHub::Request&) { return FakeHub::whole(407, "Proxy-Authenticate: Basic\r\n", ""); };
  HubClient client(proxy);
  client.options.endpoint = "http://hub.example";
  client.options.proxies = proxies(proxy.url(), "");
  const auto commit = remote_for(client).commit();
  ASSERT_FALSE(commit);
  EXPECT_SAYS(commit.error().to_string(), "set HTTP_PROXY to http://USER:PASSWORD@127.0.0.1:");
  EXPECT_EQ(proxy.requests().size(), 1);
}

// What answers over http may be the proxy itself; of a hub's licence only the hub knows.
TEST(HubRemote, AProxyThatMayHaveAnsweredIsNamed) {
  for (const int status : {403, 404, 503}) {
    FakeHub proxy;
    proxy.answer = [&](const FakeHub::Request&) { return FakeHub::whole(status, "", ""); };
    HubClient client(proxy);
    client.options.endpoint = "http://hub.example";
    client.options.proxies = proxies(proxy.url(), "");
    const auto commit = remote_for(client).commit();
    ASSERT_FALSE(commit);
    const std::string said = commit.error().to_string();
    EXPECT_SAYS(said, ", asked through the proxy 127.0.0.1:");
    EXPECT_SAYS(said, "(HTTP_PROXY)");
    EXPECT_EQ(said.find("licence"), std::string::npos) << said;
  }
}

TEST(HubRemote, SmallFilesAreChecked) {
  FakeHub hub;
  hub.files["config.json"] = "{}";
  const HubClient client(hub);
  Remote remote = remote_for(client);
  RepoFile file = remote.list(hub.commit)->at(0);
  EXPECT_EQ(*remote.read(file, hub.commit), "{}");
  // Content that differs is fetched once more, and what is said of it is true.
  hub.files["config.json"] = "[]";
  const size_t before = hub.downloads().size();
  const auto other = remote.read(file, hub.commit);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), ErrorCode::corrupt);
  EXPECT_EQ(
      other.error().message(),
      fmt::format("'config.json': what the server sends is not what the hub lists, twice: its git-sha1 is {}, and "
                  "should be {}",
                  digest_of(DigestKind::git_sha1, "[]"), digest_of(DigestKind::git_sha1, "{}")));
  EXPECT_EQ(hub.downloads().size(), before + 2);
  hub.answer = first({FakeHub::whole(200, "", "[]"), FakeHub::whole(200, "", "{}")});
  EXPECT_EQ(*remote.read(file, hub.commit), "{}");
  hub.answer = first({FakeHub::whole(200, "", "{} ")});
  EXPECT_EQ(remote.read(file, hub.commit).error().message(),
            "'config.json': the server has 3 bytes of it, and the hub lists 2");
  hub.answer = {};
  file.size = uint64_t{1} << 40;
  EXPECT_EQ(remote.read(file, hub.commit).error().code(), ErrorCode::unsupported);
}

TEST(HubRemote, ErrorsNameTheFile) {
  FakeHub hub;
  hub.files["config.json"] = "{}";
  const HubClient client(hub);
  Remote remote = remote_for(client);
  const RepoFile file = remote.list(hub.commit)->at(0);
  const auto said = [&](std::string answer) {
    hub.answer = [answer = std::move(answer)](const FakeHub::Request&) { return answer; };
    return remote.read(file, hub.commit).error().to_string();
  };
  EXPECT_SAYS(said("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), "given up after 5 tries: 'config.json': ");
  EXPECT_SAYS(client.reasons.at(0), "'config.json': ");
  const std::string gone = "'config.json': hf:acme/tiny has no such file, though the hub lists it";
  EXPECT_SAYS(said(FakeHub::whole(404, "X-Error-Code: EntryNotFound\r\n", "")), gone);
  EXPECT_SAYS(said(FakeHub::whole(404, "", "")), gone);
  EXPECT_SAYS(said(FakeHub::whole(404, "X-Error-Code: RepoNotFound\r\n", "")), "there is no hf:acme/tiny");
}

TEST(HubRemote, TokensHoldNoLineBreaks) {
  RemoteOptions options;
  for (const char* token : {"hf_secret\n", "hf_\rsecret", "hf_secret 2", "\x7fhf_secret"}) {
    options.token = token;
    const auto remote = Remote::create(tiny(), options);
    ASSERT_FALSE(remote);
    EXPECT_EQ(remote.error().code(), ErrorCode::invalid_argument);
    EXPECT_SAYS(remote.error().to_string(), "the token (HF_TOKEN) holds a blank, a line break");
    EXPECT_EQ(remote.error().to_string().find("secret"), std::string::npos);
  }
}

TEST(HubRemote, StopsWhenItIsTold) {
  const test::StopSwitch stop;
  FakeHub hub;
  HubClient client(hub);
  client.options.stop = stop.descriptor();
  Remote remote = remote_for(client);
  EXPECT_TRUE(remote.commit());
  EXPECT_FALSE(remote.stopped());
  // In the middle of an answer, or before the pause.
  hub.answer = [&](const FakeHub::Request&) {
    stop.set();
    return FakeHub::whole(503, "", "");
  };
  const auto stopped = remote.commit();
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code(), ErrorCode::cancelled);
  EXPECT_TRUE(remote.stopped());
}

}  // namespace
}  // namespace tidemill::hub
