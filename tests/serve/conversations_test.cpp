// OpenAI's Conversations API on a live server.
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "live_server.hpp"
#include "response_request.hpp"

namespace tidemill {
namespace {

using test::asked;
using test::parse_object;
using test::json::array;
using test::json::object;

std::string id_of(const object& thing) {
  return std::string(thing.at("id").as_string());
}

class Conversations : public test::OnSharedServer<Conversations> {
 protected:
  object done(const wire::HttpResponse& response) {
    EXPECT_EQ(response.status, 200) << response.body;
    return parse_object(response);
  }
  std::string create(std::string_view body = "{}") { return id_of(done(client_.post("/v1/conversations", body))); }
  std::string path(const std::string& id) { return "/v1/conversations/" + id; }
  wire::HttpResponse turn(const std::string& id, std::string_view more) {
    return client_.post("/v1/responses", asked(R"("conversation":")" + id + R"(",)" + std::string(more)));
  }
  // The oldest first.
  array items(const std::string& id) {
    return done(client_.get(path(id) + "/items?order=asc&limit=100")).at("data").as_array();
  }
};

TEST_F(Conversations, AreMadeReadChangedAndDeleted) {
  const object made = done(client_.post(
      "/v1/conversations", R"({"items":[{"role":"user","content":"import os\n"}],"metadata":{"topic":"a"}})"));
  const std::string id = id_of(made);
  EXPECT_EQ(made.at("object"), "conversation");
  EXPECT_EQ(made.at("metadata").at("topic"), "a");
  EXPECT_GT(made.at("created_at").as_int64(), 1'700'000'000);
  EXPECT_EQ(done(client_.get(path(id))), made);
  EXPECT_EQ(done(client_.post(path(id), R"({"metadata":{"topic":"b"}})")).at("metadata").at("topic"), "b");
  const object added = done(client_.post(path(id) + "/items", R"({"items":[{"role":"user","content":"x"}]})"));
  const std::string item(added.at("first_id").as_string());
  EXPECT_EQ(items(id).size(), 2u);
  EXPECT_EQ(id_of(done(client_.get(path(id) + "/items/" + item))), item);
  EXPECT_EQ(id_of(done(client_.remove(path(id) + "/items/" + item))), id);
  EXPECT_EQ(client_.get(path(id) + "/items/" + item).status, 404);
  EXPECT_EQ(done(client_.remove(path(id))).at("object"), "conversation.deleted");
  for (const auto& gone : {client_.get(path(id)), client_.remove(path(id)), client_.get(path(id) + "/items"),
                           client_.post(path(id), R"({"metadata":null})"), turn(id, R"("input":"x")")}) {
    EXPECT_EQ(gone.status, 404) << gone.body;
    EXPECT_EQ(test::error_of(gone).param, "conversation");
    EXPECT_EQ(test::error_of(gone).code, "not_found");
  }
}

TEST_F(Conversations, GoOnFromTurnToTurn) {
  const std::string id = create(R"({"items":[{"role":"user","content":"import os\n"}]})");
  const object first = done(turn(id, R"("input":"import sys\n")"));
  EXPECT_EQ(id_of(first.at("conversation").as_object()), id);
  const array kept = items(id);
  ASSERT_EQ(kept.size(), 3u);
  EXPECT_EQ(kept[1].at("content").at(0).at("text"), "import sys\n");
  EXPECT_EQ(kept[2], first.at("output").at(0));
  // The same in one request.
  array whole = kept;
  whole.push_back(object{{"role", "user"}, {"content", "x = "}});
  const object alone =
      done(client_.post("/v1/responses", asked(R"("store":false,"input":)" + test::json::serialize(whole))));
  EXPECT_FALSE(alone.contains("conversation"));
  const object second =
      done(client_.post("/v1/responses", asked(R"("conversation":{"id":")" + id + R"("},"input":"x = ")")));
  EXPECT_EQ(second.at("output").at(0).at("content"), alone.at("output").at(0).at("content"));
  EXPECT_EQ(second.at("usage").at("input_tokens"), alone.at("usage").at("input_tokens"));
  EXPECT_EQ(items(id).size(), 5u);
  // Each is kept by itself, too, and is no part of the conversation.
  const std::string response = "/v1/responses/" + id_of(second);
  EXPECT_EQ(done(client_.get(response)), second);
  EXPECT_EQ(done(client_.get(response + "/input_items")).at("data").as_array().size(), 4u);
  EXPECT_EQ(done(client_.remove(response)).at("deleted"), true);
  EXPECT_EQ(items(id).size(), 5u);
}

TEST_F(Conversations, AStreamIsAppendedBeforeItEnds) {
  const std::string id = create();
  const auto events =
      client_.stream("/v1/responses", asked(R"("stream":true,"input":"import os\n","conversation":")" + id + R"(")"),
                     [&](const std::string& event) {
                       const object fields = parse_object(event);
                       if (fields.at("type") == "response.created") {
                         EXPECT_EQ(fields.at("response").at("conversation").at("id"), test::json::value(id));
                       }
                       return true;
                     });
  const object last = parse_object(events.back());
  EXPECT_EQ(last.at("type"), "response.incomplete");
  const array kept = items(id);
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_EQ(kept[1], last.at("response").at("output").at(0));
}

TEST_F(Conversations, HoldTurnsThatAreNotKeptByThemselves) {
  const std::string id = create();
  const object response = done(turn(id, R"("input":"import os\n","store":false)"));
  EXPECT_EQ(client_.get("/v1/responses/" + id_of(response)).status, 404);
  EXPECT_EQ(items(id).size(), 2u);
}

TEST_F(Conversations, KnowTheirItemsByReference) {
  const std::string id = create(R"({"items":[{"id":"mine","role":"user","content":"import os\n"}]})");
  const auto doubled = turn(id, R"("input":[{"id":"mine","role":"user","content":"import os\n"}])");
  EXPECT_EQ(doubled.status, 400);
  EXPECT_EQ(test::error_of(doubled).param, "input[0].id");
  done(turn(id, R"("input":[{"type":"item_reference","id":"mine"},{"role":"user","content":"x"}])"));
  EXPECT_EQ(items(id).size(), 3u);
}

TEST_F(Conversations, KeepWhatATurnLeavesOut) {
  std::string body = R"({"items":[)";
  for (int i = 0; i < 20; ++i)
    body += (i == 0 ? "" : ",") + std::string(R"({"role":"user","content":")") + std::string(2'000, 'x') + "\"}";
  body += "]}";
  const std::string id = create(body);
  // As much as no context of the model has room for.
  for (int i = 0; i < 9; ++i)
    done(client_.post(path(id) + "/items", body));
  EXPECT_EQ(turn(id, R"("input":"import os\n")").status, 400);
  EXPECT_EQ(done(client_.get(path(id) + "/items?limit=100")).at("has_more"), true);
  const object response = done(turn(id, R"("input":"import os\n","truncation":"auto")"));
  EXPECT_GT(response.at("dropped_turns").as_int64(), 0);
  const object latest = done(client_.get(path(id) + "/items?limit=2"));
  EXPECT_EQ(latest.at("data").at(0), response.at("output").at(0));
  EXPECT_EQ(latest.at("data").at(1).at("content").at(0).at("text"), "import os\n");
  const std::string oldest(done(client_.get(path(id) + "/items?order=asc&limit=1")).at("first_id").as_string());
  EXPECT_EQ(client_.get(path(id) + "/items/" + oldest).status, 200);
}

// What overlaps does not see each other, and all of it is kept.
TEST_F(Conversations, LoseNothingOfTurnsAtTheSameTime) {
  const std::string id = create();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      test::Client client = live_->client();
      const auto response =
          client.post("/v1/responses", asked(R"("input":"import os\n","conversation":")" + id + R"(")"));
      EXPECT_EQ(response.status, 200) << response.body;
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  const array kept = items(id);
  ASSERT_EQ(kept.size(), 8u);
  for (size_t i = 0; i < kept.size(); i += 2) {
    EXPECT_EQ(kept[i].at("role"), "user");
    EXPECT_EQ(kept[i + 1].at("role"), "assistant");
  }
}

TEST_F(Conversations, ErrorsNameTheParameter) {
  const std::string id = create();
  for (const auto& [more, param] : std::vector<std::pair<std::string, std::string>>{
           {R"("conversation":5)", "conversation"},
           {R"("conversation":{"name":"x"})", "conversation.id"},
           {R"("conversation":")" + id + R"(","previous_response_id":"resp_1")", "conversation"}}) {
    const auto response = client_.post("/v1/responses", asked(R"("input":"x",)" + more));
    EXPECT_EQ(response.status, 400) << response.body;
    EXPECT_EQ(test::error_of(response).param, param);
  }
  for (const auto& [body, param] : std::vector<std::pair<std::string, std::string>>{
           {R"({"items":[{"role":"king","content":"x"}]})", "items[0].role"},
           {R"({"items":[{"type":"computer_call"}]})", "items[0].type"},
           {R"({"metadata":{"k":1}})", "metadata.k"}}) {
    const auto response = client_.post("/v1/conversations", body);
    EXPECT_EQ(response.status, 400) << response.body;
    EXPECT_EQ(test::error_of(response).param, param);
  }
  EXPECT_EQ(test::error_of(client_.post(path(id), "{}")).param, "metadata");
  EXPECT_EQ(test::error_of(client_.post(path(id) + "/items", "{}")).param, "items");
  EXPECT_EQ(test::error_of(client_.get(path(id) + "/items?limit=101")).param, "limit");
  EXPECT_EQ(client_.get("/v1/conversations").status, 405);
  EXPECT_EQ(client_.get(path(id) + "/turns").status, 404);
}

TEST(ConversationTenants, DoNotSeeEachOther) {
  auto options = test::small_options();
  options.api_keys = {"one", "two"};
  test::LiveServer live(options);
  test::Client client = live.client();
  const wire::Headers one{{"Authorization", "Bearer one"}};
  const wire::Headers two{{"Authorization", "Bearer two"}};
  const std::string id = id_of(parse_object(client.post("/v1/conversations", "{}", one)));
  const std::string path = "/v1/conversations/" + id;
  EXPECT_EQ(client.get(path, one).status, 200);
  EXPECT_EQ(client.get(path, two).status, 404);
  EXPECT_EQ(client.remove(path, two).status, 404);
  EXPECT_EQ(client.post(path, R"({"metadata":null})", two).status, 404);
  EXPECT_EQ(client.post("/v1/responses", asked(R"("input":"x","conversation":")" + id + R"(")"), two).status, 404);
  EXPECT_EQ(client.get(path).status, 401);
  EXPECT_EQ(client.post("/v1/conversations", "{}").status, 401);
}

}  // namespace
}  // namespace tidemill
