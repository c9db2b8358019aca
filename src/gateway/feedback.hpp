// Decisions of adaptive routes that may be rated, at whichever gateway the rating arrives.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>

#include "base/result.hpp"
#include "gateway/adaptive_choice.hpp"
#include "gateway/model_route.hpp"
#include "gateway/service.hpp"

namespace tidemill::gateway {

// A decision of which the request was answered. Owns what it needs: it outlives the request.
struct AnsweredDecision {
  std::shared_ptr<ModelRoute> route;
  std::string tenant;
  std::string request_id;
  std::string response_id;
  rollout::Decision decision;
};

// Where gateways share a store, puts the decision there, under both ids, on a thread of the store's; without one, does
// nothing. Returns at once. What the store refuses cannot be rated elsewhere, and that is all.
void share_decision(Service& service, const asio::any_io_executor& executor, AnsweredDecision answered);

struct Rating {
  std::string route;
  std::string target;
  std::string model;
  std::string request_id;
};

// Finds the decision that `id` names, here or in the store, and has its route learn what the answer was worth, 0 to 1.
// Errors, param "id": not_found (no decision is known by that id), invalid_argument (it was rated before); the store's.
asio::awaitable<base::Result<Rating>> rate(Service& service, RatedId id, double score);

}  // namespace tidemill::gateway
