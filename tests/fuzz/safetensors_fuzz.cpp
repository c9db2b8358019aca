// Any bytes as a safetensors file: refused with a reason, or every tensor is found and the tensors' data fill the file.
#include <cstdint>
#include <span>

#include "fuzz/invariant.hpp"
#include "model/safetensors.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
using test::require;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = model::SafetensorsFile::parse(std::as_bytes(std::span(data, size)), "fuzz.safetensors");
  if (!file) {
    require(!file.error().message().empty(), "a refusal says why");
    return 0;
  }
  size_t at = file->header_bytes();
  unsigned sum = 0;
  for (const model::SafetensorsTensor& tensor : file->tensors()) {
    require(file->find(tensor.name) == &tensor, "every tensor is found, and is there once");
    require(!tensor.data.empty() && tensor.data.data() == reinterpret_cast<const std::byte*>(data) + at,
            "tensors follow each other");
    int64_t elements = 1;
    for (const int64_t extent : tensor.shape)
      elements *= extent;
    require(static_cast<size_t>(elements) <= tensor.data.size(), "an element takes a byte at least");
    for (const std::byte byte : tensor.data)
      sum += static_cast<unsigned>(byte);
    at += tensor.data.size();
  }
  require(at == size && sum <= size * 255, "the data fill the file");
  return 0;
}
