#include "gateway/request_outline.hpp"

#include <gtest/gtest.h>

namespace tidemill::gateway {
namespace {

TEST(RequestOutline, ReadsWhatDecidesTheRoute) {
  const std::string body = R"({"model":"m\/1","stream":true,"messages":[{"role":"user","content":"\"}"}],"n":3,
    "max_completion_tokens": 17, "tools":[{}], "unknown":{"model":"other"} })";
  const auto outline = RequestOutline::read(body, "/v1/chat/completions");
  ASSERT_TRUE(outline) << outline.error().to_string();
  EXPECT_EQ(outline->model, "m/1");
  EXPECT_EQ(outline->model_value, R"("m\/1")");
  EXPECT_TRUE(outline->stream);
  EXPECT_EQ(outline->choices, 3);
  EXPECT_EQ(outline->max_tokens, 17);
  EXPECT_TRUE(outline->has_tools);
  EXPECT_EQ(outline->prompt, R"([{"role":"user","content":"\"}"}])");
  EXPECT_EQ(body[outline->closing_brace], '}');
  EXPECT_EQ(outline->closing_brace, body.size() - 1);
}

// Each dialect has its own words for how much may be made; what it does not have says nothing, since its backend does
// not obey it either.
TEST(RequestOutline, ReadsTheLimitsOfItsDialectAlone) {
  const auto read = [](std::string_view path, const std::string& members) {
    const auto outline = RequestOutline::read("{\"model\":\"m\"," + members + "}", path);
    EXPECT_TRUE(outline) << members;
    return outline ? outline->most_output(1024) : -1;
  };
  const std::string all = R"("n":-3,"max_tokens":-5,"max_completion_tokens":-5,"max_output_tokens":-5)";
  for (const char* path : {"/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses", "/v1/other"})
    EXPECT_EQ(read(path, all), 1024) << path;
  EXPECT_EQ(read("/v1/chat/completions", R"("max_tokens":200,"n":3,"max_output_tokens":1)"), 600);
  EXPECT_EQ(read("/v1/chat/completions", R"("max_tokens":200,"max_completion_tokens":7)"), 200);
  EXPECT_EQ(read("/v1/chat/completions", R"("max_completion_tokens":200,"max_tokens":7)"), 200);
  EXPECT_EQ(read("/v1/completions", R"("max_tokens":200,"n":2,"max_completion_tokens":9000)"), 400);
  EXPECT_EQ(read("/v1/messages", R"("max_tokens":200,"n":-100000)"), 200);
  EXPECT_EQ(read("/v1/messages", R"("max_tokens":200,"n":0)"), 200);
  EXPECT_EQ(read("/v1/messages", R"("max_tokens":200,"max_completion_tokens":-1000000)"), 200);
  EXPECT_EQ(read("/v1/messages", R"("max_tokens":200,"max_output_tokens":0)"), 200);
  EXPECT_EQ(read("/v1/responses", R"("max_output_tokens":200,"n":-100000,"max_tokens":-1000000000)"), 200);
  EXPECT_EQ(read("/v1/responses", R"("max_output_tokens":200,"max_tokens":0)"), 200);
  EXPECT_EQ(read("/v1/chat/completions", R"("max_tokens":0)"), 0);
  EXPECT_EQ(read("/v1/chat/completions", R"("max_tokens":200.0,"n":2.0)"), 400);
}

// Of a completion each prompt is gone on from by itself, and as often as the best is chosen among.
TEST(RequestOutline, CountsPromptsAndWhatIsChosenAmong) {
  const auto read = [](const std::string& members, std::string_view path = "/v1/completions") {
    const auto outline = RequestOutline::read("{\"model\":\"m\"," + members + "}", path);
    EXPECT_TRUE(outline) << members;
    return outline ? outline->most_output(10) : -1;
  };
  for (const char* one :
       {R"("prompt":"a, \"b\"")", R"("prompt":["a"])", R"("prompt":[1,2,3])", R"("prompt":[[1,2,3]])", R"("prompt":[])",
        R"("prompt":[ ])", R"("prompt":["a"})", R"("prompt":null)", R"("prompt":7)", R"("n":1)"})
    EXPECT_EQ(read(one), 10) << one;
  EXPECT_EQ(read(R"("prompt":["a","b, ]\"[","c"])"), 30);
  EXPECT_EQ(read(R"("prompt": [ [1,2] , [3] ])"), 20);
  EXPECT_EQ(read(R"("prompt":["a","b"],"max_tokens":100,"n":3)"), 600);
  EXPECT_EQ(read(R"("max_tokens":100,"n":3,"best_of":5,"prompt":["a","b"])"), 1000);
  EXPECT_EQ(read(R"("max_tokens":100,"n":3,"best_of":2)"), 300);
  EXPECT_EQ(read(R"("max_tokens":100,"best_of":-4)"), 100);
  // Other dialects have neither.
  EXPECT_EQ(read(R"("max_tokens":100,"best_of":5,"prompt":["a","b"],"messages":[])", "/v1/chat/completions"), 100);
  EXPECT_EQ(read(R"("max_tokens":100,"best_of":5,"messages":[])", "/v1/messages"), 100);
  constexpr int64_t most = 1'000'000'000'000;
  EXPECT_EQ(read(R"("max_tokens":400000000000,"prompt":["a","b","c"])"), most);
  EXPECT_EQ(read(R"("max_tokens":2,"best_of":1e300,"n":1e300,"prompt":["a","b"])"), most);
}

