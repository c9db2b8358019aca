// Which paths the server answers.
#pragma once

#include "serve/service.hpp"
#include "wire/http_server.hpp"

namespace tidemill::serve {

// Each adds the routes of one group. The service must outlive the router.
void add_generate_endpoints(wire::Router& router, Service& service);      // chat completions, completions
void add_messages_endpoints(wire::Router& router, Service& service);      // Anthropic messages, count_tokens
void add_responses_endpoints(wire::Router& router, Service& service);     // OpenAI responses
void add_conversation_endpoints(wire::Router& router, Service& service);  // OpenAI conversations
void add_embedding_endpoints(wire::Router& router, Service& service);     // embeddings
void add_rerank_endpoints(wire::Router& router, Service& service);        // rerank
void add_mcp_endpoints(wire::Router& router, Service& service);           // the Model Context Protocol
void add_token_endpoints(wire::Router& router, Service& service);         // tokenize, detokenize
void add_model_endpoints(wire::Router& router, Service& service);         // models
void add_status_endpoints(wire::Router& router, Service& service);        // health, ready, metrics, traces, version, /

}  // namespace tidemill::serve
