// How a request has ended, as whoever learns from it wants to know.
#pragma once

#include <optional>
#include <string>

#include "access/money.hpp"
#include "rollout/checks.hpp"

namespace tidemill::gateway {

struct RelayEnd {
  bool hung_up = false;      // the client has gone, or took no more, before there was an end: it tells nothing
  bool handed_over = false;  // the client has got nothing: another is to answer
  // The status by which a backend said that the request is at fault, 400 to 499 but for 408 and 429; 0: none did. Then
  // `seen` says that it failed.
  int declined = 0;
  // A try failed by the backend's own fault, whatever came of the request elsewhere.
  bool faulted = false;
  rollout::Observation seen{};
  std::optional<access::Money> cost{};  // nullopt: it has no price
  std::string response_id{};            // as the answer calls itself; empty: it does not
};

}  // namespace tidemill::gateway