TEST(RequestOutline, LimitsDoNotOverflow) {
  constexpr int64_t most = 1'000'000'000'000;
  for (const char* members :
       {R"("max_tokens":9223372036854775807)", R"("max_tokens":4611686018427387904,"n":2)",
        R"("max_tokens":9223372036854775807,"n":9223372036854775807)", R"("max_tokens":2,"n":4611686018427387904)",
        R"("max_tokens":99999999999999999999)", R"("max_tokens":1e300,"n":1e300)"}) {
    const auto outline = RequestOutline::read(std::string("{") + members + "}", "/v1/chat/completions");
    ASSERT_TRUE(outline);
    EXPECT_EQ(outline->most_output(1024), most) << members;
  }
}

TEST(RequestOutline, Absent) {
  const auto outline = RequestOutline::read("{}");
  ASSERT_TRUE(outline);
  EXPECT_EQ(outline->model, "");
  EXPECT_FALSE(outline->stream);
  EXPECT_TRUE(outline->store);
  EXPECT_EQ(outline->choices, 1);
  EXPECT_FALSE(outline->has_tools);
}

TEST(RequestOutline, Responses) {
  const auto outline =
      RequestOutline::read(R"({"previous_response_id":"resp_1","store":false,"instructions":"be","input":"hi"})");
  ASSERT_TRUE(outline);
  EXPECT_EQ(outline->previous_response_id, "resp_1");
  EXPECT_FALSE(outline->store);
  EXPECT_EQ(outline->system, "\"be\"");
  EXPECT_EQ(outline->prompt, "\"hi\"");
}

// A member of another dialect's is no prompt.
TEST(RequestOutline, ThePromptIsTheDialectsOwn) {
  const std::string body = R"({"messages":[1],"input":"in","prompt":{"id":"p"}})";
  EXPECT_EQ(RequestOutline::read(body, "/v1/chat/completions")->prompt, "[1]");
  EXPECT_EQ(RequestOutline::read(body, "/v1/messages")->prompt, "[1]");
  EXPECT_EQ(RequestOutline::read(body, "/v1/completions")->prompt, R"({"id":"p"})");
  EXPECT_EQ(RequestOutline::read(body, "/v1/responses")->prompt, "\"in\"");
  for (const char* rest : {R"("prompt":null)", R"("messages":null)", R"("messages":[])"}) {
    const std::string good = std::string(R"({"input":"hi",)") + rest + "}";
    EXPECT_EQ(RequestOutline::read(good, "/v1/responses")->prompt, "\"hi\"") << rest;
  }
  EXPECT_EQ(RequestOutline::read(R"({"input":"a","prompt":null})", "/v1/embeddings")->prompt, "\"a\"");
  EXPECT_EQ(RequestOutline::read(R"({"input":null})", "/v1/responses")->prompt, "");
}

// What the gateway obeys in the backend's place, it refuses in its place as well.
TEST(RequestOutline, WhatKeepsAResponseIsOfItsType) {
  const auto refused = [](const std::string& member, const char* path) {
    const auto outline = RequestOutline::read("{" + member + R"(,"input":"x"})", path);
    return outline ? std::string() : outline.error().param() + ": " + outline.error().message();
  };
  for (const auto& [member, words] :
       {std::pair(R"("previous_response_id":42)",
                  "previous_response_id: 'previous_response_id' must be a string, not 42"),
        std::pair(R"("previous_response_id":{})",
                  "previous_response_id: 'previous_response_id' must be a string, not an object"),
        std::pair(R"("previous_response_id":[])",
                  "previous_response_id: 'previous_response_id' must be a string, not an array"),
        std::pair(R"("store":"false")", "store: 'store' must be a boolean, not \"false\""),
        std::pair(R"("store":0)", "store: 'store' must be a boolean, not 0")}) {
    EXPECT_EQ(refused(member, "/v1/responses"), words);
    EXPECT_EQ(refused(member, "/v1/chat/completions"), "") << "there it is the backend's";
  }
  for (const char* member : {R"("store":null)", R"("store":true)", R"("previous_response_id":null)",
                             R"("previous_response_id":"")", R"("previous_response_id":"resp_1")"})
    EXPECT_EQ(refused(member, "/v1/responses"), "") << member;
}

