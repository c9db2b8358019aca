// Which layers see a window, as config.json lists it.
#pragma once

#include <cstdint>

#include "base/result.hpp"
#include "model/architectures/architecture.hpp"

namespace tidemill::model {

// That layer_types, where it is there, has the last of every `period` layers see everything, and the others a window.
// Errors: `unsupported` naming the first layer that is otherwise.
base::Result<void> check_layer_types(const JsonMembers& config, int64_t period);

}  // namespace tidemill::model
