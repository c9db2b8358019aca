#include "wire/rerank.hpp"

#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.hpp"

namespace tidemill::wire {
namespace {

namespace json = base::json;

// The parameter that a body's error names, or "" and a failure.
std::string rerank_fault(std::string_view body, base::ErrorCode code = base::ErrorCode::invalid_argument) {
  const auto request = parse_rerank_request(body, false);
  if (request) {
    ADD_FAILURE() << body << " is accepted";
    return "";
  }
  EXPECT_EQ(request.error().code(), code) << request.error().to_string();
  EXPECT_FALSE(request.error().message().empty());
  return std::string(request.error().param());
}

TEST(RerankRequest, TakesDocumentsAsTextOrObjects) {
  const auto request = parse_rerank_request(
      R"({"model":"m","query":"q","documents":["a",{"text":"b","title":"t"}],"top_n":1,"return_documents":true})",
      false);
  ASSERT_TRUE(request) << request.error().to_string();
  EXPECT_EQ(request->model, "m");
  EXPECT_EQ(request->query, "q");
  EXPECT_EQ(request->documents, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request->top_n, 1U);
  EXPECT_TRUE(request->return_documents);
}

TEST(RerankRequest, WantsAllWhereNothingIsSaid) {
  for (const char* rest : {"", R"(,"top_n":0)", R"(,"top_n":9)", R"(,"top_n":null,"return_documents":null)"}) {
    const auto request =
        parse_rerank_request(std::string(R"({"query":"q","documents":["a","b","c"])") + rest + "}", false);
    ASSERT_TRUE(request) << rest << request.error().to_string();
    EXPECT_EQ(request->top_n, 3U) << rest;
    EXPECT_FALSE(request->return_documents);
    EXPECT_EQ(request->model, "");
  }
}

// Cohere's clients write its defaults out; vLLM's say that the model's own limit is meant.
TEST(RerankRequest, TakesLimitsAsLimits) {
  const std::string start = R"({"query":"q","documents":["a"])";
  const auto cohere = parse_rerank_request(
      start + R"(,"max_tokens_per_doc":4096,"max_chunks_per_doc":10,"rank_fields":["text"]})", false);
  ASSERT_TRUE(cohere) << cohere.error().to_string();
  EXPECT_EQ(cohere->max_document_tokens, 4096);
  EXPECT_EQ(cohere->max_prompt_tokens, std::nullopt);
  const auto vllm = parse_rerank_request(start + R"(,"truncate_prompt_tokens":100})", false);
  ASSERT_TRUE(vllm) << vllm.error().to_string();
  EXPECT_EQ(vllm->max_prompt_tokens, 100);
  const auto whole = parse_rerank_request(start + R"(,"truncate_prompt_tokens":-1,"rank_fields":[]})", false);
  ASSERT_TRUE(whole) << whole.error().to_string();
  EXPECT_EQ(whole->max_prompt_tokens, std::nullopt);
}

TEST(RerankRequest, ReturnsDocumentsWhereThePeersDo) {
  EXPECT_TRUE(returns_documents("/rerank"));
  EXPECT_TRUE(returns_documents("/v1/rerank"));
  EXPECT_FALSE(returns_documents("/v2/rerank"));
  for (const bool usual : {false, true}) {
    const std::string start = R"({"query":"q","documents":["a"])";
    EXPECT_EQ(parse_rerank_request(start + "}", usual)->return_documents, usual);
    EXPECT_TRUE(parse_rerank_request(start + R"(,"return_documents":true})", usual)->return_documents);
    EXPECT_FALSE(parse_rerank_request(start + R"(,"return_documents":false})", usual)->return_documents);
  }
}

TEST(RerankRequest, NamesWhatIsWrong) {
  EXPECT_EQ(rerank_fault("[]"), "");
  EXPECT_EQ(rerank_fault(R"({"documents":["a"]})"), "query");
  EXPECT_EQ(rerank_fault(R"({"query":"","documents":["a"]})"), "query");
  EXPECT_EQ(rerank_fault(R"({"query":["a"],"documents":["a"]})"), "query");
  EXPECT_EQ(rerank_fault(R"({"query":"q"})"), "documents");
  EXPECT_EQ(rerank_fault(R"({"query":"q","documents":"a"})"), "documents");
  EXPECT_EQ(rerank_fault(R"({"query":"q","documents":[]})"), "documents");
  EXPECT_EQ(rerank_fault(R"({"query":"q","documents":["a",""]})"), "documents[1]");
  EXPECT_EQ(rerank_fault(R"({"query":"q","documents":["a",7]})"), "documents[1]");
  EXPECT_EQ(rerank_fault(R"({"query":"q","documents":[{"title":"a"}]})"), "documents[0].text");
  EXPECT_EQ(rerank_fault(R"({"query":"q","documents":["a"],"top_n":-1})"), "top_n");
  EXPECT_EQ(rerank_fault(R"({"query":"q","documents":["a"],"top_n":1.5})"), "top_n");
  EXPECT_EQ(rerank_fault(R"({"query":"q","documents":["a"],"return_documents":1})"), "return_documents");
  EXPECT_EQ(rerank_fault(R"({"query":"q","documents":["a"],"model":1})"), "model");
  for (const char* name : {"max_tokens_per_doc", "max_chunks_per_doc", "truncate_prompt_tokens"}) {
    for (const char* value : {"0", "-2", "1.5", "\"5\""}) {
      EXPECT_EQ(rerank_fault(std::string(R"({"query":"q","documents":["a"],")") + name + "\":" + value + "}"), name)
          << value;
    }
  }
  EXPECT_EQ(rerank_fault(R"({"query":"q","documents":["a"],"rank_fields":["title"]})", base::ErrorCode::unsupported),
            "rank_fields");
  EXPECT_EQ(
      rerank_fault(R"({"query":"q","documents":["a"],"rank_fields":["text","title"]})", base::ErrorCode::unsupported),
      "rank_fields");
  EXPECT_EQ(rerank_fault(R"({"query":"q","documents":["a"],"rank_fields":"text"})"), "rank_fields");
  const auto of_others = parse_rerank_request(R"({"query":"q","texts":["a"]})", false);
  ASSERT_FALSE(of_others);
  EXPECT_NE(of_others.error().message().find("'texts'"), std::string::npos) << of_others.error().message();
  std::string many = R"({"query":"q","documents":["a")";
  for (int i = 0; i < 2048; ++i)
    many += R"(,"a")";
  EXPECT_EQ(rerank_fault(many + "]}"), "documents");
}

TEST(RerankResponse, HasTheBestFirst) {
  RerankRequest request{.model = {}, .query = "q", .documents = {"a", "b", "c", "d"}, .top_n = 3};
  const std::vector<Relevance> scores = {{0.25, 0.25}, {-0.5, -0.5}, {0.75, 0.75}, {0.25, 0.25}};
  EXPECT_EQ(*base::parse_json(rerank_response(request, scores, "rerank-1", "m", 12)),
            *base::parse_json(R"({"id":"rerank-1","model":"m","results":[
              {"index":2,"relevance_score":0.75},{"index":0,"relevance_score":0.25},{"index":3,"relevance_score":0.25}],
              "usage":{"prompt_tokens":12,"total_tokens":12}})"))
      << "of equal ones the first";
  request.top_n = 1;
  request.return_documents = true;
  EXPECT_EQ(base::parse_json(rerank_response(request, scores, "i", "m", 1))->at("results"),
            *base::parse_json(R"([{"index":2,"relevance_score":0.75,"document":{"text":"c"}}])"));
}

// Scores end at 1 where logits go on.
TEST(RerankResponse, KeepsTheOrderOfThoseWithTheSameScore) {
  const RerankRequest request{.model = {}, .query = "q", .documents = {"a", "b", "c"}, .top_n = 3};
  const std::vector<Relevance> scores = {{40, 1}, {38, 1}, {41, 1}};
  EXPECT_EQ(
      base::parse_json(rerank_response(request, scores, "i", "m", 1))->at("results"),
      *base::parse_json(
          R"([{"index":2,"relevance_score":1.0},{"index":0,"relevance_score":1.0},{"index":1,"relevance_score":1.0}])"));
}

}  // namespace
}  // namespace tidemill::wire
