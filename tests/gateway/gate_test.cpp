// Keys, limits, prices and the queue, as clients meet them.
#include <atomic>
#include <mutex>

#include <gtest/gtest.h>

#include "access/api_key.hpp"
#include "access/key_vault.hpp"
#include "access/limiter.hpp"
#include "base/json.hpp"
#include "gateway/fleet_fixture.hpp"
#include "session/session_store.hpp"
#include "temporary_folder.hpp"

namespace tidemill::test {
namespace {

namespace json = base::json;

class Gate : public FleetFixture {
 protected:
  static inline const std::string answer = http_answer(
      200, "application/json",
      R"({"id":"chatcmpl-1","usage":{"prompt_tokens":1000,"completion_tokens":100,"prompt_tokens_details":{"cached_tokens":0}}})");
  static std::string question(const std::string& model = "m") {
    return R"({"model":")" + model + R"(","max_tokens":100,"messages":[{"role":"user","content":"hi"}]})";
  }

  // Makes a key and returns its secret.
  std::string make_key(access::ApiKey wanted) {
    const auto made = access::make_key(std::move(wanted), base::SystemClock::instance().wall_now());
    EXPECT_TRUE(made) << made.error().to_string();
    options.keys = (folder.path() / "keys.json").string();
    const auto add = [&](std::vector<access::ApiKey>& keys) -> base::Result<void> {
      keys.push_back(made->key);
      return {};
    };
    EXPECT_TRUE(access::keys_in_file(options.keys)->update(add));
    return made->secret;
  }
  void set_policy(const std::string& text) { options.policy = folder.put("policy.toml", text).string(); }
  wire::HttpResponse ask(const std::string& secret, const std::string& body = question()) {
    return post("/v1/chat/completions", body, {{"Authorization", "Bearer " + secret}});
  }
  static std::string code_of(const wire::HttpResponse& response) {
    const auto body = base::parse_json(response.body);
    if (!body || !body->is_object() || !body->as_object().contains("error")) return response.body;
    return std::string(body->at("error").at("code").as_string());
  }

