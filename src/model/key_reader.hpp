// The metadata keys of one architecture, "<architecture>.*", as numbers in range.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "model/checkpoint.hpp"

namespace tidemill::model {

// Errors name the file and the key: `not_found`, or `corrupt` for another type or a number out of range.
class KeyReader {
 public:
  // The file must outlive the reader.
  KeyReader(const Checkpoint& file, std::string_view architecture)
      : file_(file), prefix_(std::string(architecture) + ".") {}

  const Checkpoint& file() const { return file_; }
  std::string key(std::string_view name) const { return prefix_ + std::string(name); }
  bool has(std::string_view name) const { return file_.find(key(name)) != nullptr; }

  // An integer of 1 to `most`.
  base::Result<int64_t> count(std::string_view name, int64_t most) const;
  base::Result<int64_t> count_or(std::string_view name, int64_t most, int64_t fallback) const;

  // A positive, finite number that as F32 is as well, and one over it too: files may have F64.
  base::Result<double> positive(std::string_view name) const;
  base::Result<double> positive_or(std::string_view name, double fallback) const;
  // The same, where 0 says that there is none, as an absent key does.
  base::Result<float> factor_or(std::string_view name, float fallback) const;

 private:
  base::Result<int64_t> in_range(std::string_view name, int64_t value, int64_t most) const;

  const Checkpoint& file_;
  std::string prefix_;
};

}  // namespace tidemill::model
