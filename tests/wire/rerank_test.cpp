#include "wire/rerank.hpp"

#include <limits>

#include <gtest/gtest.h>

#include "base/json.hpp"

namespace tidemill::wire {
namespace {

namespace json = base::json;

// The parameter that a body's error names, or "" and a failure.
std::string fault(std::string_view body, base::ErrorCode code = base::ErrorCode::invalid_argument) {
  const auto request = parse_rerank_request(body);
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
      R"({"model":"m","query":"q","documents":["a",{"text":"b","title":"t"}],"top_n":1,"return_documents":true})");
  ASSERT_TRUE(request) << request.error().to_string();
  EXPECT_EQ(request->model, "m");
  EXPECT_EQ(request->query, "q");
  EXPECT_EQ(request->documents, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request->top_n, 1U);
  EXPECT_TRUE(request->return_documents);
}

TEST(RerankRequest, WantsAllWhereNothingIsSaid) {
  for (const char* rest : {"", R"(,"top_n":0)", R"(,"top_n":9)", R"(,"top_n":null,"return_documents":null)"}) {
    const auto request = parse_rerank_request(std::string(R"({"query":"q","documents":["a","b","c"])") + rest + "}");
    ASSERT_TRUE(request) << rest << request.error().to_string();
    EXPECT_EQ(request->top_n, 3U) << rest;
    EXPECT_FALSE(request->return_documents);
    EXPECT_EQ(request->model, "");
  }
}

TEST(RerankRequest, NamesWhatIsWrong) {
  EXPECT_EQ(fault("[]"), "");
  EXPECT_EQ(fault(R"({"documents":["a"]})"), "query");
  EXPECT_EQ(fault(R"({"query":"","documents":["a"]})"), "query");
  EXPECT_EQ(fault(R"({"query":["a"],"documents":["a"]})"), "query");
  EXPECT_EQ(fault(R"({"query":"q"})"), "documents");
  EXPECT_EQ(fault(R"({"query":"q","documents":"a"})"), "documents");
  EXPECT_EQ(fault(R"({"query":"q","documents":[]})"), "documents");
  EXPECT_EQ(fault(R"({"query":"q","documents":["a",""]})"), "documents[1]");
  EXPECT_EQ(fault(R"({"query":"q","documents":["a",7]})"), "documents[1]");
  EXPECT_EQ(fault(R"({"query":"q","documents":[{"title":"a"}]})"), "documents[0].text");
  EXPECT_EQ(fault(R"({"query":"q","documents":["a"],"top_n":-1})"), "top_n");
  EXPECT_EQ(fault(R"({"query":"q","documents":["a"],"top_n":1.5})"), "top_n");
  EXPECT_EQ(fault(R"({"query":"q","documents":["a"],"return_documents":1})"), "return_documents");
  EXPECT_EQ(fault(R"({"query":"q","documents":["a"],"model":1})"), "model");
  for (const char* name : {"max_tokens_per_doc", "max_chunks_per_doc", "truncate_prompt_tokens"}) {
    EXPECT_EQ(fault(std::string(R"({"query":"q","documents":["a"],")") + name + "\":5}", base::ErrorCode::unsupported),
              name);
  }
  EXPECT_EQ(fault(R"({"query":"q","documents":["a"],"rank_fields":["title"]})", base::ErrorCode::unsupported),
            "rank_fields");
  std::string many = R"({"query":"q","documents":["a")";
  for (int i = 0; i < 2048; ++i)
    many += R"(,"a")";
  EXPECT_EQ(fault(many + "]}"), "documents");
}

TEST(RerankResponse, HasTheBestFirst) {
  RerankRequest request{.model = {}, .query = "q", .documents = {"a", "b", "c", "d"}, .top_n = 3};
  const std::vector<double> scores = {0.25, -0.5, 0.75, 0.25};
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

}  // namespace
}  // namespace tidemill::wire