  TemporaryFolder folder;
};

TEST_F(Gate, OnlyKeysOpenIt) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  const std::string secret = make_key({.name = "n", .tenant = "t", .models = {"m"}});
  start();
  EXPECT_EQ(ask(secret).status, 200);
  const wire::HttpResponse nobody = post("/v1/chat/completions", question());
  EXPECT_EQ(nobody.status, 401);
  EXPECT_EQ(nobody.headers.find("www-authenticate"), "Bearer");
  EXPECT_EQ(code_of(ask("tm-wrong")), "invalid_api_key");
  EXPECT_EQ(post("/v1/messages", question(), {{"x-api-key", secret}}).status, 200);
  const wire::HttpResponse anthropic = post("/v1/messages", question(), {{"x-api-key", "wrong"}});
  EXPECT_EQ(anthropic.status, 401);
  EXPECT_EQ(base::parse_json(anthropic.body)->at("error").at("type"), "authentication_error");
  EXPECT_EQ(ask(secret, question("other")).status, 403);
  EXPECT_EQ(get("/v1/models").status, 401);
  EXPECT_EQ(get("/health").status, 200);
  EXPECT_EQ(get("/metrics").status, 200);
  EXPECT_EQ(backend.received().size(), 2U);
}

// The gateway's keys open nothing but the gateway, and are shown to nobody else.
TEST_F(Gate, KeysEndAtTheGateway) {
  ScriptedBackend& without = add_backend([](const Received&) { return Script{.bytes = answer}; });
  ScriptedBackend& with =
      add_backend([](const Received&) { return Script{.bytes = answer}; }, R"({"data":[{"id":"other"}]})");
  options.backends.back().api_key = "sk-backend";
  const std::string secret = make_key({.name = "n", .tenant = "t", .models = {"m", "other"}});
  start(make_key({.name = "o", .tenant = "t", .scopes = {"admin"}}));
  const wire::Headers headers{
      {"Authorization", "Bearer " + secret}, {"X-Api-Key", secret}, {"Cookie", "session=1"}, {"X-Other", "kept"}};
  EXPECT_EQ(post("/v1/chat/completions", question(), headers).status, 200);
  EXPECT_EQ(post("/v1/messages", question("other"), headers).status, 200);
  ASSERT_EQ(without.received().size(), 1U);
  ASSERT_EQ(with.received().size(), 1U);
  for (const Received& request : {without.received().front(), with.received().front()}) {
    EXPECT_EQ(request.head.find(secret), std::string::npos) << request.head;
    EXPECT_EQ(request.head.find("session=1"), std::string::npos) << request.head;
    EXPECT_EQ(request.field("X-Other"), "kept");
  }
  EXPECT_EQ(without.received().front().field("Authorization"), "");
  EXPECT_EQ(with.received().front().field("Authorization"), "Bearer sk-backend");
}

// Who may only read takes nothing away.
TEST_F(Gate, ResponsesAreForgottenByThoseWhoMayMakeThem) {
  add_backend([](const Received&) {
    return Script{.bytes = http_answer(200, "application/json", R"({"id":"resp_1","status":"completed","output":[]})")};
  });
  const std::string reads = make_key({.name = "r", .tenant = "t", .scopes = {"read"}});
  const std::string generates = make_key({.name = "g", .tenant = "t", .scopes = {"generate"}});
  start();
  const wire::Headers headers{{"Authorization", "Bearer " + generates}};
  EXPECT_EQ(post("/v1/responses", R"({"model":"m","input":"hi"})", headers).status, 200);
  EXPECT_EQ(get("/v1/responses/resp_1", reads).status, 200);
  const auto forget = [&](const std::string& secret) {
    wire::HttpClient client;
    const auto response = client.fetch({.method = "DELETE",
                                        .url = gateway->url() + "/v1/responses/resp_1",
                                        .headers = {{"Authorization", "Bearer " + secret}},
                                        .body = {}});
    EXPECT_TRUE(response) << response.error().to_string();
    return response ? response->status : 0;
  };
  EXPECT_EQ(forget(reads), 403);
  EXPECT_EQ(get("/v1/responses/resp_1", reads).status, 200);
  EXPECT_EQ(forget(generates), 200);
  EXPECT_EQ(get("/v1/responses/resp_1", reads).status, 404);
}

// A request without a model must not get by what its key allows.
TEST_F(Gate, ARequestWithoutAModelMeansTheOnlyOne) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  const std::string other = make_key({.name = "n", .tenant = "t", .models = {"other-*"}});
  const std::string all = make_key({.name = "a", .tenant = "t"});
  start(make_key({.name = "o", .tenant = "t", .scopes = {"admin"}}));
  for (const std::string body : {R"({"messages":[]})", R"({"model":"","messages":[]})", R"({"model":null})"}) {
    EXPECT_EQ(ask(other, body).status, 403) << body;
    EXPECT_EQ(ask(all, body).status, 200) << body;
  }
  EXPECT_EQ(backend.received().size(), 3U);
}

TEST_F(Gate, ScopesAndAdministration) {
  add_backend([](const Received&) { return Script{.bytes = answer}; });
  const std::string reader = make_key({.name = "r", .tenant = "t", .scopes = {"read"}});
  const std::string admin = make_key({.name = "a", .tenant = "t", .scopes = {"admin"}});
  start(admin);
  EXPECT_EQ(ask(reader).status, 403);
  EXPECT_EQ(get("/v1/models", reader).status, 200);
  EXPECT_EQ(get("/backends", reader).status, 403);
  EXPECT_EQ(get("/backends", admin).status, 200);
}

TEST_F(Gate, RerankingIsForKeysThatEmbed) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  const std::string embeds = make_key({.name = "e", .tenant = "t", .scopes = {"embed"}});
  const std::string generates = make_key({.name = "g", .tenant = "t", .scopes = {"generate"}});
  start();
  for (const char* path : {"/v1/embeddings", "/rerank", "/v1/rerank", "/v2/rerank"}) {
    EXPECT_EQ(post(path, question(), {{"Authorization", "Bearer " + generates}}).status, 403) << path;
    EXPECT_EQ(post(path, question(), {{"Authorization", "Bearer " + embeds}}).status, 200) << path;
    EXPECT_EQ(backend.received().back().path, path);
  }
  EXPECT_EQ(ask(embeds).status, 403);
  EXPECT_EQ(ask(generates).status, 200);
}

