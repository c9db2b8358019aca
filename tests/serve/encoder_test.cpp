// A server with an encoder: embeddings, and a clear word to whoever wants more.
#include <cmath>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "live_server.hpp"
#include "model/load.hpp"
#include "model/synth.hpp"
#include "model/vocabulary.hpp"
#include "temporary_folder.hpp"
#include "tensor/cpu_device.hpp"

namespace tidemill {
namespace {

using test::parse_object;
using test::json::object;

std::vector<float> floats(const test::json::value& array) {
  std::vector<float> values;
  for (const auto& value : array.as_array())
    values.push_back(static_cast<float>(value.to_number<double>()));
  return values;
}

void expect_texts_without_tokens_refused(test::Client& client) {
  for (const auto& [body, param] : {std::pair{R"({"query":"the","documents":["cat"," "]})", "documents[1]"},
                                    std::pair{R"({"query":"the","documents":["\u200b"]})", "documents[0]"},
                                    std::pair{R"({"query":" \n","documents":["cat"]})", "query"}}) {
    const auto response = client.post("/v1/rerank", body);
    EXPECT_EQ(response.status, 400) << response.body;
    EXPECT_EQ(test::error_of(response).param, param);
    EXPECT_NE(response.body.find("nothing to rank"), std::string::npos) << response.body;
  }
}

struct TinyEncoder {
  static constexpr const char* shape = "bert-tiny";
  static constexpr const char* name = "tiny-bert.gguf";
  static constexpr uint64_t seed = 5;
};
struct TinyReranker {
  static constexpr const char* shape = "rerank-tiny";
  static constexpr const char* name = "tiny-reranker.gguf";
  static constexpr uint64_t seed = 6;
};

// Its model is random weights in a tiny shape.
template <typename Tiny>
class TinyServer : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<test::TemporaryFolder>();
    const auto written =
        model::write_synthetic_model(model::find_shape(Tiny::shape).value(), path(),
                                     {.type = tensor::DType::q8_0, .seed = Tiny::seed, .on_progress = {}});
    ASSERT_TRUE(written) << written.error().to_string();
    serve::ServeOptions options = test::small_options();
    options.model_path = path().string();
    live_ = std::make_unique<test::LiveServer>(options);
  }
  static void TearDownTestSuite() {
    live_.reset();
    folder_.reset();
  }

  static std::filesystem::path path() { return folder_->path() / Tiny::name; }

  inline static std::unique_ptr<test::TemporaryFolder> folder_;
  inline static std::unique_ptr<test::LiveServer> live_;
  test::Client client_ = live_->client();
};

class EncoderServer : public TinyServer<TinyEncoder> {
 protected:
  // The first row's hidden state of "[CLS] text [SEP]", at unit length, from the model without a server.
  static std::vector<float> embedding_of(std::string_view text) {
    const model::Checkpoint file = model::Checkpoint::open(path()).value();
    const auto tokenizer = text::Tokenizer::create(model::read_vocabulary(file).value()).value();
    const auto device = tensor::make_cpu_device(tensor::choose_isa().value(), 1);
    const auto encoder = model::load_encoder(file, *device, {.max_batch_rows = 64, .on_progress = {}}).value();
    const auto tokens = tokenizer->encode(text).value();
    const std::vector<int32_t> types(tokens.size(), 0);
    const std::vector<int32_t> begins = {0, static_cast<int32_t>(tokens.size())};
    const tensor::ConstMatrix hidden = encoder->encode({tokens, types, begins});
    double squares = 0;
    for (int64_t i = 0; i < hidden.cols; ++i)
      squares += static_cast<double>(hidden.row(0)[i]) * hidden.row(0)[i];
    std::vector<float> unit;
    for (int64_t i = 0; i < hidden.cols; ++i)
      unit.push_back(static_cast<float>(hidden.row(0)[i] / std::sqrt(squares)));
    return unit;
  }