// A reranker reads the query with each document.
TEST(RequestOutline, CountsWhatIsRanked) {
  const std::string documents = R"(["a, b", {"text":"[c"}, "\"]d"])";
  const std::string body = R"({"query":"12345678","documents":)" + documents + "}";
  for (const char* path : {"/rerank", "/v1/rerank", "/v2/rerank"}) {
    const auto outline = RequestOutline::read(body, path);
    ASSERT_TRUE(outline) << outline.error().to_string();
    EXPECT_EQ(outline->ranked_bytes, documents.size() + 3 * 10) << path;
    EXPECT_EQ(outline->prompt_bytes(), outline->ranked_bytes);
  }
  EXPECT_EQ(RequestOutline::read(R"({"query":"1234","texts":["a","b"]})", "/rerank")->ranked_bytes, 9U + 2 * 6);
  EXPECT_EQ(RequestOutline::read(R"({"query":"1234","documents":7})", "/rerank")->ranked_bytes, 1U);
  EXPECT_FALSE(RequestOutline::read(R"({"documents":["a"],"documents":[]})", "/rerank"));
  // What these are elsewhere is not the gateway's business.
  const auto chat = RequestOutline::read(R"({"documents":["a"],"documents":[],"messages":[]})", "/v1/chat/completions");
  ASSERT_TRUE(chat);
  EXPECT_EQ(chat->ranked_bytes, 0U);
  EXPECT_EQ(chat->prompt_bytes(), 2U);
}

// A key's escapes hide nothing, and what stands twice is refused: the backend might obey the other one.
TEST(RequestOutline, CannotBeMisled) {
  EXPECT_EQ(RequestOutline::read(R"({"mod\u0065l":"a"})")->model, "a");
  for (const char* body :
       {R"({"model":"a","model":"b"})", R"({"model":"a","mod\u0065l":"b"})", R"({"stream":false,"stream":true})"}) {
    const auto outline = RequestOutline::read(body);
    ASSERT_FALSE(outline) << body;
    EXPECT_EQ(outline.error().code(), base::ErrorCode::invalid_argument);
  }
  const auto forged = RequestOutline::read(R"({"tidemill_resume":{}})");
  ASSERT_FALSE(forged);
  EXPECT_EQ(forged.error().param(), "tidemill_resume");
  EXPECT_FALSE(RequestOutline::read(R"({"tidemill\u005fresume":{}})"));
}

TEST(RequestOutline, NoObject) {
  for (const char* body : {"", "null", "[1]", "{\"model\":\"a\"", "{} {}"})
    EXPECT_FALSE(RequestOutline::read(body)) << body;
}

// Whoever sent it is told where to look.
TEST(RequestOutline, SaysWhereABodyBreaks) {
  const auto where = [](const char* body) {
    const auto outline = RequestOutline::read(body);
    EXPECT_FALSE(outline) << body;
    return outline ? "" : outline.error().message();
  };
  const std::string from = "the body must be one JSON object, and is none from ";
  EXPECT_EQ(where(""), "the request body is empty: send a JSON object");
  EXPECT_EQ(where("[1]"), from + "line 1, column 1 on (byte 0 of 3)");
  EXPECT_EQ(where("{\"model\":"), from + "line 1, column 10 on (byte 9 of 9)");
  EXPECT_EQ(where("{\n  'a': 1}"), from + "line 2, column 3 on (byte 4 of 11)");
  EXPECT_EQ(where("{\"a\": \"b\n\n"), from + "line 1, column 7 on (byte 6 of 10)");
  EXPECT_EQ(where("{}\n{}"), from + "line 2, column 1 on (byte 3 of 5)");
}

TEST(RequestOutline, Dialects) {
  EXPECT_EQ(dialect_of("/v1/chat/completions"), Dialect::chat);
  EXPECT_EQ(dialect_of("/v1/completions"), Dialect::completions);
  EXPECT_EQ(dialect_of("/v1/responses"), Dialect::responses);
  EXPECT_EQ(dialect_of("/v1/messages"), Dialect::messages);
  EXPECT_EQ(dialect_of("/v1/embeddings"), Dialect::other);
  EXPECT_TRUE(embeds("/v1/embeddings"));
  EXPECT_FALSE(ranks("/v1/embeddings"));
  EXPECT_FALSE(embeds("/v1/completions"));
  for (const char* path : {"/rerank", "/v1/rerank", "/v2/rerank"})
    EXPECT_TRUE(ranks(path) && embeds(path)) << path;
}

}  // namespace
}  // namespace tidemill::gateway
