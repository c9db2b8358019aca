// POST /v1/embeddings.
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/ids.hpp"
#include "observe/semantic_conventions.hpp"
#include "serve/call.hpp"
#include "serve/embedding_batch.hpp"
#include "serve/endpoints.hpp"
#include "wire/openai_answer.hpp"
#include "wire/openai_request.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

struct EmbeddingWork {
  wire::EmbeddingRequest request;
  std::vector<engine::Request> engine_requests;
};

Result<EmbeddingWork> prepare_embeddings(const Serving& serving, std::string_view body, const std::string& id) {
  EmbeddingWork prepared;
  TM_TRY(prepared.request, wire::parse_embedding_request(body));
  TM_CHECK(check_model(serving, prepared.request.model));
  const int64_t width = serving.model->hyper_parameters().width;
  const auto dimensions = prepared.request.dimensions;
  if (dimensions && *dimensions != width) {
    return Error(ErrorCode::unsupported,
                 fmt::format("'dimensions' is {}, but this model's embeddings have {}", *dimensions, width))
        .with_param("dimensions");
  }
  for (size_t i = 0; i < prepared.request.inputs.size(); ++i) {
    TM_TRY(engine::Request one,
           embedding_request(serving, prepared.request.inputs[i], "input", fmt::format("{}-{}", id, i)));
    prepared.engine_requests.push_back(std::move(one));
  }
  return prepared;
}

asio::awaitable<void> embeddings(Service& service, Call& call) {
  const Serving& serving = *service.serving();
  const std::string body = std::move(call.request().body);
  const std::string id = base::random_id("embd-");
  auto work = [&] { return prepare_embeddings(serving, body, id); };
  auto prepared = co_await service.run_text_work(body.size(), &call.exchange(), work);
  if (!prepared) {
    (void)co_await call.refuse(std::move(prepared).error());
    co_return;
  }
  describe_texts(call, serving, observe::semconv::operation::embeddings, prepared->request.model);
  const auto batch = co_await run_batch(call, serving, std::move(prepared->engine_requests), "input");
  if (!batch) co_return;
  (void)co_await call.respond(
      wire::HttpResponse::json(200, wire::embedding_response(batch->embeddings(), serving.model->name(),
                                                             batch->usage().prompt_tokens, prepared->request.base64)));
}

}  // namespace

void add_embedding_endpoints(wire::Router& router, Service& service) {
  router.add("POST", "/v1/embeddings", api_handler(service, Needs::engine, embeddings));
}

}  // namespace tidemill::serve
