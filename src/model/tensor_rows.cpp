#include "model/tensor_rows.hpp"

#include <algorithm>

#include "model/finite.hpp"

namespace tidemill::model {

using base::Result;

Result<void> TensorRows::read(const GgufTensor& tensor, Take take) {
  return walk(tensor, true, take);
}

Result<void> TensorRows::read_stored(const GgufTensor& tensor, Take take) {
  return walk(tensor, false, take);
}

Result<void> TensorRows::walk(const GgufTensor& tensor, bool as_floats, Take take) {
  TM_TRY(const auto bytes, source_.read(tensor, made_));
  if (tensor.make) source_.release(tensor);  // what it was made of
  const int64_t row_bytes = tensor::row_bytes(tensor.type, tensor.cols());
  const int64_t step = std::max<int64_t>(1, slice_elements_ / std::max<int64_t>(1, tensor.cols()));
  for (int64_t row = 0; row < tensor.rows(); row += step) {
    const int64_t rows = std::min(step, tensor.rows() - row);
    const auto slice = bytes.subspan(static_cast<size_t>(row * row_bytes), static_cast<size_t>(rows * row_bytes));
    TM_CHECK(check_finite(source_, tensor, slice, row * tensor.cols(), nullptr));
    values_.resize(as_floats ? static_cast<size_t>(rows * tensor.cols()) : 0);
    if (as_floats) tensor::dequantize(tensor.type, slice.data(), rows * tensor.cols(), values_.data());
    TM_CHECK(take(RowSlice{row, rows, slice, values_}));
    // From the tensor's beginning: the page that two slices share goes with the second.
    source_.release(bytes.first(static_cast<size_t>((row + rows) * row_bytes)));
  }
  return {};
}

}  // namespace tidemill::model
