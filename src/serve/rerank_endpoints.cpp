// POST /rerank, /v1/rerank and /v2/rerank: documents by a reranker's score, or by how near their embeddings are to the
// query's.
#include <cmath>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/ids.hpp"
#include "observe/semantic_conventions.hpp"
#include "serve/call.hpp"
#include "serve/embedding_batch.hpp"
#include "serve/endpoints.hpp"
#include "wire/rerank.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
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

// Of texts that are nothing to the model: white space, to some.
Error without_tokens(const std::string& place) {
  return Error(ErrorCode::invalid_argument, fmt::format("'{}' has no token: there is nothing to rank", place))
      .with_param(place);
}

// Where the peers cut documents short: they are ranked whole here.
Result<void> check_length(const wire::RerankRequest& request, const std::string& place, int64_t document,
                          int64_t prompt) {
  const auto overlong = [&place](int64_t count, std::string_view limit, int64_t most) {
    return Error(ErrorCode::too_large,
                 fmt::format("'{}' has {} tokens, more than the {} of '{}': documents are ranked whole, never cut",
                             place, count, most, limit))
        .with_param(place);
  };
  if (request.max_document_tokens && document > *request.max_document_tokens)
    return overlong(document, "max_tokens_per_doc", *request.max_document_tokens);
  if (request.max_prompt_tokens && prompt > *request.max_prompt_tokens)
    return overlong(prompt, "truncate_prompt_tokens", *request.max_prompt_tokens);
  return {};
}

Result<void> add_embeddings(const Serving& serving, const std::string& id, RerankWork& prepared) {
  const text::Vocabulary& vocabulary = serving.model->tokenizer().vocabulary();
  const size_t around = (vocabulary.add_bos ? 1 : 0) + (vocabulary.add_eos ? 1 : 0);
  const auto add = [&](const std::string& text, const std::string& param) -> Result<void> {
    std::string one_id = fmt::format("{}-{}", id, prepared.engine_requests.size());
    TM_TRY(engine::Request one, embedding_request(serving, text, param, std::move(one_id)));
    if (one.prompt.size() <= around) return without_tokens(param);
    if (!prepared.engine_requests.empty()) {
      const int64_t tokens = std::ssize(one.prompt);
      TM_CHECK(check_length(prepared.request, param, tokens - static_cast<int64_t>(around), tokens));
    }
    prepared.engine_requests.push_back(std::move(one));
    return {};
  };
  TM_CHECK(add(prepared.request.query, "query"));
  for (size_t i = 0; i < prepared.request.documents.size(); ++i)
    TM_CHECK(add(prepared.request.documents[i], place_of(i)));
  return {};
}

using Tokens = std::vector<text::Token>;

// The query and what goes around it, where the context has room for a document as well.
Result<Tokens> query_tokens(const text::Tokenizer& tokenizer, const std::string& query, int64_t context) {
  const auto overlong = [context](const std::string& count) {
    return Error(ErrorCode::too_large,
                 fmt::format("the query has {} tokens with those around it, which leaves no room for a document: the "
                             "context takes {}",
                             count, context))
        .with_param("query");
  };
  if (const auto least = beyond_counting(tokenizer, query, context))
    return overlong(fmt::format("at least {}", *least));
  auto tokens = tokenizer.encode_first_of_pair(query);
  if (!tokens) {
    const bool never = tokens.error().code() == ErrorCode::unsupported;
    return std::move(tokens).error().with_param(never ? "model" : "query");
  }
  TM_TRY(const Tokens nothing, tokenizer.encode_first_of_pair(""));
  if (*tokens == nothing) return without_tokens("query");
  // A document has a token at least, and one behind it.
  if (std::ssize(*tokens) + 2 > context) return overlong(fmt::format("{}", tokens->size()));
  return tokens;
}

