// From a model file to a packed one (packed_file.hpp).
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>

#include "base/result.hpp"
#include "model/checkpoint.hpp"

namespace tidemill::model {

struct PackOptions {
  int threads = 1;                                             // that pack
  std::function<void(size_t done, size_t total)> on_progress;  // bytes of the source's tensors
  std::function<bool()> cancelled;                             // asked now and then; true ends the work
};

struct PackSummary {
  size_t bytes = 0;     // of the packed file
  size_t matrices = 0;  // that were packed
};

// Writes `path`, packing matrix by matrix: memory in use stays at a few tens of megabytes, whatever the model's size,
// and one matrix where the source has it in another form. The file appears under its name when it is whole, and nothing
// is left behind otherwise. Errors: `unsupported` where `source` is packed already, `invalid_argument` where it would
// be overwritten; those of load_model for a model that could not be run, weights that are not finite among them;
// `cancelled`; `io` and the others of GgufWriter.
base::Result<PackSummary> pack_model(const Checkpoint& source, const std::filesystem::path& path,
                                     const PackOptions& options);

}  // namespace tidemill::model
