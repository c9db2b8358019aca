// From a model file to a model that runs.
#pragma once

#include <memory>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "model/model.hpp"
#include "tensor/device.hpp"

namespace tidemill::model {

// Reads the hyper-parameters, checks every tensor against them, and packs the weights onto `device`, which must outlive
// the model; `file` may be closed afterwards. The weights of a packed file stay where they are: in the file's map,
// which the model keeps, or in the bytes that the file was parsed from, which must outlive the model. Errors name the
// file and the key or tensor at fault: `unsupported` (architecture, scaling, ...), `not_found` (a key or tensor),
// `corrupt` (numbers and shapes), `invalid_argument` (options), `exhausted` (memory).
base::Result<std::unique_ptr<Model>> load_model(const Checkpoint& file, tensor::Device& device,
                                                const LoadOptions& options);

}  // namespace tidemill::model
