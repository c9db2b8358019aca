// POST /rerank, /v1/rerank, /v2/rerank: which documents answer a query best. The shape that Cohere, Jina and vLLM
// share, with the members that one of them has and the others do not:
//
//   {"model", "query", "documents": ["..." or {"text": "..."}], "top_n", "return_documents",
//    "max_tokens_per_doc", "max_chunks_per_doc", "rank_fields" (Cohere), "truncate_prompt_tokens" (vLLM)}
//   {"id", "model", "results": [{"index", "relevance_score", "document"?: {"text"}}], "usage"}
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace tidemill::wire {

struct RerankRequest {
  std::string model;
  std::string query;
  std::vector<std::string> documents;  // at least one
  size_t top_n = 0;                    // the results that are wanted, at most one for each document
  bool return_documents = false;
  // Tokens, past which the peers cut: of a document, and of all that the model reads of one.
  std::optional<int64_t> max_document_tokens = {};
  std::optional<int64_t> max_prompt_tokens = {};
};

// Whether answers have the documents' texts where a request does not say: as Jina and vLLM do it, but not in Cohere's
// second version.
bool returns_documents(std::string_view path);

// `return_documents` is what holds where the request does not say. Errors are invalid_argument that name the parameter;
// `unsupported` for fields of documents other than their text, which is what is ranked.
base::Result<RerankRequest> parse_rerank_request(std::string_view body, bool return_documents);

struct Relevance {
  double rank = 0;   // the most relevant has the largest
  double score = 0;  // what the client is told, which may be the same for two that are not as relevant
};

// The body of the answer: the best first, of equal ones the one that came first. `relevances` has one for each
// document.
std::string rerank_response(const RerankRequest& request, std::span<const Relevance> relevances, std::string_view id,
                            std::string_view model, int64_t prompt_tokens);

}  // namespace tidemill::wire
