// The CPU as a Device.
#pragma once

#include <memory>

#include "base/thread_team.hpp"
#include "tensor/device.hpp"
#include "tensor/isa.hpp"

namespace tidemill::tensor {

// `threads` >= 1 threads compute, the calling thread among them. `isa` must be one of available_isas().
std::unique_ptr<Device> make_cpu_device(Isa isa, int threads, ActivationScheme activations = ActivationScheme::dynamic);

}  // namespace tidemill::tensor
