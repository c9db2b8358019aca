// A checkpoint's tensors, as floats or as they are stored, a slice of rows at a time: what writes a model in another
// form reads it so, and needs the memory of one slice, or of one tensor where the checkpoint has it in another form.
// Pages of the files are released behind it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/memory.hpp"
#include "base/result.hpp"
#include "base/thread_team.hpp"
#include "model/checkpoint.hpp"

namespace tidemill::model {

struct RowSlice {
  int64_t first = 0;  // row
  int64_t rows = 0;
  std::span<const std::byte> bytes;  // as the checkpoint has them
  std::span<float> values;  // the same, [rows][cols], where they are read as floats; the callee may change them
};

// Not thread-safe. `source` must outlive it.
class TensorRows {
 public:
  // Slices have about so many elements, whole rows and at least one.
  explicit TensorRows(const Checkpoint& source, int64_t slice_elements = int64_t{4} << 20)
      : source_(source), slice_elements_(slice_elements) {}

  // Gives the tensor's slices in order, until one fails. Errors: the callee's; `corrupt`, naming tensor and element,
  // where a number is not finite; `exhausted`.
  using Take = base::FunctionRef<base::Result<void>(const RowSlice&)>;
  base::Result<void> read(const GgufTensor& tensor, Take take);
  // The same without floats, for what stays as it is.
  base::Result<void> read_stored(const GgufTensor& tensor, Take take);

 private:
  base::Result<void> walk(const GgufTensor& tensor, bool as_floats, Take take);

  const Checkpoint& source_;
  int64_t slice_elements_;
  base::Buffer made_;  // of the tensor that is being read, where the source has it in another form
  std::vector<float> values_;
};

}  // namespace tidemill::model
