#include "model/key_reader.hpp"

#include <limits>

#include <fmt/format.h>

namespace tidemill::model {

using base::ErrorCode;
using base::Result;

Result<int64_t> KeyReader::count(std::string_view name, int64_t most) const {
  TM_TRY(const int64_t value, file_.get_int(key(name)));
  return in_range(name, value, most);
}

Result<int64_t> KeyReader::count_or(std::string_view name, int64_t most, int64_t fallback) const {
  TM_TRY(const int64_t value, file_.get_int_or(key(name), fallback));
  return in_range(name, value, most);
}

Result<double> KeyReader::positive(std::string_view name) const {
  TM_TRY(const double value, file_.get_float(key(name)));
  // NaN is in no range.
  if (value >= std::numeric_limits<float>::min() && value <= std::numeric_limits<float>::max()) return value;
  return file_.error(
      ErrorCode::corrupt,
      fmt::format("metadata key '{}' is {}; expected a positive number of F32's range", key(name), value));
}

Result<double> KeyReader::positive_or(std::string_view name, double fallback) const {
  if (!has(name)) return fallback;
  return positive(name);
}

Result<float> KeyReader::factor_or(std::string_view name, float fallback) const {
  TM_TRY(const double value, file_.get_float_or(key(name), 0));
  if (value == 0) return fallback;
  TM_TRY(const double factor, positive(name));
  return static_cast<float>(factor);
}

Result<int64_t> KeyReader::in_range(std::string_view name, int64_t value, int64_t most) const {
  if (value >= 1 && value <= most) return value;
  return file_.error(ErrorCode::corrupt,
                     fmt::format("metadata key '{}' is {}; expected 1 to {}", key(name), value, most));
}

}  // namespace tidemill::model
