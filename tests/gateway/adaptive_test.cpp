// Routes that learn which model to ask.
#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>

#include <gtest/gtest.h>

#include "access/api_key.hpp"
#include "access/key_vault.hpp"
#include "base/json.hpp"
#include "gateway/fleet_fixture.hpp"
#include "rollout/decision_log.hpp"
#include "temporary_folder.hpp"

namespace tidemill::test {
namespace {

namespace json = base::json;

class Adaptive : public FleetFixture {
 protected:
  static inline const std::string question = R"({"model":"smart","messages":[{"role":"user","content":"hi"}]})";

  // Routes "smart" to the models "small" and "big", which cost 1 and 10 for a million tokens.
  void add_route() {
    for (const char* model : {"small", "big"}) {
      add_backend([this](const Received& request) { return say(request); },
                  std::string(R"({"data":[{"id":")") + model + R"("}]})");
    }
    options.routes.push_back({.model = "smart", .targets = {{.model = "small"}, {.model = "big"}}});
    gateway::AdaptiveSection& adaptive = options.routes.front().adaptive;
    adaptive.reference = "big";
    adaptive.explore = 0.1;
    adaptive.decision_log = (folder.path() / "decisions.jsonl").string();
    options.policy =
        folder.put("policy.toml", "[prices.small]\ninput = 1\noutput = 1\n[prices.big]\ninput = 10\noutput = 10\n")
            .string();
  }
  Script say(const Received& request) {
    if (says) return *says;
    const auto body = base::parse_json(request.body);
    const std::string text = body->at("model") == "small" ? small_says : "the tide comes in";
    return Script{.bytes = http_answer(200, "application/json",
                                       R"({"id":"chatcmpl-)" + std::to_string(++answers_) +
                                           R"(","choices":[{"message":{"content":")" + text +
                                           R"("}}],"usage":{"prompt_tokens":100,"completion_tokens":10}})")};
  }
  struct Asked {
    std::string target;
    std::string request_id;
    std::string response_id;
  };
  Asked ask() {
    const wire::HttpResponse response = post("/v1/chat/completions", question);
    EXPECT_EQ(response.status, 200) << response.body;
    const auto body = base::parse_json(response.body);
    return {.target = std::string(response.headers.find("x-tidemill-target").value_or("")),
            .request_id = std::string(response.headers.find("x-request-id").value_or("")),
            .response_id = std::string(body->at("id").as_string())};
  }
  wire::HttpResponse rate(const std::string& id, double score, wire::Headers headers = {}) {
    return post("/v1/feedback", R"({"id":")" + id + R"(","score":)" + std::to_string(score) + "}", std::move(headers));
  }
  json::value state() {
    const auto body = base::parse_json(get("/rollouts/smart").body);
    return body ? body->at("adaptive") : json::value();
  }

