// Reranking by embeddings: scores are the cosines of what /v1/embeddings gives.
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "live_server.hpp"

namespace tidemill {
namespace {

using test::parse_object;
using test::json::object;

class Rerank : public test::OnSharedServer<Rerank> {
 protected:
  // Of the embeddings of texts that have no quotes in them.
  double cosine(const std::string& a, const std::string& b) {
    const object answer = parse_object(client_.post("/v1/embeddings", R"({"input":[")" + a + R"(",")" + b + R"("]})"));
    const auto& left = answer.at("data").at(0).at("embedding").as_array();
    const auto& right = answer.at("data").at(1).at("embedding").as_array();
    double sum = 0;
    for (size_t i = 0; i < left.size(); ++i)
      sum += left[i].to_number<double>() * right[i].to_number<double>();
    return sum;
  }
};

TEST_F(Rerank, ScoresByCosineAndPutsTheBestFirst) {
  const std::vector<std::string> documents = {"class A: pass", "import os", "def f(x): return x", "import sys"};
  const std::string body =
      R"({"model":"nano-coder","query":"import os","documents":["class A: pass","import os",{"text":"def f(x): return x"},"import sys"])";
  const object answer = parse_object(client_.post("/v2/rerank", body + "}"));
  const auto& results = answer.at("results").as_array();
  ASSERT_EQ(results.size(), documents.size());
  EXPECT_EQ(results[0].at("index"), 1) << "the query itself";
  double before = 2;
  int64_t seen = 0;
  for (const auto& result : results) {
    const double score = result.at("relevance_score").to_number<double>();
    EXPECT_LE(score, before);
    before = score;
    const auto index = static_cast<size_t>(result.at("index").as_int64());
    seen |= int64_t{1} << index;
    EXPECT_NEAR(score, cosine("import os", documents[index]), 1e-5) << index;
    EXPECT_FALSE(result.as_object().contains("document"));
  }
  EXPECT_EQ(seen, 15);
  EXPECT_EQ(answer.at("model"), "nano-coder");
  EXPECT_TRUE(answer.at("id").as_string().starts_with("rerank-"));
  EXPECT_GT(answer.at("usage").at("total_tokens").as_int64(), 4);

  const object best = parse_object(client_.post("/v1/rerank", body + R"(,"top_n":2,"return_documents":true})"));
  ASSERT_EQ(best.at("results").as_array().size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    const auto& result = best.at("results").at(i);
    EXPECT_EQ(result.at("index"), results[i].at("index"));
    EXPECT_EQ(result.at("relevance_score"), results[i].at("relevance_score"));
    EXPECT_EQ(result.at("document").at("text").as_string(),
              documents[static_cast<size_t>(result.at("index").as_int64())]);
  }
  for (const char* path : {"/rerank", "/v1/rerank"}) {
    EXPECT_EQ(parse_object(client_.post(path, body + R"(,"return_documents":false})")).at("results"),
              answer.at("results"))
        << path;
    const object told = parse_object(client_.post(path, body + "}"));
    EXPECT_EQ(told.at("results").at(0).at("document").at("text"), "import os") << path << ": as Jina and vLLM";
  }
}

// Clients send limits at which others would cut, or that are defaults written out.
TEST_F(Rerank, RefusesDocumentsThatWouldBeCutAndNoOthers) {
  const std::string body =
      R"({"query":"import os","documents":["x","class A: pass  # with a comment, at some length"])";
  for (const char* rest :
       {R"(,"max_tokens_per_doc":4096})", R"(,"truncate_prompt_tokens":-1})", R"(,"truncate_prompt_tokens":4000})",
        R"(,"max_chunks_per_doc":1,"rank_fields":["text"]})"}) {
    const auto response = client_.post("/v1/rerank", body + rest);
    EXPECT_EQ(response.status, 200) << response.body;
  }
  for (const char* name : {"max_tokens_per_doc", "truncate_prompt_tokens"}) {
    const auto response = client_.post("/v1/rerank", body + ",\"" + name + "\":3}");
    EXPECT_EQ(response.status, 400) << response.body;
    EXPECT_EQ(test::error_of(response).param, "documents[1]") << response.body;
    EXPECT_NE(response.body.find(name), std::string::npos) << response.body;
  }
}

TEST_F(Rerank, NamesWhatIsWrong) {
  const std::string start = R"({"query":"q","documents":["a")";
  std::string words;
  for (int i = 0; i < 5000; ++i)
    words += "x ";
  for (const auto& [body, status, param] : std::vector<std::tuple<std::string, int, std::string>>{
           {R"({"documents":["a"]})", 400, "query"},
           {R"({"query":"q"})", 400, "documents"},
           {start + R"(,""]})", 400, "documents[1]"},
           {start + R"(],"model":"other"})", 404, "model"},
           {start + R"(],"max_tokens_per_doc":0})", 400, "max_tokens_per_doc"},
           {start + R"(,")" + words + R"("]})", 400, "documents[1]"},
           {R"({"query":")" + words + R"(","documents":["a"]})", 400, "query"}}) {
    const auto response = client_.post("/v1/rerank", body);
    EXPECT_EQ(response.status, status) << response.body;
    EXPECT_EQ(test::error_of(response).param, param) << response.body;
  }
  EXPECT_EQ(client_.get("/v1/rerank").status, 405);
}

TEST(RerankBatch, MayBeLargerThanTheQueue) {
  auto options = test::small_options();
  options.max_waiting = 2;
  options.max_running = 2;
  test::LiveServer live(options);
  std::string documents;
  for (int i = 0; i < 40; ++i)
    documents += (i == 0 ? "\"x = " : ",\"x = ") + std::to_string(i) + "\"";
  const auto response =
      live.client().post("/rerank", R"({"query":"x = 7","documents":[)" + documents + R"(],"top_n":1})");
  ASSERT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(parse_object(response).at("results").at(0).at("index"), 7);
}

}  // namespace
}  // namespace tidemill