// A few kilobytes may be a lot to read, and nothing is written.
TEST_F(Gate, RerankingIsWeighedByWhatIsRead) {
  ScriptedBackend& backend = add_backend([](const Received&) {
    return Script{.bytes = http_answer(200, "application/json", R"({"usage":{"prompt_tokens":9,"total_tokens":9}})")};
  });
  const std::string secret = make_key({.name = "n", .tenant = "t"});
  set_policy("[tenants.default]\ntokens_per_minute = 1000\n");
  start();
  const auto rerank = [&](size_t query, int documents) {
    std::string body = R"({"model":"m","query":")" + std::string(query, 'q') + R"(","documents":["d")";
    for (int i = 1; i < documents; ++i)
      body += R"(,"d")";
    return post("/v1/rerank", body + "]}", {{"Authorization", "Bearer " + secret}});
  };
  EXPECT_EQ(rerank(10, 3).status, 200) << "nobody reserves an answer's tokens for it";
  const wire::HttpResponse large = rerank(200, 50);
  EXPECT_EQ(large.status, 429) << "50 times 200 bytes";
  EXPECT_EQ(code_of(large), "rate_limit_exceeded") << large.body;
  EXPECT_EQ(backend.received().size(), 1U);
}

// Without a restart or a signal.
TEST_F(Gate, KeysThatAreRevokedOrHaveEndedOpenNothing) {
  add_backend([](const Received&) { return Script{.bytes = answer}; });
  const std::string revoked = make_key({.name = "revoked", .tenant = "t"});
  const std::string ended = make_key({.name = "ended", .tenant = "t"});
  const std::string good = make_key({.name = "good", .tenant = "t"});
  start();
  for (const std::string& secret : {revoked, ended, good})
    EXPECT_EQ(ask(secret).status, 200);
  const auto change = [](std::vector<access::ApiKey>& keys) -> base::Result<void> {
    for (access::ApiKey& key : keys) {
      if (key.name == "revoked") key.disabled = true;
      if (key.name == "ended") key.expires = base::SystemClock::instance().wall_now() - std::chrono::hours(1);
    }
    return {};
  };
  ASSERT_TRUE(access::keys_in_file(options.keys)->update(change));
  const auto until = std::chrono::steady_clock::now() + patience;
  while (ask(revoked).status == 200)
    ASSERT_LT(std::chrono::steady_clock::now(), until);
  EXPECT_EQ(ask(revoked).status, 401);
  EXPECT_EQ(ask(ended).status, 401);
  EXPECT_EQ(ask(good).status, 200);
}

// A key is told of what it may call alone, in lists too.
TEST_F(Gate, AKeySeesItsModels) {
  add_backend([](const Received&) { return Script{.bytes = answer}; },
              R"({"data":[{"id":"qwen-1"},{"id":"qwen-2"},{"id":"secret"}]})");
  const std::string some = make_key({.name = "n", .tenant = "t", .models = {"qwen-*"}});
  const std::string all = make_key({.name = "a", .tenant = "t"});
  start(make_key({.name = "o", .tenant = "t", .scopes = {"admin"}}));
  const auto models = base::parse_json(get("/v1/models", some).body);
  ASSERT_EQ(models->at("data").as_array().size(), 2U);
  EXPECT_EQ(models->at("data").as_array().at(0).at("id"), "qwen-1");
  EXPECT_EQ(base::parse_json(get("/v1/models", all).body)->at("data").as_array().size(), 3U);
  EXPECT_EQ(get("/v1/models/qwen-2", some).status, 200);
  EXPECT_EQ(get("/v1/models/secret", some).status, 403);
  const wire::HttpResponse unnamed = ask(some, R"({"messages":[]})");
  EXPECT_EQ(unnamed.status, 400);
  EXPECT_NE(unnamed.body.find("qwen-2"), std::string::npos) << unnamed.body;
  EXPECT_EQ(unnamed.body.find("secret"), std::string::npos) << unnamed.body;
}

