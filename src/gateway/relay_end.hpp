// How a request has ended, as whoever learns from it wants to know.
#pragma once

#include <optional>
#include <string>

#include "access/money.hpp"
#include "rollout/checks.hpp"

namespace tidemill::gateway {

struct RelayEnd {
  bool hung_up = false;  // the client has gone, or took no more, before there was an end: it tells nothing
  rollout::Observation seen{};
  std::optional<access::Money> cost{};  // nullopt: it has no price
  std::string response_id{};            // as the answer calls itself; empty: it does not
};

}  // namespace tidemill::gateway
