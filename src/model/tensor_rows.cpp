#include "model/tensor_rows.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace tidemill::model {

using base::Result;

Result<void> TensorRows::read(const GgufTensor& tensor, base::FunctionRef<Result<void>(const RowSlice&)> take) {
  TM_TRY(const auto bytes, source_.read(tensor, made_));
  const int64_t row_bytes = tensor::row_bytes(tensor.type, tensor.cols());
  const int64_t step = std::max<int64_t>(1, slice_elements_ / std::max<int64_t>(1, tensor.cols()));
  for (int64_t row = 0; row < tensor.rows(); row += step) {
    const int64_t rows = std::min(step, tensor.rows() - row);
    const auto slice = bytes.subspan(static_cast<size_t>(row * row_bytes), static_cast<size_t>(rows * row_bytes));
    values_.resize(static_cast<size_t>(rows * tensor.cols()));
    tensor::dequantize(tensor.type, slice.data(), rows * tensor.cols(), values_.data());
    TM_CHECK(check_finite(tensor, row * tensor.cols()));
    TM_CHECK(take(RowSlice{row, rows, slice, values_}));
  }
  return {};
}

Result<void> TensorRows::check_finite(const GgufTensor& tensor, int64_t first_element) const {
  const auto odd = std::find_if(values_.begin(), values_.end(), [](float value) { return !std::isfinite(value); });
  if (odd == values_.end()) return {};
  return source_.error(base::ErrorCode::corrupt,
                       fmt::format("{} holds {} at element {}; weights are finite numbers", tensor.title(), *odd,
                                   first_element + (odd - values_.begin())));
}

}  // namespace tidemill::model
