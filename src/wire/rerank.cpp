#include "wire/rerank.hpp"

#include <algorithm>
#include <cassert>
#include <numeric>
#include <utility>

#include <fmt/core.h>

#include "base/json.hpp"
#include "wire/json_fields.hpp"

namespace tidemill::wire {

using base::Result;
namespace json = base::json;

namespace {

constexpr size_t max_documents = 2'048;  // as many as one request may embed

Result<std::string> parse_document(const JsonFields& fields, const json::value& document, const std::string& place) {
  if (document.is_string()) return std::string(document.get_string());
  const json::object* object = document.if_object();
  if (object == nullptr) return fields.mismatch(place, "a string or an object with a 'text'", document);
  return JsonFields(*object, place).required_string("text");
}

Result<std::vector<std::string>> parse_documents(const JsonFields& fields) {
  TM_TRY(const json::array* array, fields.array("documents", max_documents));
  if (array == nullptr) {
    return fields.invalid("documents",
                          fields.find("texts") != nullptr
                              ? "'documents' is required: an array of strings, which is what 'texts' is to "
                                "text-embeddings-inference"
                              : "'documents' is required: an array of strings");
  }
  if (array->empty()) return fields.invalid("documents", "'documents' must not be an empty array");
  std::vector<std::string> documents;
  documents.reserve(array->size());
  for (size_t i = 0; i < array->size(); ++i) {
    const std::string place = fmt::format("documents[{}]", i);
    TM_TRY(std::string text, parse_document(fields, (*array)[i], place));
    if (text.empty()) return fields.invalid(place, fmt::format("'{}' is empty: there is nothing to rank", place));
    documents.push_back(std::move(text));
  }
  return documents;
}

// Documents are read whole, as one chunk, so that any number of those is enough.
Result<void> parse_limits(const JsonFields& fields, RerankRequest& request) {
  TM_TRY(request.max_document_tokens, fields.limit("max_tokens_per_doc", 1));
  TM_CHECK(fields.limit("max_chunks_per_doc", 1));
  TM_TRY(request.max_prompt_tokens, fields.limit("truncate_prompt_tokens", -1));
  if (request.max_prompt_tokens == -1) request.max_prompt_tokens.reset();  // what the model takes
  if (request.max_prompt_tokens == 0) {
    return fields.invalid("truncate_prompt_tokens",
                          "'truncate_prompt_tokens' must be at least 1, or -1 for what the model takes, not 0");
  }
  return {};
}

Result<void> check_rank_fields(const JsonFields& fields) {
  TM_TRY(const json::array* names, fields.array("rank_fields"));
  if (names == nullptr) return {};
  for (const json::value& name : *names) {
    if (!name.is_string() || name.get_string() != "text")
      return fields.unsupported("rank_fields", "of a document its 'text' is ranked");
  }
  return {};
}

}  // namespace

bool returns_documents(std::string_view path) {
  return path != "/v2/rerank";
}

Result<RerankRequest> parse_rerank_request(std::string_view body, bool return_documents) {
  TM_TRY(const json::object object, parse_body(body));
  const JsonFields fields(object);
  RerankRequest request;
  TM_TRY(const auto model, fields.string("model"));
  request.model = model.value_or("");
  TM_TRY(request.query, fields.required_string("query"));
  if (request.query.empty()) return fields.invalid("query", "'query' is empty: there is nothing to rank by");
  TM_TRY(request.documents, parse_documents(fields));
  // vLLM's 0 means all of them.
  TM_TRY(const auto top_n, fields.integer("top_n", 0, max_int));
  request.top_n = std::min(static_cast<size_t>(top_n.value_or(0)), request.documents.size());
  if (request.top_n == 0) request.top_n = request.documents.size();
  TM_TRY(const auto with_text, fields.boolean("return_documents"));
  request.return_documents = with_text.value_or(return_documents);
  TM_CHECK(parse_limits(fields, request));
  TM_CHECK(check_rank_fields(fields));
  return request;
}

std::string rerank_response(const RerankRequest& request, std::span<const Relevance> relevances, std::string_view id,
                            std::string_view model, int64_t prompt_tokens) {
  assert(relevances.size() == request.documents.size());
  std::vector<size_t> order(relevances.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return relevances[a].rank > relevances[b].rank; });
  order.resize(request.top_n);
  json::array results;
  for (const size_t index : order) {
    json::object result{{"index", index}, {"relevance_score", relevances[index].score}};
    if (request.return_documents) result["document"] = {{"text", request.documents[index]}};
    results.push_back(std::move(result));
  }
  return json::serialize(json::object{{"id", id},
                                      {"model", model},
                                      {"results", std::move(results)},
                                      {"usage", {{"prompt_tokens", prompt_tokens}, {"total_tokens", prompt_tokens}}}});
}

}  // namespace tidemill::wire