TEST_F(Gate, LimitsAreToldAndKept) {
  add_backend([](const Received&) { return Script{.bytes = answer}; });
  const std::string secret = make_key({.name = "n", .tenant = "t"});
  const std::string other = make_key({.name = "o", .tenant = "u"});
  set_policy("[tenants.default]\nrequests_per_minute = 2\n");
  start();
  const wire::HttpResponse first = ask(secret);
  EXPECT_EQ(first.status, 200);
  EXPECT_EQ(first.headers.find("x-ratelimit-limit-requests"), "2");
  EXPECT_EQ(first.headers.find("x-ratelimit-remaining-requests"), "1");
  EXPECT_EQ(ask(secret).status, 200);
  const wire::HttpResponse third = ask(secret);
  EXPECT_EQ(third.status, 429);
  EXPECT_EQ(code_of(third), "rate_limit_exceeded");
  EXPECT_TRUE(third.headers.has("retry-after"));
  EXPECT_EQ(third.headers.find("x-ratelimit-limit-requests"), "2");
  EXPECT_EQ(third.headers.find("x-ratelimit-remaining-requests"), "0");
  EXPECT_TRUE(third.headers.has("x-ratelimit-reset-requests"));
  EXPECT_EQ(ask(other).status, 200);
}

// What the store knows counts for the very first request of a gateway's life.
TEST_F(Gate, WhatAnEarlierLifeHasSpentStaysSpent) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  const std::string spent = make_key({.name = "s", .tenant = "spent"});
  const std::string fresh = make_key({.name = "f", .tenant = "fresh"});
  set_policy("[tenants.default]\nbudget_per_month = 1\n[prices.m]\ninput = 1\noutput = 1\n");
  options.session.path = (folder.path() / "store.db").string();
  {
    const base::SystemClock& clock = base::SystemClock::instance();
    const auto store = session::open_store(options.session, clock);
    ASSERT_TRUE(store) << store.error().to_string();
    access::Limiter earlier({.gateway = "earlier", .store = store->get()}, clock);
    const access::TenantPolicy policy{.budget_per_month = access::Money{1'000'000'000}};
    earlier.admit("spent", policy, 1, {}).reservation.settle(1, policy.budget_per_month);
    ASSERT_TRUE(earlier.exchange());
  }
  start();
  const wire::HttpResponse first = ask(spent);
  EXPECT_EQ(first.status, 429) << first.body;
  EXPECT_EQ(code_of(first), "insufficient_quota");
  EXPECT_EQ(backend.received().size(), 0U);
  EXPECT_EQ(ask(fresh).status, 200);
}

// What was used until the very end of a gateway's life is known in the next.
TEST_F(Gate, AGatewayThatStopsTellsWhatWasSpent) {
  add_backend([](const Received&) { return Script{.bytes = answer}; });
  const std::string secret = make_key({.name = "n", .tenant = "t"});
  set_policy("[tenants.default]\nbudget_per_day = 0.0035\n[prices.m]\ninput = 2\noutput = 10\n");
  options.session.path = (folder.path() / "store.db").string();
  start();
  EXPECT_EQ(ask(secret).headers.find("x-tidemill-cost"), "0.003");
  EXPECT_TRUE(gateway->stop(patience));
  start();
  EXPECT_EQ(ask(secret).status, 429);
}

// What an answer took counts, and not what its request might have taken.
TEST_F(Gate, TokensAreReservedAndSettled) {
  std::atomic<int> output = 1;
  add_backend([&](const Received&) {
    const std::string usage = R"({"prompt_tokens":1,"completion_tokens":)" + std::to_string(output) + "}";
    return Script{.bytes = http_answer(200, "application/json", R"({"id":"chatcmpl-1","usage":)" + usage + "}")};
  });
  const std::string secret = make_key({.name = "n", .tenant = "t"});
  set_policy("[tenants.default]\ntokens_per_minute = 1500\n");
  start();
  const std::string long_one = R"({"model":"m","max_tokens":1000,"messages":[{"role":"user","content":"hi"}]})";
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(ask(secret, long_one).status, 200) << i << ": the others have given back what they did not use";
  output = 1'000'000;
  const wire::HttpResponse last = ask(secret);
  EXPECT_EQ(last.status, 200);
  EXPECT_EQ(last.headers.find("x-ratelimit-limit-tokens"), "1500");
  EXPECT_EQ(last.headers.find("x-ratelimit-remaining-tokens"), "0");
  const wire::HttpResponse refused = ask(secret);
  EXPECT_EQ(refused.status, 429) << "what was used beyond the reservation is owed";
  EXPECT_TRUE(refused.headers.has("retry-after"));
}

// To count tokens makes none, and no model reads the prompt.
TEST_F(Gate, CountingTokensCostsARequestAndNothingElse) {
  ScriptedBackend& backend = add_backend([](const Received&) {
    return Script{.bytes = http_answer(200, "application/json", R"({"input_tokens":5000})")};
  });
  const std::string secret = make_key({.name = "n", .tenant = "t"});
  set_policy(
      "[tenants.default]\ntokens_per_minute = 500\nrequests_per_minute = 3\nbudget_per_day = 0.001\n[prices.m]\n"
      "input = 10\noutput = 10\n");
  start();
  const std::string body =
      R"({"model":"m","messages":[{"role":"user","content":")" + std::string(20'000, 'x') + R"("}]})";
  for (const char* path : {"/v1/messages/count_tokens", "/tokenize", "/detokenize"}) {
    const wire::HttpResponse counted = post(path, body, {{"Authorization", "Bearer " + secret}});
    EXPECT_EQ(counted.status, 200) << path << " " << counted.body;
    EXPECT_EQ(counted.headers.find("x-ratelimit-remaining-tokens"), "500") << path;
    EXPECT_EQ(counted.headers.find("x-tidemill-cost").value_or("0.00"), "0.00") << path;
  }
  EXPECT_EQ(post("/tokenize", body, {{"Authorization", "Bearer " + secret}}).status, 429);
  EXPECT_EQ(backend.received().size(), 3U);
}

// By a sum for each: their bytes are no text. Nobody shows a key here, so the limit is nobody's by name.
TEST_F(Gate, InlineImagesAreNotReservedAsText) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = answer}; });
  set_policy("[tenants.default]\ntokens_per_minute = 4000\n");
  start();
  const std::string data(1'000'000, 'A');
  const auto asked = [&](const std::string& content) {
    return R"({"model":"m","max_tokens":10,"max_output_tokens":10,"store":false,"MEMBER":[{"role":"user","content":[)" +
           content + "]}]}";
  };
  const auto send = [&](const std::string& path, const std::string& member, const std::string& content) {
    std::string body = asked(content);
    return post(path, body.replace(body.find("MEMBER"), 6, member));
  };
  const std::string chat = R"({"type":"image_url","image_url":{"url":"data:image/png;base64,)" + data + R"("}})";
  const wire::HttpResponse three = send("/v1/chat/completions", "messages", chat + "," + chat + "," + chat);
  EXPECT_EQ(three.status, 429) << "three images of 1,600 tokens";
  EXPECT_NE(three.body.find("the limit of this gateway is 4000 per minute"), std::string::npos) << three.body;
  EXPECT_EQ(send("/v1/chat/completions", "messages", R"({"type":"text","text":")" + data + "\"}").status, 429);
  EXPECT_EQ(backend.received().size(), 0U);
  EXPECT_EQ(send("/v1/chat/completions", "messages", chat).status, 200);
  EXPECT_EQ(
      send("/v1/responses", "input", R"({"type":"input_image","image_url":"data:image/png;base64,)" + data + "\"}")
          .status,
      200);
  EXPECT_EQ(send("/v1/messages", "messages",
                 R"({"type":"image","source":{"type":"base64","media_type":"image/png","data":")" + data + "\"}}")
                .status,
            200);
}

