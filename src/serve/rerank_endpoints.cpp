// POST /rerank, /v1/rerank and /v2/rerank: documents by a reranker's score, or by how near their embeddings are to the
// query's.
#include <cmath>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/ids.hpp"
#include "serve/call.hpp"
#include "serve/embedding_batch.hpp"
#include "serve/endpoints.hpp"
#include "wire/rerank.hpp"

namespace tidemill::serve {

using base::Result;

namespace {

struct RerankWork {
  wire::RerankRequest request;
  // Of a reranker one for each document, with the query; else the query's, then the documents'.
  std::vector<engine::Request> engine_requests;
};

std::string place_of(size_t document) {
  return fmt::format("documents[{}]", document);
}

Result<void> add_embeddings(const Serving& serving, const std::string& id, RerankWork& prepared) {
  const auto add = [&](const std::string& text, const std::string& param) -> Result<void> {
    std::string one_id = fmt::format("{}-{}", id, prepared.engine_requests.size());
    TM_TRY(engine::Request one, embedding_request(serving, text, param, std::move(one_id)));
    prepared.engine_requests.push_back(std::move(one));
    return {};
  };
  TM_CHECK(add(prepared.request.query, "query"));
  for (size_t i = 0; i < prepared.request.documents.size(); ++i)
    TM_CHECK(add(prepared.request.documents[i], place_of(i)));
  return {};
}

// "[CLS] query [SEP] document [SEP]", as BERT takes two texts. Both are a user's words, in which no special token is
// read.
Result<void> add_pairs(const Serving& serving, const std::string& id, RerankWork& prepared) {
  const text::Tokenizer& tokenizer = serving.model->tokenizer();
  const text::Vocabulary& vocabulary = tokenizer.vocabulary();
  if (!vocabulary.bos || !vocabulary.eos) {
    return base::Error(base::ErrorCode::unsupported,
                       "the model's vocabulary names no tokens to begin a pair of texts with and to part it")
        .with_param("model");
  }
  const text::EncodeOptions plain{.add_special = false, .parse_special = false, .literal = {}};
  auto query = tokenizer.encode(prepared.request.query, plain);
  if (!query) return std::move(query).error().with_param("query");
  std::vector<text::Token> begin = {*vocabulary.bos};
  begin.insert(begin.end(), query->begin(), query->end());
  begin.push_back(*vocabulary.eos);
  const int64_t context = serving.engine->max_context();
  // A document has a token at least, and one behind it.
  if (std::ssize(begin) + 2 > context) {
    return base::Error(base::ErrorCode::too_large,
                       fmt::format("the query has {} tokens with those around it, which leaves no room for a document: "
                                   "the context takes {}",
                                   begin.size(), context))
        .with_param("query");
  }
  for (size_t i = 0; i < prepared.request.documents.size(); ++i) {
    auto document = tokenizer.encode(prepared.request.documents[i], plain);
    if (!document) return std::move(document).error().with_param(place_of(i));
    engine::Request& one = prepared.engine_requests.emplace_back();
    one.kind = engine::Request::Kind::score;
    one.id = fmt::format("{}-{}", id, i);
    one.max_tokens = 0;
    one.prompt = begin;
    one.prompt.insert(one.prompt.end(), document->begin(), document->end());
    one.prompt.push_back(*vocabulary.eos);
    one.second_text = std::ssize(begin);
    if (std::ssize(one.prompt) > context) {
      return base::Error(base::ErrorCode::too_large,
                         fmt::format("the query and '{}' have {} tokens together, the context takes {}", place_of(i),
                                     one.prompt.size(), context))
          .with_param(place_of(i));
    }
  }
  return {};
}

Result<RerankWork> prepare_rerank(const Serving& serving, std::string_view body, const std::string& id) {
  RerankWork prepared;
  TM_TRY(prepared.request, wire::parse_rerank_request(body));
  TM_CHECK(check_model(serving, prepared.request.model));
  if (serving.model->ranks()) {
    TM_CHECK(add_pairs(serving, id, prepared));
  } else {
    TM_CHECK(add_embeddings(serving, id, prepared));
  }
  return prepared;
}

// Of vectors of unit length.
double cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

std::vector<double> relevance(const LoadedModel& model, const EmbeddingBatch& batch) {
  std::vector<double> scores;
  if (model.ranks()) {
    for (const double logit : batch.scores())
      scores.push_back(1 / (1 + std::exp(-logit)));
    return scores;
  }
  const std::vector<std::vector<float>>& embeddings = batch.embeddings();
  for (size_t i = 1; i < embeddings.size(); ++i)
    scores.push_back(cosine(embeddings.front(), embeddings[i]));
  return scores;
}

asio::awaitable<void> rerank(Service& service, Call& call) {
  const Serving& serving = *service.serving();
  const std::string body = std::move(call.request().body);
  const std::string id = base::random_id("rerank-");
  auto work = [&] { return prepare_rerank(serving, body, id); };
  auto prepared = co_await service.run_text_work(body.size(), &call.exchange(), work);
  if (!prepared) {
    (void)co_await call.refuse(std::move(prepared).error());
    co_return;
  }
  describe_embedding(call, serving, prepared->request.model);
  for (engine::Request& one : prepared->engine_requests) {
    one.parent = call.span().context();
    one.tenant = call.tenant();
  }
  call.end_receive();
  EmbeddingBatch batch(*serving.engine, std::move(prepared->engine_requests), "documents", call.exchange().waker());
  const bool whole = co_await run_batch(call, batch);
  if (!whole) co_return;
  const std::vector<double> scores = relevance(*serving.model, batch);
  (void)co_await call.respond(wire::HttpResponse::json(
      200, wire::rerank_response(prepared->request, scores, id, serving.model->name(), batch.usage().prompt_tokens)));
}

}  // namespace

void add_rerank_endpoints(wire::Router& router, Service& service) {
  for (const char* path : {"/rerank", "/v1/rerank", "/v2/rerank"})
    router.add("POST", path, api_handler(service, Needs::engine, rerank));
}

}  // namespace tidemill::serve
