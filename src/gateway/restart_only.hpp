// Which settings a reload cannot change.
#pragma once

#include <string_view>
#include <vector>

#include "gateway/gateway_options.hpp"

namespace tidemill::gateway {

// The keys, as configurations write them, in which `after` differs from `before` and that count from the next start
// only.
std::vector<std::string_view> restart_only(const GatewayOptions& before, const GatewayOptions& after);

}  // namespace tidemill::gateway