// Nothing that a body says gets more than one answer of 200 tokens out of 300.
TEST_F(Gate, NoMemberOfABodyGetsAroundALimit) {
  ScriptedBackend& backend = add_backend([](const Received&) {
    return Script{
        .bytes = http_answer(200, "application/json",
                             R"({"id":"x","usage":{"prompt_tokens":5,"completion_tokens":200,"input_tokens":5}})")};
  });
  set_policy(
      "[tenants.default]\ntokens_per_minute = 300\nbudget_per_day = 0.003\n[prices.m]\ninput = 1\noutput = 10\n");
  struct Case {
    std::string path;
    std::string members;
    size_t answers;
  };
  const std::string chat = "/v1/chat/completions";
  const std::vector<Case> cases = {
      {"/v1/messages", R"("max_tokens":200,"n":-100000)", 1},
      {"/v1/messages", R"("max_tokens":200,"max_completion_tokens":-1000000)", 1},
      {"/v1/responses", R"("store":false,"max_output_tokens":200,"n":-100000)", 1},
      {"/v1/responses", R"("store":false,"max_output_tokens":200,"n":0)", 1},
      {"/v1/responses", R"("store":false,"max_output_tokens":200,"max_tokens":-1000000000)", 1},
      {"/v1/responses", R"("store":false,"max_output_tokens":9223372036854775807)", 0},
      {chat, R"("max_tokens":200,"n":-1)", 1},
      {chat, R"("max_tokens":-1)", 0},
      {chat, R"("max_tokens":9223372036854775807)", 0},
      {chat, R"("max_tokens":4611686018427387904,"n":2)", 0},
      {chat, R"("max_tokens":9223372036854775807,"n":9223372036854775807)", 0},
      {"/v1/completions", R"("max_tokens":4611686018427387904,"n":2)", 0},
      {"/v1/completions", R"("max_tokens":200,"prompt":["a"])", 1},
      {"/v1/completions", R"("max_tokens":200,"prompt":["a","b"])", 0},
      {"/v1/completions", R"("max_tokens":200,"prompt":"a","best_of":2)", 0}};
  std::vector<std::string> secrets;
  for (size_t i = 0; i < cases.size(); ++i)
    secrets.push_back(make_key({.name = "n" + std::to_string(i), .tenant = "t" + std::to_string(i)}));
  start();
  for (size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(cases[i].path + " " + cases[i].members);
    const size_t before = backend.received().size();
    const std::string body = "{\"model\":\"m\"," + cases[i].members + "}";
    for (int k = 0; k < 4; ++k) {
      const wire::HttpResponse response = post(cases[i].path, body, {{"Authorization", "Bearer " + secrets[i]}});
      if (response.status != 200) {
        EXPECT_EQ(response.status, 429) << response.body;
      }
    }
    EXPECT_EQ(backend.received().size() - before, cases[i].answers);
  }
}