  TemporaryFolder folder;
  std::atomic<int> answers_ = 0;
  std::string small_says = "the tide comes in";
  std::optional<Script> says;  // in place of all that
};

TEST_F(Adaptive, LearnsFromFeedback) {
  add_route();
  start();
  std::map<std::string, int> late;
  for (int i = 0; i < 150; ++i) {
    const Asked asked = ask();
    const wire::HttpResponse rated =
        rate(i % 2 == 0 ? asked.request_id : asked.response_id, asked.target == "small" ? 1 : 0);
    ASSERT_EQ(rated.status, 200) << rated.body;
    if (i >= 100) ++late[asked.target];
  }
  EXPECT_GE(late["small"], 40);
  EXPECT_EQ(state().at("ratings"), 150);
  EXPECT_EQ(state().at("decisions"), 150);

  // What was logged is what policies are evaluated on: the choices, how likely they were, and what came of them.
  gateway->stop(std::chrono::seconds(5));
  std::stringstream text;
  text << std::ifstream(options.routes.front().adaptive.decision_log).rdbuf();
  const auto log = rollout::read_log(text.str(), {"small", "big"}, rollout::Trade());
  ASSERT_TRUE(log) << log.error().to_string();
  EXPECT_EQ(log->choices.size(), 150U);
  EXPECT_EQ(log->incomplete, 0);
  for (const rollout::LoggedChoice& choice : log->choices) {
    EXPECT_GE(choice.propensity, 0.05 - 1e-9);
    EXPECT_NEAR(choice.reward, choice.model == 0 ? 1 : 0, 0.05);
  }
}

TEST_F(Adaptive, AReloadOpensTheDecisionLogAnew) {
  add_route();
  start();
  const std::filesystem::path log = options.routes.front().adaptive.decision_log;
  const std::filesystem::path rotated = log.string() + ".1";
  const Asked first = ask();
  std::filesystem::rename(log, rotated);
  ASSERT_TRUE(gateway->reload(options));
  const Asked second = ask();
  gateway->stop(std::chrono::seconds(5));
  const auto holds = [](const std::filesystem::path& file, const std::string& id) {
    std::stringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str().find(id) != std::string::npos;
  };
  EXPECT_TRUE(holds(rotated, first.request_id));
  EXPECT_FALSE(holds(rotated, second.request_id));
  EXPECT_TRUE(holds(log, second.request_id));
}

// Not only once the gateway has done with the request: whoever has read an answer may rate it.
TEST_F(Adaptive, AStreamIsRatedAsSoonAsItsEndIsRead) {
  const std::string events =
      chunked_answer({"data: {\"id\":\"chatcmpl-s\",\"choices\":[{\"index\":0,\"delta\":"
                      "{\"content\":\"tide\"},\"finish_reason\":\"stop\"}]}\n\n",
                      "data: [DONE]\n\n"});
  // The last chunk, by which the stream is over, does not come.
  says = Script{.bytes = events.substr(0, events.size() - std::string("0\r\n\r\n").size()), .end = Script::End::hang};
  add_route();
  start();
  for (const std::string id : {"chatcmpl-s", "asked-s"}) {
    RawClient client(gateway->port());
    ASSERT_TRUE(client.send(raw_post("/v1/chat/completions",
                                     R"({"model":"smart","stream":true,"messages":[{"role":"user","content":"hi"}]})",
                                     "x-request-id: asked-s\r\n")));
    ASSERT_TRUE(client.read_through("[DONE]\n\n").ends_with("[DONE]\n\n"));
    const wire::HttpResponse rated = rate(id, 1);
    EXPECT_EQ(rated.status, 200) << rated.body;
  }
}

TEST_F(Adaptive, AWholeAnswerIsRatedAsSoonAsItIsRead) {
  // More than a connection holds, so that the gateway cannot have done with it.
  const std::string text(size_t{16} << 20, 'x');
  says = Script{.bytes = http_answer(200, "application/json",
                                     R"({"id":"chatcmpl-w","choices":[{"message":{"content":")" + text + R"("}}]})")};
  add_route();
  start();
  for (const std::string id : {"chatcmpl-w", "asked-w"}) {
    RawClient client(gateway->port(), 4096);
    ASSERT_TRUE(client.send(raw_post("/v1/chat/completions", question, "x-request-id: asked-w\r\n")));
    ASSERT_TRUE(client.read_through("chatcmpl-w").ends_with("chatcmpl-w"));
    const wire::HttpResponse rated = rate(id, 1);
    EXPECT_EQ(rated.status, 200) << rated.body;
  }
}

TEST_F(Adaptive, SaysWhatIsWrongWithFeedback) {
  add_route();
  start();
  const auto refused = [this](const std::string& body, int status, const std::string& param, const char* part) {
    const wire::HttpResponse response = post("/v1/feedback", body);
    EXPECT_EQ(response.status, status) << response.body;
    const auto parsed = base::parse_json(response.body);
    EXPECT_EQ(parsed->at("error").at("param"), param.empty() ? json::value(nullptr) : json::value(param));
    EXPECT_NE(response.body.find(part), std::string::npos) << response.body;
  };
  refused("", 400, "", "JSON object");
  refused("[1]", 400, "", "JSON object");
  refused(R"({"score":1})", 400, "id", "'id' must be");
  refused(R"({"id":7,"score":1})", 400, "id", "'id' must be");
  refused(R"({"id":"x"})", 400, "score", "from 0 (worthless) to 1");
  refused(R"({"id":"x","score":"good"})", 400, "score", "from 0");
  refused(R"({"id":"x","score":1.5})", 400, "score", "from 0");
  refused(R"({"id":"x","score":1})", 404, "id", "gateway.route.adaptive");
  const Asked asked = ask();
  EXPECT_EQ(rate(asked.response_id, 0.5).status, 200);
  refused(R"({"id":")" + asked.request_id + R"(","score":1})", 400, "id", "has been rated");
  // Answers that nobody chose a model for cannot be rated.
  const wire::HttpResponse direct =
      post("/v1/chat/completions", R"({"model":"big","messages":[]})", {{"x-request-id", "direct"}});
  EXPECT_EQ(direct.status, 200);
  EXPECT_EQ(rate("direct", 1).status, 404);
}

TEST_F(Adaptive, TenantsRateTheirOwnAnswers) {
  add_route();
  options.keys = (folder.path() / "keys.json").string();
  const auto make_key = [this](access::ApiKey wanted) {
    const auto made = access::make_key(std::move(wanted), base::SystemClock::instance().wall_now());
    EXPECT_TRUE(
        access::keys_in_file(options.keys)->update([&](std::vector<access::ApiKey>& keys) -> base::Result<void> {
          keys.push_back(made->key);
          return {};
        }));
    return wire::Headers{{"Authorization", "Bearer " + made->secret}};
  };
  const wire::Headers one = make_key({.name = "a", .tenant = "one"});
  const wire::Headers two = make_key({.name = "b", .tenant = "two"});
  const wire::Headers mute = make_key({.name = "c", .tenant = "one", .scopes = {"generate"}});
  start(make_key({.name = "d", .tenant = "ops", .scopes = {"admin"}}).begin()->second.substr(7));
  const wire::HttpResponse response = post("/v1/chat/completions", question, one);
  EXPECT_EQ(response.status, 200);
  const std::string id(*response.headers.find("x-request-id"));
  EXPECT_EQ(rate(id, 1, two).status, 404);
  EXPECT_EQ(rate(id, 1, mute).status, 403);
  EXPECT_EQ(rate(id, 1, one).status, 200);
  EXPECT_EQ(get("/rollouts").status, 401);
}

// A mirror compares answers with the reference's, so a route learns where nobody rates.
TEST_F(Adaptive, LearnsFromAgreementWithTheReference) {
  add_route();
  options.routes.front().adaptive.quality_floor = 0.8;  // so the small model is asked by the mirror alone
  options.routes.front().adaptive.explore = 0;
  options.routes.front().mirror = {.target = "reference", .share = "100%"};
  start();
  EXPECT_EQ(ask().target, "big");
  bool small = false;
  const auto until = std::chrono::steady_clock::now() + patience;
  while (!small && std::chrono::steady_clock::now() < until)
    small = ask().target == "small";
  EXPECT_TRUE(small) << "it answers as the reference does";
  EXPECT_GT(state().at("comparisons").to_number<int64_t>(), 0);
  EXPECT_EQ(state().at("ratings"), 0);
}

TEST_F(Adaptive, GatewaysLearnTogether) {
  add_route();
  options.session.path = (folder.path() / "sessions.db").string();
  options.routes.front().adaptive.decision_log.clear();
  start();
  const auto second = gateway::Gateway::start(options);
  ASSERT_TRUE(second);
  wire::HttpClient client;
  const auto rate_at_second = [&](const std::string& id) {
    const auto response = client.fetch({.method = "POST",
                                        .url = (*second)->url() + "/v1/feedback",
                                        .headers = {{"Content-Type", "application/json"}},
                                        .body = R"({"id":")" + id + R"(","score":1})"});
    return response ? response->status : 0;
  };
  const Asked asked = ask();
  // Its decision is on its way to the store.
  const auto until = std::chrono::steady_clock::now() + patience;
  int status = 404;
  while (status == 404 && std::chrono::steady_clock::now() < until)
    status = rate_at_second(asked.response_id);
  EXPECT_EQ(status, 200);
  EXPECT_EQ(rate_at_second(asked.request_id), 400);
  EXPECT_EQ(rate(asked.request_id, 1).status, 400) << "rated elsewhere";
  // What one has learned, the other hears.
  const auto ratings_at_first = [this] {
    double ratings = 0;
    const json::value own = state();
    for (const json::value& model : own.at("models").as_array())
      ratings += model.at("ratings").to_number<double>();
    return ratings;
  };
  while (ratings_at_first() < 1 && std::chrono::steady_clock::now() < until) {
  }
  EXPECT_EQ(ratings_at_first(), 1);
}

// Callers may use an x-request-id again: each answer is rated by its own id, and the latest one by that too.
TEST_F(Adaptive, AnswersUnderOneRequestIdAreRatedEach) {
  add_route();
  options.routes.front().adaptive.decision_log.clear();
  for (const bool shared : {false, true}) {
    SCOPED_TRACE(shared);
    if (shared) options.session.path = (folder.path() / "sessions.db").string();
    start();
    std::vector<std::string> ids;
    for (int i = 0; i < 3; ++i) {
      const wire::HttpResponse response = post("/v1/chat/completions", question, {{"x-request-id", "same"}});
      ids.emplace_back(base::parse_json(response.body)->at("id").as_string());
    }
    const auto until = std::chrono::steady_clock::now() + patience;
    for (const std::string& id : ids) {
      int status = 404;  // until the decision is in the store
      while (status == 404 && std::chrono::steady_clock::now() < until)
        status = rate(id, 1).status;
      EXPECT_EQ(status, 200) << id;
      EXPECT_EQ(rate(id, 1).status, 400) << id;
    }
    EXPECT_EQ(rate("same", 1).status, 400) << "it is the last one's, which has been rated";
    gateway.reset();
  }
}

TEST_F(Adaptive, CostsNeedPrices) {
  add_route();
  options.port = 0;
  options.policy = folder.put("policy.toml", "[prices.small]\ninput = 1\noutput = 1\n").string();
  const auto refused = gateway::Gateway::start(options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param(), "gateway.policy");
  EXPECT_NE(refused.error().message().find("[prices.\"big\"]"), std::string::npos) << refused.error().message();
  options.routes.front().adaptive.cost_weight = 0;
  EXPECT_TRUE(gateway::Gateway::start(options));
}

}  // namespace
}  // namespace tidemill::test