  static void expect_near(const std::vector<float>& got, const std::vector<float>& expected) {
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], expected[i], 1e-6) << i;
  }
};

TEST_F(EncoderServer, EmbedsWithTheModelsOwnPooling) {
  EXPECT_EQ(client_.post("/v1/embeddings", R"({"input":["The cat",""]})").status, 400);
  const object both = parse_object(client_.post("/v1/embeddings", R"({"input":["The cat","of all things"]})"));
  ASSERT_EQ(both.at("data").as_array().size(), 2U);
  expect_near(floats(both.at("data").at(0).at("embedding")), embedding_of("The cat"));
  expect_near(floats(both.at("data").at(1).at("embedding")), embedding_of("of all things"));
  EXPECT_EQ(both.at("usage").at("prompt_tokens").as_int64(), (2 + 1 + 3) + (2 + 1 + 1 + 6))
      << "[CLS], [SEP], words that are pieces, and letters";

  const object alone = parse_object(client_.post("/v1/embeddings", R"({"input":"THE  cat"})"));
  EXPECT_EQ(alone.at("data").at(0).at("embedding"), both.at("data").at(0).at("embedding"))
      << "neither case nor neighbours matter";
}

TEST_F(EncoderServer, TakesMoreTextsThanOneCall) {
  std::string inputs;
  for (int i = 0; i < 200; ++i)
    inputs += (i == 0 ? "\"x " : ",\"x ") + std::to_string(i % 7) + "\"";
  const auto response = client_.post("/v1/embeddings", R"({"input":[)" + inputs + "]}");
  ASSERT_EQ(response.status, 200) << response.body;
  const object answer = parse_object(response);
  ASSERT_EQ(answer.at("data").as_array().size(), 200U);
  for (size_t i = 7; i < 200; ++i)
    ASSERT_EQ(answer.at("data").at(i).at("embedding"), answer.at("data").at(i % 7).at("embedding")) << i;
}

TEST_F(EncoderServer, Reranks) {
  const object answer = parse_object(
      client_.post("/rerank", R"({"query":"the cat","documents":["of all things","THE CAT","one"],"top_n":2})"));
  ASSERT_EQ(answer.at("results").as_array().size(), 2U);
  EXPECT_EQ(answer.at("results").at(0).at("index"), 1);
  EXPECT_NEAR(answer.at("results").at(0).at("relevance_score").to_number<double>(), 1, 1e-6);
  expect_texts_without_tokens_refused(client_);
}

TEST_F(EncoderServer, SaysThatItGeneratesNothing) {
  for (const auto& [path, body] :
       {std::pair{"/v1/chat/completions", R"({"messages":[{"role":"user","content":"hi"}]})"},
        std::pair{"/v1/completions", R"({"prompt":"hi"})"},
        std::pair{"/v1/completions", R"({"prompt":"hi","max_tokens":0,"echo":true})"},
        std::pair{"/v1/responses", R"({"input":"hi"})"},
        std::pair{"/v1/messages", R"({"max_tokens":4,"messages":[{"role":"user","content":"hi"}]})"}}) {
    const auto response = client_.post(path, body);
    EXPECT_EQ(response.status, 400) << path << ": " << response.body;
    EXPECT_NE(response.body.find("generates no text"), std::string::npos) << path << ": " << response.body;
  }
}

TEST_F(EncoderServer, TellsHowLongATextIsThatDoesNotFit) {
  std::string text;
  for (int i = 0; i < 3000; ++i)
    text += "the ";
  const auto response = client_.post("/v1/embeddings", R"({"input":")" + text + R"("})");
  EXPECT_EQ(response.status, 400) << response.body;
  EXPECT_NE(response.body.find("3002"), std::string::npos) << response.body;
  EXPECT_NE(response.body.find("2048"), std::string::npos) << response.body;
  EXPECT_EQ(test::error_of(response).param, "input");
}