TEST_F(Gate, ARequestThatFailsCostsNothing) {
  std::atomic<bool> well = false;
  add_backend([&](const Received&) { return Script{.bytes = well ? answer : std::string()}; });
  const std::string secret = make_key({.name = "n", .tenant = "t"});
  set_policy("[tenants.default]\nrequests_per_minute = 1\n");
  options.retries = 0;
  start();
  EXPECT_EQ(ask(secret).status, 503);
  well = true;
  EXPECT_EQ(ask(secret).status, 200);
  EXPECT_EQ(ask(secret).status, 429);
}

TEST_F(Gate, CostsAreToldAndBudgetsKept) {
  add_backend([](const Received&) { return Script{.bytes = answer}; });
  const std::string secret = make_key({.name = "n", .tenant = "t"});
  // 1000 tokens in at 2 and 100 out at 10 a million: 0.003 a request.
  set_policy("[tenants.default]\nbudget_per_day = 0.005\n[prices.m]\ninput = 2\noutput = 10\n");
  start();
  EXPECT_EQ(ask(secret).headers.find("x-tidemill-cost"), "0.003");
  EXPECT_EQ(ask(secret).status, 200);
  const wire::HttpResponse poor = ask(secret);
  EXPECT_EQ(poor.status, 429);
  EXPECT_EQ(code_of(poor), "insufficient_quota");
}

