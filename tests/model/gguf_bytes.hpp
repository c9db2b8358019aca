// GGUF files built byte by byte for tests, without the code under test.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tidemill::test {

// Appends values in the file's byte order (the host's: tests run on little-endian machines).
class Bytes {
 public:
  template <typename T>
  Bytes& put(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& raw(std::string_view text) {
    text_ += text;
    return *this;
  }
  Bytes& string(std::string_view text) { return put<uint64_t>(text.size()).raw(text); }
  Bytes& pad_to(size_t alignment) {
    while (text_.size() % alignment != 0)
      text_ += '\0';
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

struct RawTensor {
  std::string name;
  std::vector<uint64_t> shape;
  uint32_t type = 0;
  uint64_t offset = 0;
};

// A whole file: `metadata` holds `metadata_count` entries as bytes, `data` follows at the next multiple of `alignment`.
inline std::string gguf_file(uint64_t metadata_count, const Bytes& metadata, const std::vector<RawTensor>& tensors,
                             std::string_view data, uint32_t version = 3, size_t alignment = 32) {
  Bytes file;
  file.raw("GGUF")
      .put<uint32_t>(version)
      .put<uint64_t>(tensors.size())
      .put<uint64_t>(metadata_count)
      .raw(metadata.text());
  for (const RawTensor& tensor : tensors) {
    file.string(tensor.name).put<uint32_t>(static_cast<uint32_t>(tensor.shape.size()));
    for (const uint64_t extent : tensor.shape)
      file.put(extent);
    file.put(tensor.type).put(tensor.offset);
  }
  if (!tensors.empty()) file.pad_to(alignment).raw(data);
  return file.text();
}

inline std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

}  // namespace tidemill::test
