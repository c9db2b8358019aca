// All named routes of a gateway.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "gateway/route_options.hpp"
#include "observe/metrics.hpp"

namespace tidemill::gateway {

class ModelRoute;

// Immutable, to be replaced as a whole when the configuration changes; its routes are not. Thread-safe.
class RouteTable {
 public:
  RouteTable() = default;

  // Routes that stand in `before` with the same options go on as they are, with all that they have learned; others of
  // the same name, with what is still true (ModelRoute::inherit).
  // invalid_argument, with the key as `param`: what is wrong with a route, or that two have one name.
  static base::Result<std::shared_ptr<const RouteTable>> create(const std::vector<RouteOptions>& routes,
                                                                const RouteTable& before, observe::Metrics& metrics,
                                                                const base::Clock& clock);

  // Null: the model is no route.
  std::shared_ptr<ModelRoute> find(std::string_view model) const;
  const std::vector<std::shared_ptr<ModelRoute>>& routes() const { return routes_; }

 private:
  std::vector<std::shared_ptr<ModelRoute>> routes_;
};

}  // namespace tidemill::gateway
