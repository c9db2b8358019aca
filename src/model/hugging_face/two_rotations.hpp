// Files that say twice how positions are scaled.
#pragma once

#include "base/result.hpp"
#include "model/hugging_face/json_file.hpp"

namespace tidemill::model {

// That what `older` (rope_scaling) says is said by `newer` (rope_parameters, which holds) as well, where both are
// there. `unsupported` where it is not, naming both members: which of the two was meant is unknown.
base::Result<void> refuse_two_rotations(const JsonMembers& newer, const JsonMembers& older);

}  // namespace tidemill::model
