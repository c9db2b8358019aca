// The gateway's endpoints, by the file that implements them. The service must outlive the router.
#pragma once

#include "gateway/service.hpp"
#include "wire/http_server.hpp"

namespace tidemill::gateway {

// What goes to a backend: POST to /v1/* and /tokenize, /detokenize.
void add_proxy_endpoints(wire::Router& router, Service& service);
// GET /v1/models and /v1/models/{id}, of all backends.
void add_model_endpoints(wire::Router& router, Service& service);
// GET and DELETE of /v1/responses/{id}, GET of its /input_items: from the session store.
void add_responses_endpoints(wire::Router& router, Service& service);
// /v1/conversations and what is below it: from the session store.
void add_conversation_endpoints(wire::Router& router, Service& service);
// POST /v1/feedback.
void add_feedback_endpoints(wire::Router& router, Service& service);
// GET /rollouts and /rollouts/{route}; POST /rollouts/{route}/promote and /rollback.
void add_rollout_endpoints(wire::Router& router, Service& service);
// GET /, /health, /ready, /metrics, /version, /backends, /debug/traces.
void add_status_endpoints(wire::Router& router, Service& service);

}  // namespace tidemill::gateway
