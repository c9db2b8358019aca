// The hidden states of a text between two parts of a model: on the disk, since those of many tokens are larger than a
// layer. The file has no name, so that nothing of it is left by whatever end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <utility>

#include "base/nameless_file.hpp"
#include "base/result.hpp"
#include "tensor/device.hpp"

namespace tidemill::quantize {

// Movable. Not thread-safe.
class HiddenFile {
 public:
  // For `rows` rows of `width` floats, which are claimed on the folder's disk where the file system can. Errors: `io`
  // and `not_found` with the system's reason, naming the folder.
  static base::Result<HiddenFile> create(const std::filesystem::path& folder, int64_t rows, int64_t width);

  // Rows from `first` on, [rows][width], dense. Errors of both: `io`.
  base::Result<void> write(int64_t first, tensor::ConstMatrix rows) const;
  base::Result<void> read(int64_t first, tensor::Matrix rows) const;

 private:
  HiddenFile(base::NamelessFile file, int64_t width) : file_(std::move(file)), width_(width) {}
  uint64_t place_of(int64_t row) const { return static_cast<uint64_t>(row * width_) * sizeof(float); }

  base::NamelessFile file_;
  int64_t width_;
};

}  // namespace tidemill::quantize
