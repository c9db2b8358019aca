// OpenAI's request bodies (Chat Completions, Completions, Embeddings) and vLLM's tokenize and detokenize, to the
// internal requests. Field names, ranges and defaults follow OpenAI's API reference; the sampling fields beyond it are
// vLLM's.
//
// Errors name the parameter. Fields that are unknown are ignored, as OpenAI's compatible servers do; fields that are
// known and asked for something this server does not do are `unsupported`, never silently dropped.
//
// Pure functions; thread-safe.
#pragma once

#include <string_view>

#include "base/result.hpp"
#include "wire/answer.hpp"
#include "wire/request.hpp"

namespace tidemill::wire {

base::Result<GenerateRequest> parse_chat_request(std::string_view body);
base::Result<GenerateRequest> parse_completion_request(std::string_view body);
// With the writer of the answer. A chat whose calls and results do not belong together is refused here, and not where
// it is only parsed, for the beginning of a prompt may end anywhere.
base::Result<Asked> ask_chat(std::string_view body);
base::Result<Asked> ask_completion(std::string_view body);
base::Result<EmbeddingRequest> parse_embedding_request(std::string_view body);
base::Result<TokenizeRequest> parse_tokenize_request(std::string_view body);
base::Result<DetokenizeRequest> parse_detokenize_request(std::string_view body);

}  // namespace tidemill::wire
