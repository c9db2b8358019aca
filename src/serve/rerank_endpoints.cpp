// POST /rerank, /v1/rerank and /v2/rerank: documents by how near their embeddings are to the query's.
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
  std::vector<engine::Request> engine_requests;  // the query's, then the documents'
};

Result<RerankWork> prepare_rerank(const Serving& serving, std::string_view body, const std::string& id) {
  RerankWork prepared;
  TM_TRY(prepared.request, wire::parse_rerank_request(body));
  TM_CHECK(check_model(serving, prepared.request.model));
  const auto add = [&](const std::string& text, const std::string& param) -> Result<void> {
    std::string one_id = fmt::format("{}-{}", id, prepared.engine_requests.size());
    TM_TRY(engine::Request one, embedding_request(serving, text, param, std::move(one_id)));
    prepared.engine_requests.push_back(std::move(one));
    return {};
  };
  TM_CHECK(add(prepared.request.query, "query"));
  for (size_t i = 0; i < prepared.request.documents.size(); ++i)
    TM_CHECK(add(prepared.request.documents[i], fmt::format("documents[{}]", i)));
  return prepared;
}

// Of vectors of unit length.
double cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
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
  const bool whole = co_await run(call, batch);
  if (!whole) co_return;
  const std::vector<std::vector<float>>& embeddings = batch.embeddings();
  std::vector<double> scores;
  for (size_t i = 1; i < embeddings.size(); ++i)
    scores.push_back(cosine(embeddings.front(), embeddings[i]));
  (void)co_await call.respond(wire::HttpResponse::json(
      200, wire::rerank_response(prepared->request, scores, id, serving.model->name(), batch.usage().prompt_tokens)));
}

}  // namespace

void add_rerank_endpoints(wire::Router& router, Service& service) {
  for (const char* path : {"/rerank", "/v1/rerank", "/v2/rerank"})
    router.add("POST", path, api_handler(service, Needs::engine, rerank));
}

}  // namespace tidemill::serve
