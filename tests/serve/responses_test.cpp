// OpenAI's Responses API on a live server.
#include <string>

#include <gtest/gtest.h>

#include "live_server.hpp"
#include "response_request.hpp"

namespace tidemill {
namespace {

using test::asked;
using test::parse_object;
using test::json::object;

class Responses : public test::OnSharedServer<Responses> {
 protected:
  object create(std::string_view more) {
    const auto response = client_.post("/v1/responses", asked(more));
    EXPECT_EQ(response.status, 200) << response.body;
    return parse_object(response);
  }
};

std::string first_text(const object& response) {
  return std::string(response.at("output").at(0).at("content").at(0).at("text").as_string());
}

TEST_F(Responses, AnswerAsChatDoes) {
  const object response = create(R"("input":"import os\n")");
  EXPECT_EQ(response.at("object"), "response");
  EXPECT_EQ(response.at("status"), "incomplete");
  const object chat = parse_object(
      client_.post("/v1/chat/completions",
                   R"({"max_tokens":8,"temperature":0,"messages":[{"role":"user","content":"import os\n"}]})"));
  EXPECT_EQ(first_text(response), std::string_view(chat.at("choices").at(0).at("message").at("content").as_string()));
  EXPECT_EQ(response.at("usage").at("output_tokens"), 8);
  EXPECT_EQ(response.at("usage").at("input_tokens"), chat.at("usage").at("prompt_tokens"));
}

TEST_F(Responses, GoOnFromTheOneBefore) {
  const object first = create(R"("instructions":"# code\n","input":"import os\n")");
  const std::string id(first.at("id").as_string());
  const object second = create(R"("input":"import sys\n","previous_response_id":")" + id + R"(")");
  EXPECT_EQ(second.at("previous_response_id"), first.at("id"));
  // The same conversation in one request; instructions are not carried over.
  const std::string said = test::json::serialize(test::json::value(first_text(first)));
  const object whole = create(R"("store":false,"input":[{"role":"user","content":"import os\n"},
      {"role":"assistant","content":)" +
                              said + R"(},{"role":"user","content":"import sys\n"}])");
  EXPECT_EQ(first_text(second), first_text(whole));
  EXPECT_EQ(second.at("usage").at("input_tokens"), whole.at("usage").at("input_tokens"));
  const object third =
      create(R"("input":"x","previous_response_id":")" + std::string(second.at("id").as_string()) + R"(")");
  EXPECT_GT(third.at("usage").at("input_tokens").as_int64(), second.at("usage").at("input_tokens").as_int64());
}

TEST_F(Responses, AreKeptUntilDeleted) {
  const object first = create(R"("input":"import os\n")");
  const std::string path = "/v1/responses/" + std::string(first.at("id").as_string());
  EXPECT_EQ(parse_object(client_.get(path)), first);
  const object items = parse_object(client_.get(path + "/input_items"));
  ASSERT_EQ(items.at("data").as_array().size(), 1u);
  EXPECT_EQ(items.at("data").at(0).at("content").at(0).at("text"), "import os\n");
  EXPECT_EQ(items.at("has_more"), false);
  EXPECT_EQ(client_.get(path + "/input_items?limit=0").status, 400);
  EXPECT_EQ(client_.get(path + "/input_items?after=nothing").status, 400);
  for (const char* order : {"asc", "desc", ""})
    EXPECT_EQ(client_.get(path + "/input_items?order=" + order).status, 200);
  const auto disordered = client_.get(path + "/input_items?order=foo");
  EXPECT_EQ(disordered.status, 400);
  EXPECT_EQ(test::error_of(disordered).param, "order");
  const std::string item(first.at("output").at(0).at("id").as_string());
  const std::string reference = R"("input":[{"type":"item_reference","id":")" + item + R"("},
                                            {"role":"user","content":"x"}])";
  EXPECT_EQ(client_.post("/v1/responses", asked(reference)).status, 200);
  const object deleted = parse_object(client_.remove(path));
  EXPECT_EQ(deleted.at("deleted"), true);
  EXPECT_EQ(client_.remove(path).status, 404);
  EXPECT_EQ(client_.get(path).status, 404);
  EXPECT_EQ(client_.post("/v1/responses", asked(reference)).status, 400);
  const auto gone = client_.post("/v1/responses", asked(R"("input":"x","previous_response_id":")" +
                                                        std::string(first.at("id").as_string()) + R"(")"));
  EXPECT_EQ(gone.status, 400);
  EXPECT_EQ(test::error_of(gone).param, "previous_response_id");
}

TEST_F(Responses, AreNotKeptWhenToldSo) {
  const object first = create(R"("input":"x","store":false)");
  EXPECT_EQ(client_.get("/v1/responses/" + std::string(first.at("id").as_string())).status, 404);
}

TEST_F(Responses, AStreamIsKeptBeforeItEnds) {
  std::string id;
  std::string text;
  const auto events = client_.stream("/v1/responses", asked(R"("stream":true,"input":"import os\n")"));
  for (const std::string& event : events) {
    const object fields = parse_object(event);
    if (fields.at("type") == "response.output_text.delta") text += std::string_view(fields.at("delta").as_string());
  }
  const object last = parse_object(events.back());
  EXPECT_EQ(last.at("type"), "response.incomplete");
  EXPECT_EQ(first_text(last.at("response").as_object()), text);
  EXPECT_EQ(parse_object(client_.get("/v1/responses/" + std::string(last.at("response").at("id").as_string()))),
            last.at("response").as_object());
}

TEST_F(Responses, ErrorsNameTheParameter) {
  for (const auto& [more, param] : std::vector<std::pair<std::string, std::string>>{
           {R"("input":[])", "input"},
           {R"("input":"x","metadata":{"k":1})", "metadata.k"},
           {R"("input":"x","user":3)", "user"},
           {R"("input":"x","background":true)", "background"},
           {R"("input":"x","tools":[{"type":"web_search"}])", "tools[0].type"},
           {R"("input":[{"role":"user","content":[{"type":"input_image"}]}])", "input[0].content[0].type"},
           {R"("input":"x","previous_response_id":"resp_none")", "previous_response_id"}}) {
    const auto response = client_.post("/v1/responses", asked(more));
    EXPECT_EQ(response.status, 400) << response.body;
    EXPECT_EQ(test::error_of(response).param, param);
  }
}

TEST(ResponsesTenants, DoNotSeeEachOther) {
  auto options = test::small_options();
  options.api_keys = {"one", "two"};
  test::LiveServer live(options);
  test::Client client = live.client();
  const wire::Headers one{{"Authorization", "Bearer one"}};
  const wire::Headers two{{"Authorization", "Bearer two"}};
  const object first = parse_object(client.post("/v1/responses", asked(R"("input":"x")"), one));
  const std::string path = "/v1/responses/" + std::string(first.at("id").as_string());
  EXPECT_EQ(client.get(path, one).status, 200);
  EXPECT_EQ(client.get(path, two).status, 404);
  EXPECT_EQ(client.get(path).status, 401);
}

TEST(ResponsesStore, ThatIsNoneStopsTheStart) {
  auto options = test::small_options();
  options.session_store = "/no/such/folder/sessions.db";
  const auto server = serve::Server::start(options);
  ASSERT_FALSE(server);
  EXPECT_NE(server.error().message().find("/no/such/folder"), std::string::npos);
}

}  // namespace
}  // namespace tidemill