// What the requests of one gateway cost, another that shares its store soon knows.
TEST_F(Gate, GatewaysShareBudgets) {
  add_backend([](const Received&) { return Script{.bytes = answer}; });
  const std::string secret = make_key({.name = "n", .tenant = "t"});
  // Enough for two requests of 0.003, while what the failed one reserved may still be known as held: 0.00102 each.
  set_policy("[tenants.default]\nbudget_per_day = 0.0055\n[prices.m]\ninput = 2\noutput = 10\n");
  options.session.path = (folder.path() / "store.db").string();
  start();
  const ScriptedBackend failing([](const Received&) { return Script{.bytes = ""}; });
  gateway::GatewayOptions others = options;
  others.backends = {{.url = failing.url(), .models = {"m"}}};
  others.retries = 0;
  const auto other = gateway::Gateway::start(others);
  ASSERT_TRUE(other) << other.error().to_string();
  const auto ask_other = [&] {
    wire::HttpClient client;
    const auto response = client.fetch({.method = "POST",
                                        .url = (*other)->url() + "/v1/chat/completions",
                                        .headers = {{"Authorization", "Bearer " + secret}},
                                        .body = question()});
    EXPECT_TRUE(response) << response.error().to_string();
    return response ? *response : wire::HttpResponse();
  };
  EXPECT_EQ(ask_other().status, 503) << "nothing is spent yet, and a request that fails costs nothing";
  ASSERT_EQ(ask(secret).status, 200);
  const wire::HttpResponse last = ask(secret);
  ASSERT_EQ(last.status, 200) << last.body;
  const auto until = std::chrono::steady_clock::now() + patience;
  wire::HttpResponse told = ask_other();
  for (; told.status == 503; told = ask_other())
    ASSERT_LT(std::chrono::steady_clock::now(), until);
  EXPECT_EQ(told.status, 429);
  EXPECT_EQ(code_of(told), "insufficient_quota");
}

// A stream's cost stands where its tokens do.
TEST_F(Gate, TheCostOfAStreamIsInItsUsage) {
  const std::string usage =
      R"("usage": {"prompt_tokens":1000,"completion_tokens":100,"prompt_tokens_details":{"cached_tokens":0}})";
  add_backend([&](const Received&) {
    return Script{
        .bytes = chunked_answer({R"(data: {"choices":[{"index":0,"delta":{"content":"\"usage\": {}"}}],"usage":null})"
                                 "\n\n",
                                 R"(data: {"choices":[],)" + usage + "}\n\n", "data: [DONE]\n\n"})};
  });
  const std::string secret = make_key({.name = "n", .tenant = "t"});
  set_policy("[prices.m]\ninput = 2\noutput = 10\n");
  start();
  const wire::HttpResponse response =
      ask(secret, R"({"model":"m","stream":true,"max_tokens":100,"messages":[{"role":"user","content":"hi"}]})");
  const std::string told = usage.substr(0, usage.size() - 1) + R"(,"cost":0.003})";
  EXPECT_NE(response.body.find(R"(data: {"choices":[],)" + told + "}\n\n"), std::string::npos) << response.body;
  EXPECT_NE(response.body.find(R"({"content":"\"usage\": {}"}}],"usage":null})"), std::string::npos) << response.body;
  EXPECT_EQ(response.body.find("cost"), response.body.rfind("cost"));
}

// One slot: while a request holds it, another waits, a third finds the queue full.
TEST_F(Gate, WhoComesTooEarlyWaitsOrIsTurnedAway) {
  ScriptedBackend& backend = add_backend([](const Received&) { return Script{.bytes = "", .end = Script::End::hang}; });
  options.slots = 1;
  options.max_queued = 1;
  options.longest_wait = std::chrono::hours(1);
  start();
  const std::string request = raw_post("/v1/chat/completions", question());
  RawClient first(gateway->port());
  ASSERT_TRUE(first.send(request));
  ASSERT_TRUE(backend.wait_for_requests(1));
  RawClient second(gateway->port());
  ASSERT_TRUE(second.send(request));
  while (metric("tidemill_gateway_requests_queued") != 1) {
  }
  const wire::HttpResponse third = post("/v1/chat/completions", question());
  EXPECT_EQ(third.status, 429);
  EXPECT_TRUE(third.headers.has("retry-after"));
  EXPECT_EQ(backend.received().size(), 1U);
  first.close();
  EXPECT_TRUE(backend.wait_for_requests(2));  // the second has its turn
  second.close();
  EXPECT_TRUE(backend.wait_for_hang_up(2));
}

TEST_F(Gate, WhatCannotBeReadIsSaid) {
  options.keys = "/nowhere/keys.json";
  set_policy("[tenants.default]\nrequests_per_minut = 2\n");
  const auto started = gateway::Gateway::start(options);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().param(), "gateway.policy");
  EXPECT_NE(started.error().to_string().find("requests_per_minute"), std::string::npos) << started.error().to_string();
}

}  // namespace
}  // namespace tidemill::test