// The document and what goes behind it, where the context has room for them behind the query's.
Result<Tokens> document_tokens(const text::Tokenizer& tokenizer, const std::string& document, const std::string& place,
                               int64_t query, int64_t context) {
  const auto overlong = [&](std::string_view least, size_t count) {
    return Error(ErrorCode::too_large, fmt::format("the query and '{}' have {}{} tokens together, the context takes {}",
                                                   place, least, static_cast<size_t>(query) + count, context))
        .with_param(place);
  };
  if (const auto least = beyond_counting(tokenizer, document, context)) return overlong("at least ", *least);
  auto tokens = tokenizer.encode_second_of_pair(document);
  if (!tokens) return std::move(tokens).error().with_param(place);
  if (tokens->size() == 1) return without_tokens(place);
  if (query + std::ssize(*tokens) > context) return overlong("", tokens->size());
  return tokens;
}

Result<void> add_pairs(const Serving& serving, const std::string& id, RerankWork& prepared) {
  const text::Tokenizer& tokenizer = serving.model->tokenizer();
  const int64_t context = serving.engine->max_context();
  TM_TRY(const Tokens query, query_tokens(tokenizer, prepared.request.query, context));
  for (size_t i = 0; i < prepared.request.documents.size(); ++i) {
    TM_TRY(const Tokens document,
           document_tokens(tokenizer, prepared.request.documents[i], place_of(i), std::ssize(query), context));
    TM_CHECK(check_length(prepared.request, place_of(i), std::ssize(document) - 1,
                          std::ssize(query) + std::ssize(document)));
    engine::Request& one = prepared.engine_requests.emplace_back();
    one.kind = engine::Request::Kind::score;
    one.id = fmt::format("{}-{}", id, i);
    one.max_tokens = 0;
    one.prompt.reserve(query.size() + document.size());
    one.prompt = query;
    one.prompt.insert(one.prompt.end(), document.begin(), document.end());
    one.second_text = std::ssize(query);
  }
  return {};
}

Result<RerankWork> prepare_rerank(const Serving& serving, std::string_view path, std::string_view body,
                                  const std::string& id) {
  RerankWork prepared;
  TM_TRY(prepared.request, wire::parse_rerank_request(body, wire::returns_documents(path)));
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

std::vector<wire::Relevance> relevances(const LoadedModel& model, const EmbeddingBatch& batch) {
  std::vector<wire::Relevance> all;
  if (model.ranks()) {
    // By the logit: the logistic function is 1 from 37 on.
    for (const double logit : batch.scores())
      all.push_back({logit, 1 / (1 + std::exp(-logit))});
    return all;
  }
  const std::vector<std::vector<float>>& embeddings = batch.embeddings();
  for (size_t i = 1; i < embeddings.size(); ++i) {
    const double similarity = cosine(embeddings.front(), embeddings[i]);
    all.push_back({similarity, similarity});
  }
  return all;
}

asio::awaitable<void> rerank(Service& service, Call& call) {
  const Serving& serving = *service.serving();
  const std::string body = std::move(call.request().body);
  const std::string id = base::random_id("rerank-");
  auto work = [&] { return prepare_rerank(serving, call.request().path, body, id); };
  auto prepared = co_await service.run_text_work(body.size(), &call.exchange(), work);
  if (!prepared) {
    (void)co_await call.refuse(std::move(prepared).error());
    co_return;
  }
  describe_texts(call, serving, observe::semconv::operation::rerank, prepared->request.model);
  const auto batch = co_await run_batch(call, serving, std::move(prepared->engine_requests), "documents");
  if (!batch) co_return;
  (void)co_await call.respond(
      wire::HttpResponse::json(200, wire::rerank_response(prepared->request, relevances(*serving.model, *batch), id,
                                                          serving.model->name(), batch->usage().prompt_tokens)));
}

}  // namespace

void add_rerank_endpoints(wire::Router& router, Service& service) {
  for (const char* path : {"/rerank", "/v1/rerank", "/v2/rerank"})
    router.add("POST", path, api_handler(service, Needs::engine, rerank));
}

}  // namespace tidemill::serve