// Of a text that is millions of bytes too long no piece is spelt.
TEST_F(EncoderServer, TellsHowLongATextIsAtLeast) {
  std::string text;
  while (text.size() <= size_t{4} << 20)
    text += std::string(100, 'x') + " ";
  for (const auto& [path, body, param] :
       {std::tuple{"/v1/embeddings", R"({"input":[")" + text + R"("]})", "input"},
        std::tuple{"/rerank", R"({"query":"x","documents":["y",")" + text + R"("]})", "documents[1]"}}) {
    const auto response = client_.post(path, body);
    EXPECT_EQ(response.status, 400) << response.body;
    EXPECT_NE(response.body.find("at least 2049"), std::string::npos) << response.body;
    EXPECT_EQ(test::error_of(response).param, param);
  }
}

TEST_F(EncoderServer, TheOtherEndpointsKnowIt) {
  const object tokens = parse_object(client_.post("/tokenize", R"({"prompt":"The cat"})"));
  EXPECT_EQ(tokens.at("count"), 6);
  EXPECT_EQ(tokens.at("max_model_len"), 2048);
  const std::string ids = base::json::serialize(tokens.at("tokens"));
  EXPECT_EQ(parse_object(client_.post("/detokenize", R"({"tokens":)" + ids + "}")).at("prompt"), "[CLS]the cat[SEP]");
  EXPECT_EQ(parse_object(client_.get("/v1/models")).at("data").at(0).at("id"), "tiny-bert");
  EXPECT_EQ(client_.get("/ready").status, 200);
  EXPECT_EQ(client_.get("/metrics").status, 200);
}

class RerankerServer : public TinyServer<TinyReranker> {
 protected:
  // Of "[CLS] query [SEP] document [SEP]", from the model without a server.
  static double relevance(std::string_view query, std::string_view document) {
    const model::Checkpoint file = model::Checkpoint::open(path()).value();
    const auto tokenizer = text::Tokenizer::create(model::read_vocabulary(file).value()).value();
    const auto device = tensor::make_cpu_device(tensor::choose_isa().value(), 1);
    const auto encoder = model::load_encoder(file, *device, {.max_batch_rows = 64, .on_progress = {}}).value();
    auto tokens = tokenizer->encode(query).value();
    std::vector<int32_t> types(tokens.size(), 0);
    for (const text::Token token : tokenizer->encode(document, {.add_special = false}).value())
      tokens.push_back(token);
    tokens.push_back(102);
    types.resize(tokens.size(), 1);
    const std::vector<int32_t> begins = {0, static_cast<int32_t>(tokens.size())};
    encoder->encode({tokens, types, begins});
    const std::vector<int32_t> first = {0};
    return 1 / (1 + std::exp(-static_cast<double>(*encoder->score(first).row(0))));
  }
};

TEST_F(RerankerServer, ScoresEachDocumentWithTheQuery) {
  const std::vector<std::string> documents = {"of all things", "The cat", "one two three", "is [SEP] not"};
  const object answer = parse_object(client_.post(
      "/v1/rerank", R"({"query":"the cat","documents":["of all things","The cat","one two three","is [SEP] not"]})"));
  const auto& results = answer.at("results").as_array();
  ASSERT_EQ(results.size(), documents.size());
  double before = 1;
  for (const auto& result : results) {
    const double score = result.at("relevance_score").to_number<double>();
    EXPECT_LE(score, before);
    EXPECT_GE(score, 0);
    before = score;
    EXPECT_NEAR(score, relevance("the cat", documents[static_cast<size_t>(result.at("index").as_int64())]), 1e-6);
  }
  const object alone = parse_object(client_.post("/v1/rerank", R"({"query":"the cat","documents":["one two three"]})"));
  for (const auto& result : results) {
    if (result.at("index") == 2) {
      EXPECT_EQ(result.at("relevance_score"), alone.at("results").at(0).at("relevance_score"));
    }
  }
  // [CLS], the, c, a, t, [SEP], and "one", "t", "w", "o", "three" in letters, [SEP].
  EXPECT_EQ(alone.at("usage").at("prompt_tokens"), 6 + 1 + 3 + 5 + 1);
}

