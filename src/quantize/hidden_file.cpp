#include "quantize/hidden_file.hpp"

#include <cassert>
#include <span>

namespace tidemill::quantize {

using base::Result;

namespace {

constexpr const char* kHiddenStates = "the hidden states that calibrating keeps on the disk";

template <typename T>
std::span<T> numbers_of(tensor::MatrixView<T> rows) {
  assert(rows.stride == rows.cols);
  return {rows.data, static_cast<size_t>(rows.rows * rows.cols)};
}

}  // namespace

Result<HiddenFile> HiddenFile::create(const std::filesystem::path& folder, int64_t rows, int64_t width) {
  auto file = base::NamelessFile::create(folder);
  if (!file) return std::move(file).error().wrap(kHiddenStates);
  HiddenFile made(std::move(*file), width);
  if (auto claimed = made.file_.claim(made.place_of(rows)); !claimed) {
    return std::move(claimed).error().wrap(kHiddenStates);
  }
  return made;
}

Result<void> HiddenFile::write(int64_t first, tensor::ConstMatrix rows) const {
  assert(rows.cols == width_);
  auto written = file_.write_at(std::as_bytes(numbers_of(rows)), place_of(first));
  if (!written) return std::move(written).error().wrap(kHiddenStates);
  return {};
}

Result<void> HiddenFile::read(int64_t first, tensor::Matrix rows) const {
  assert(rows.cols == width_);
  auto read = file_.read_at(std::as_writable_bytes(numbers_of(rows)), place_of(first));
  if (!read) return std::move(read).error().wrap(kHiddenStates);
  return {};
}

}  // namespace tidemill::quantize
