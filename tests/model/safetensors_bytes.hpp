// safetensors files built for tests, without the code under test.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace tidemill::test {

// A file of this header and these data.
inline std::string safetensors_file(std::string_view header, std::string_view data) {
  const uint64_t length = header.size();
  std::string file(reinterpret_cast<const char*>(&length), sizeof length);
  return file.append(header).append(data);
}

// One tensor after another, each where the last one ends.
class SafetensorsBytes {
 public:
  // `shape` is outermost first.
  SafetensorsBytes& add(std::string_view name, std::string_view dtype, const std::vector<int64_t>& shape,
                        std::string_view bytes) {
    header_ += fmt::format(R"({}"{}": {{"dtype": "{}", "shape": [{}], "data_offsets": [{}, {}]}})",
                           header_.empty() ? "" : ", ", name, dtype, fmt::join(shape, ", "), data_.size(),
                           data_.size() + bytes.size());
    data_ += bytes;
    return *this;
  }
  // `pad` spaces behind the header, as writers align the data.
  std::string file(size_t pad = 0) const {
    return safetensors_file("{" + header_ + "}" + std::string(pad, ' '), data_);
  }

 private:
  std::string header_;
  std::string data_;
};

}  // namespace tidemill::test
