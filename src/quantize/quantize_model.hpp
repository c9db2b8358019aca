// From a model to the same in fewer bits: one GGUF file, written tensor by tensor.
//
//   widen.hpp               the source, with inner widths that blocks fit
//   plan.hpp                types of the tensors, and mixture.hpp, which chooses them
//   calibration.hpp         what the model's matrices are multiplied by, from a text, layer by layer
//   moment_file.hpp         what of that waits on the disk; hidden_file.hpp, what the text is between two layers
//   smoothing.hpp           outlier channels folded into norms
//   tensor_rows.hpp (model) the source's rows as floats, a slice at a time
//   round_rows.hpp          rows to blocks; error_compensation.hpp where they make up for their errors
//   partial_file.hpp        the file, which goes on after a kill
//
// Converting (model/convert.hpp) is the same way with other rounding in the middle and GgufWriter at its end.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "quantize/calibration.hpp"
#include "quantize/plan.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::quantize {

struct QuantizeOptions {
  tensor::DType type = tensor::DType::q8_0;
  std::vector<TensorRule> rules = {};  // the last that matches a tensor holds
  double bits = 0;                     // that plan_mixture() chooses, or has chosen, type and rules for; 0: it does not
  bool per_channel = false;            // matrices in Q8_0 have one scale for each row, in all of its blocks
  int threads = 1;
  bool restart = false;                            // throw away an unfinished file of another model or other options
  std::vector<std::filesystem::path> inputs = {};  // that are read beside the source, and so not written over

  // Null: rounding knows nothing of the inputs. `calibration_fingerprint` says what it was, or will be, made from
  // (fingerprint_of() of calibration.hpp); 0: nothing.
  Calibration* calibration = nullptr;
  uint64_t calibration_fingerprint = 0;
  bool smooth = true;      // with a calibration: fold outlier channels into norms, where it helps
  bool compensate = true;  // with a calibration: types of up to 5.5 bits make up for their errors

  uint64_t flush_bytes = uint64_t{16} << 20;                         // as of PartialOptions
  int64_t slice_elements = int64_t{1} << 20;                         // that are rounded at a time
  std::function<void(size_t done, size_t total)> on_progress = {};   // bytes of the source's tensors
  std::function<void(size_t done, size_t total)> on_smoothing = {};  // norms that are looked at, before all else
  std::function<bool()> cancelled = {};                              // asked now and then; true ends the work
};

struct QuantizeSummary {
  size_t bytes = 0;         // of the file
  size_t tensor_bytes = 0;  // of its tensors
  size_t tensors = 0;
  size_t changed = 0;                    // tensors that have another type than before
  size_t resumed = 0;                    // tensors that were there already
  size_t smoothed = 0;                   // norms
  size_t compensated = 0;                // matrices of this run that made up for their errors
  size_t of_type = 0;                    // matrices in the type that was asked for, changed or not
  std::vector<std::string> other_types;  // "N in NAME", of the other matrices: blocks did not fit, or rules said so
};

// What a source is told by: the sizes, times and places of its files, and bytes of each tensor.
uint64_t fingerprint_of(const model::Checkpoint& source);

// Of that and all that decides what becomes of it but for types, which are compared by themselves: the same goes on
// with the same unfinished file. `version` is that of the program, whose roundings may change.
uint64_t fingerprint_of(const model::Checkpoint& source, const QuantizeOptions& options, std::string_view version);

// Tensors that may make up for their errors with a calibration: all for which it is asked for a compensation. With
// `bits` types are not known yet, and it is most matrices. Errors: those of plan_types().
base::Result<std::set<std::string, std::less<>>> compensated_tensors(const model::Checkpoint& source,
                                                                     const QuantizeOptions& options);

// What quantize_model() would refuse before it reads a weight, and a calibration that wants room on the same disk: for
// who would calibrate first. With `bits` types are not known yet, and of the file's size only what is its least.
base::Result<void> check_quantization(const model::Checkpoint& source, const std::filesystem::path& path,
                                      const QuantizeOptions& options);

// Writes `path`. The file appears under its name when it is whole. Work that stops half-way, by `cancelled` or for want
// of memory or of space on the disk, leaves its parts beside it and goes on there when it is asked for the same again;
// everything else that fails leaves nothing. Never more than the largest tensor and some slices are in memory, and
// what a calibration has of the tensor's input and of some others. Errors: `corrupt` naming a tensor of numbers that
// are not finite or that the type cannot hold, or where metadata and tensors contradict each other; `unsupported` for
// packed files; `invalid_argument` where a file of the source, or one of the options' inputs, would be overwritten, and
// those of plan_types() and PartialFile; `cancelled`; `io`; `exhausted`.
base::Result<QuantizeSummary> quantize_model(const model::Checkpoint& source, const std::filesystem::path& path,
                                             const QuantizeOptions& options);

}  // namespace tidemill::quantize
