#include "gateway/route_table.hpp"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "gateway/model_route.hpp"

namespace tidemill::gateway {

base::Result<std::shared_ptr<const RouteTable>> RouteTable::create(const std::vector<RouteOptions>& routes,
                                                                   const RouteTable& before, observe::Metrics& metrics,
                                                                   const base::Clock& clock) {
  auto table = std::make_shared<RouteTable>();
  for (const RouteOptions& options : routes) {
    if (table->find(options.model)) {
      return base::Error(base::ErrorCode::invalid_argument,
                         fmt::format("gateway.route.model: two routes are named '{}': make them one, with the targets "
                                     "of both",
                                     options.model))
          .with_param("gateway.route.model");
    }
    auto kept = before.find(options.model);
    if (kept && kept->options() == options) {
      table->routes_.push_back(std::move(kept));
      continue;
    }
    TM_TRY(auto made, ModelRoute::create(options, metrics, clock));
    if (kept) made->inherit(*kept);
    table->routes_.push_back(std::move(made));
  }
  return std::shared_ptr<const RouteTable>(std::move(table));
}

std::shared_ptr<ModelRoute> RouteTable::find(std::string_view model) const {
  const auto found = std::ranges::find_if(routes_, [model](const auto& route) { return route->name() == model; });
  return found == routes_.end() ? nullptr : *found;
}

}  // namespace tidemill::gateway
