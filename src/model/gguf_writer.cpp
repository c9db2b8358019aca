#include "model/gguf_writer.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>
#include <fcntl.h>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/positioned_io.hpp"

namespace tidemill::model {
namespace {

constexpr uint64_t kStretch = uint64_t{4} << 20;

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_string(std::string& out, std::string_view text) {
  put<uint64_t>(out, text.size());
  out += text;
}

uint64_t padding(uint64_t at, uint64_t alignment) {
  return (alignment - at % alignment) % alignment;
}

}  // namespace

base::Result<std::filesystem::path> target_of(const std::filesystem::path& path) {
  if (path.empty()) {
    return base::Error(base::ErrorCode::invalid_argument, "the name of the output is empty; it should name a file");
  }
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    return base::Error(base::ErrorCode::io,
                       fmt::format("'{}' is a folder, device or pipe; a model is written to a file", path.string()));
  }
  return base::behind_links(path);
}

void GgufWriter::add_key(std::string_view key, GgufType type) {
  put_string(metadata_, key);
  put(metadata_, static_cast<uint32_t>(type));
  ++metadata_count_;
}

void GgufWriter::add_u32(std::string_view key, uint32_t value) {
  add_key(key, GgufType::u32);
  put(metadata_, value);
}

void GgufWriter::add_u64(std::string_view key, uint64_t value) {
  add_key(key, GgufType::u64);
  put(metadata_, value);
}

void GgufWriter::add_f32(std::string_view key, float value) {
  add_key(key, GgufType::f32);
  put(metadata_, value);
}

void GgufWriter::add_bool(std::string_view key, bool value) {
  add_key(key, GgufType::boolean);
  put<uint8_t>(metadata_, value ? 1 : 0);
}

void GgufWriter::add_string(std::string_view key, std::string_view value) {
  add_key(key, GgufType::string);
  put_string(metadata_, value);
}

void GgufWriter::add_strings(std::string_view key, std::span<const std::string> values) {
  add_key(key, GgufType::array);
  put(metadata_, static_cast<uint32_t>(GgufType::string));
  put<uint64_t>(metadata_, values.size());
  for (const std::string& value : values)
    put_string(metadata_, value);
}

void GgufWriter::add_floats(std::string_view key, std::span<const float> values) {
  add_key(key, GgufType::array);
  put(metadata_, static_cast<uint32_t>(GgufType::f32));
  put<uint64_t>(metadata_, values.size());
  for (const float value : values)
    put(metadata_, value);
}

void GgufWriter::add_ints(std::string_view key, std::span<const int32_t> values) {
  add_key(key, GgufType::array);
  put(metadata_, static_cast<uint32_t>(GgufType::i32));
  put<uint64_t>(metadata_, values.size());
  for (const int32_t value : values)
    put(metadata_, value);
}

void GgufWriter::add_u64s(std::string_view key, std::span<const uint64_t> values) {
  add_key(key, GgufType::array);
  put(metadata_, static_cast<uint32_t>(GgufType::u64));
  put<uint64_t>(metadata_, values.size());
  for (const uint64_t value : values)
    put(metadata_, value);
}

void GgufWriter::add_bytes(std::string_view key, std::string_view values) {
  add_key(key, GgufType::array);
  put(metadata_, static_cast<uint32_t>(GgufType::u8));
  put<uint64_t>(metadata_, values.size());
  metadata_ += values;
}

void GgufWriter::add(const GgufEntry& entry) {
  const GgufValue& value = entry.value;
  add_key(entry.key, value.type);
  if (value.type == GgufType::array) {
    put(metadata_, static_cast<uint32_t>(value.element));
    put<uint64_t>(metadata_, value.count);
  } else if (value.type == GgufType::string) {
    put<uint64_t>(metadata_, value.payload.size());
  }
  metadata_.append(reinterpret_cast<const char*>(value.payload.data()), value.payload.size());
}

void GgufWriter::set_alignment(uint32_t alignment) {
  assert(std::has_single_bit(alignment) && sizes_.empty());
  add_u32("general.alignment", alignment);
  alignment_ = alignment;
}

