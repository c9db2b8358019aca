// From a checkpoint of any form to one GGUF file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::model {

struct ConvertOptions {
  // Of the matrices: F32, F16 or BF16; none: as they are. Those that GGUF has in F32 alone (always_f32.hpp) become
  // that.
  std::optional<tensor::DType> type;
  std::function<void(size_t done, size_t total)> on_progress;  // bytes of the source's tensors
  std::function<bool()> cancelled;                             // asked now and then; true ends the work
};

struct ConvertSummary {
  size_t bytes = 0;      // of the file
  size_t tensors = 0;    // in it
  size_t converted = 0;  // of them, those whose type changed
};

// Writes `path`, a slice of a tensor at a time. Vectors keep their type. The file appears under its name when it is
// whole, and nothing is left behind otherwise. Errors: `corrupt` naming a tensor of numbers that are not finite, or
// that the type cannot hold, since they are too large, or all of them too small (small_numbers.hpp); `unsupported`
// where `source` is a packed file, `invalid_argument` where it would be overwritten; for a folder those of load_model,
// since it could not be run; `cancelled`; `io` and the others of GgufWriter.
base::Result<ConvertSummary> convert_model(const Checkpoint& source, const std::filesystem::path& path,
                                           const ConvertOptions& options);

}  // namespace tidemill::model
