// POST /rerank, /v1/rerank, /v2/rerank: which documents answer a query best. The shape that Cohere, Jina and vLLM
// share:
//
//   {"model", "query", "documents": ["..." or {"text": "..."}], "top_n", "return_documents"}
//   {"id", "model", "results": [{"index", "relevance_score", "document"?: {"text"}}], "usage"}
#pragma once

#include <cstddef>
#include <cstdint>
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
};

// Errors are invalid_argument that name the parameter; `unsupported` for what would cut documents short or pick fields
// of them, which is not done.
base::Result<RerankRequest> parse_rerank_request(std::string_view body);

// The body of the answer: the best first, of equal ones the one that came first. `scores` has one for each document.
std::string rerank_response(const RerankRequest& request, std::span<const double> scores, std::string_view id,
                            std::string_view model, int64_t prompt_tokens);

}  // namespace tidemill::wire
