// From a model file to a model that runs.
#pragma once

#include <memory>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "model/encoder.hpp"
#include "model/model.hpp"
#include "tensor/device.hpp"

namespace tidemill::model {

// Reads the hyper-parameters, checks every tensor against them, and packs the weights onto `device`, which must outlive
// the model; `file` may be closed afterwards. The weights of a packed file stay where they are: in the file's map,
// which the model keeps, or in the bytes that the file was parsed from, which must outlive the model. Errors name the
// file and the key or tensor at fault: `unsupported` (architecture, scaling, ...), `not_found` (a key or tensor),
// `corrupt` (numbers, shapes, and weights that are not finite), `invalid_argument` (options), `exhausted` (memory).
base::Result<std::unique_ptr<Model>> load_model(const Checkpoint& file, tensor::Device& device,
                                                const LoadOptions& options);

// The same for an encoder. Its calls take at least as many rows as its context has, whatever the options say.
base::Result<std::unique_ptr<Encoder>> load_encoder(const Checkpoint& file, tensor::Device& device,
                                                    const LoadOptions& options);

// That the options' numbers are in their ranges: `invalid_argument`.
base::Result<void> check_options(const LoadOptions& options);

// Whether the file is for load_encoder, by its architecture; one that nobody knows is for load_model to refuse.
base::Result<bool> holds_encoder(const Checkpoint& file);

// The hyper-parameters of either kind.
base::Result<HyperParameters> read_any_hyper_parameters(const Checkpoint& file);

// What either would refuse, but for the memory that it takes and damage that only a look at all data shows.
base::Result<void> check_loadable(const Checkpoint& file);

}  // namespace tidemill::model