void GgufWriter::declare_tensor(std::string_view name, tensor::DType type, std::span<const int64_t> shape) {
  int64_t rows = 1;
  for (size_t d = 1; d < shape.size(); ++d)
    rows *= shape[d];
  declare(name, shape, tensor::info(type).ggml_type, static_cast<uint64_t>(rows * tensor::row_bytes(type, shape[0])));
}

void GgufWriter::declare_bytes(std::string_view name, uint64_t bytes) {
  constexpr uint32_t i8 = 24;
  const auto extent = static_cast<int64_t>(bytes);
  declare(name, std::span(&extent, 1), i8, bytes);
}

void GgufWriter::declare(std::string_view name, std::span<const int64_t> shape, uint32_t ggml_type, uint64_t bytes) {
  assert(!shape.empty() && shape.size() <= 4);
  put_string(tensor_records_, name);
  put(tensor_records_, static_cast<uint32_t>(shape.size()));
  for (const int64_t extent : shape)
    put(tensor_records_, static_cast<uint64_t>(extent));
  put(tensor_records_, ggml_type);
  put(tensor_records_, next_offset_);
  sizes_.push_back(bytes);
  next_offset_ += bytes + padding(bytes, alignment_);
}

uint64_t GgufWriter::tensor_bytes() const {
  uint64_t sum = 0;
  for (const uint64_t size : sizes_)
    sum += size;
  return sum;
}

std::string GgufWriter::header() const {
  std::string header = "GGUF";
  put<uint32_t>(header, 3);
  put<uint64_t>(header, sizes_.size());
  put<uint64_t>(header, metadata_count_);
  header += metadata_;
  header += tensor_records_;
  header.append(padding(header.size(), alignment_), '\0');
  return header;
}

base::Result<void> GgufWriter::begin(const std::filesystem::path& path) {
  assert(!file_ && final_path_.empty());
  TM_TRY(final_path_, target_of(path));
  TM_TRY(base::NewFile file, base::NewFile::create(final_path_, 0666));
  file_.emplace(std::move(file));
  const std::string first = header();
  header_bytes_ = first.size();
  TM_CHECK(claim_space());
  return write_raw(std::as_bytes(std::span(first)));
}

// A disk that is too small says so here, instead of after minutes of writing.
base::Result<void> GgufWriter::claim_space() const {
  const uint64_t total = header_bytes_ + next_offset_;
  if (::fallocate(file_->fd(), 0, 0, static_cast<off_t>(total)) == 0) return {};
  if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG)
    return {};  // the file system cannot do it, or something else
  return base::system_error(fmt::format("cannot claim {} bytes on the disk for", total), final_path_);
}

base::Result<void> GgufWriter::replace_header(std::string_view header) {
  assert(file_ && header.size() == header_bytes_);
  TM_CHECK(write_waiting());
  return base::write_at(file_->fd(), std::as_bytes(std::span(header)), 0, final_path_);
}

base::Result<void> GgufWriter::write(std::span<const std::byte> bytes) {
  assert(file_ && current_ < sizes_.size() && bytes.size() <= sizes_[current_] - current_done_);
  TM_CHECK(write_raw(bytes));
  current_done_ += bytes.size();
  if (current_done_ < sizes_[current_]) return {};
  ++current_;
  current_done_ = 0;
  return pad();
}

base::Result<void> GgufWriter::finish() {
  assert(file_ && current_ == sizes_.size());
  TM_CHECK(write_waiting());
  return file_->finish();
}

base::Result<void> GgufWriter::write_raw(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto n = static_cast<size_t>(std::min<uint64_t>(bytes.size(), kStretch - written_ % kStretch));
    waiting_.insert(waiting_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
    written_ += n;
    bytes = bytes.subspan(n);
    if (written_ % kStretch == 0) TM_CHECK(write_waiting());
  }
  return {};
}

base::Result<void> GgufWriter::write_waiting() {
  const std::string_view waiting(reinterpret_cast<const char*>(waiting_.data()), waiting_.size());
  TM_CHECK(base::write_all(file_->fd(), waiting, final_path_));
  waiting_.clear();
  return {};
}

base::Result<void> GgufWriter::pad() {
  const std::vector<std::byte> zeros(padding(written_, alignment_));
  return write_raw(zeros);
}

}  // namespace tidemill::model