TEST_F(RerankerServer, DoesNothingElse) {
  const auto embeds = client_.post("/v1/embeddings", R"({"input":"hi"})");
  EXPECT_EQ(embeds.status, 400);
  EXPECT_NE(embeds.body.find("makes no embeddings"), std::string::npos) << embeds.body;
  const auto generates = client_.post("/v1/completions", R"({"prompt":"hi"})");
  EXPECT_EQ(generates.status, 400);
  EXPECT_NE(generates.body.find("generates no text"), std::string::npos) << generates.body;
  std::string words;
  for (int i = 0; i < 2042; ++i)
    words += "the ";
  // With [CLS] hi [SEP] in front and [SEP] behind: "hi" are two pieces.
  const std::string fits = R"({"query":"hi","documents":["x",")" + words;
  EXPECT_EQ(client_.post("/v1/rerank", fits + R"(a"]})").status, 200);
  const auto longer = client_.post("/v1/rerank", fits + R"(a a"]})");
  EXPECT_EQ(longer.status, 400);
  EXPECT_EQ(test::error_of(longer).param, "documents[1]");
  EXPECT_NE(longer.body.find("2049"), std::string::npos) << longer.body;
  const auto question = client_.post("/v1/rerank", R"({"query":")" + words + R"(a b c d e","documents":["x"]})");
  EXPECT_EQ(question.status, 400);
  EXPECT_EQ(test::error_of(question).param, "query") << question.body;
  // [CLS], 2042 + 2 words, [SEP]: room for one token and [SEP].
  EXPECT_EQ(client_.post("/v1/rerank", R"({"query":")" + words + R"(a b","documents":["x"]})").status, 200);
}

TEST_F(RerankerServer, RefusesDocumentsThatWouldBeCut) {
  // One token, and "two" in letters; with [CLS] the [SEP] in front and [SEP] behind.
  const std::string body = R"({"query":"the","documents":["one","two"],)";
  for (const auto& [limit, status] :
       {std::pair{R"("max_tokens_per_doc":3})", 200}, std::pair{R"("max_tokens_per_doc":2})", 400},
        std::pair{R"("truncate_prompt_tokens":7})", 200}, std::pair{R"("truncate_prompt_tokens":6})", 400}}) {
    const auto response = client_.post("/v1/rerank", body + limit);
    EXPECT_EQ(response.status, status) << limit << response.body;
    if (status == 400) {
      EXPECT_EQ(test::error_of(response).param, "documents[1]") << limit;
    }
  }
}

TEST_F(RerankerServer, RefusesTextsWithoutTokens) {
  expect_texts_without_tokens_refused(client_);
}

// Texts that are millions of bytes too long are not spelt.
TEST_F(RerankerServer, TellsHowLongATextIsAtLeast) {
  std::string text;
  while (text.size() <= size_t{4} << 20)
    text += std::string(100, 'x') + " ";
  const auto document = client_.post("/v1/rerank", R"({"query":"x","documents":["y",")" + text + R"("]})");
  EXPECT_EQ(document.status, 400);
  EXPECT_EQ(test::error_of(document).param, "documents[1]");
  EXPECT_NE(document.body.find("at least 2052"), std::string::npos) << document.body << ": [CLS] x [SEP], and more";
  const auto query = client_.post("/v1/rerank", R"({"query":")" + text + R"(","documents":["y"]})");
  EXPECT_EQ(query.status, 400);
  EXPECT_EQ(test::error_of(query).param, "query");
  EXPECT_NE(query.body.find("at least 2049"), std::string::npos) << query.body;
}

}  // namespace
}  // namespace tidemill
