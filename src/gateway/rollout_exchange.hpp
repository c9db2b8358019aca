// What several gateways know of the same routes, told to each other through the shared store.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/json.hpp"
#include "base/result.hpp"
#include "gateway/model_route.hpp"
#include "gateway/route_table.hpp"
#include "session/shared_state.hpp"

namespace tidemill::gateway {

// One blob for each rollout and each adaptive route: {GATEWAY: {"at": SECONDS, "is": ...}, ...}, with a member for each
// gateway that has had a part in it. One that starts anew has a new name, and finds what it knew in its former life as
// another's. So a blob would grow with every start of a gateway: what one said that has been silent for a day is added
// up under "past", with its name, so that it does not count twice if it wakes up.
//
// Blocks on the store; to be used by one thread at a time.
class RolloutExchange {
 public:
  // `gateway`: a name that no gateway has had before. What is passed outlives this.
  RolloutExchange(std::string gateway, session::SharedState& store, const base::Clock& clock)
      : gateway_(std::move(gateway)), store_(store), clock_(clock) {}

  // One round for all routes that learn. A store that fails is said once in the log, and each gateway goes on by
  // itself meanwhile.
  void exchange(const RouteTable& routes);

 private:
  base::Result<void> exchange_canary(ModelRoute& route);
  base::Result<void> exchange_learned(ModelRoute& route);
  // Of a blob, as it was read, the members of the others; writes it if it must change, and reads it again if another
  // gateway was faster. `change` does what is to be done to it beside telling `own`.
  template <typename Own, typename Change>
  base::Result<base::json::object> tell(const std::string& key, const Own& own, const Change& change);

  const std::string gateway_;
  session::SharedState& store_;
  const base::Clock& clock_;
  bool failing_ = false;
};

}  // namespace tidemill::gateway
