#include "model/gguf_writer.hpp"

#include <array>
#include <cassert>
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "base/file.hpp"
#include "base/ids.hpp"

namespace tidemill::model {
namespace {

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

GgufWriter::~GgufWriter() {
  if (fd_ >= 0) ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
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

void GgufWriter::declare_tensor(std::string_view name, tensor::DType type, std::span<const int64_t> shape) {
  assert(!shape.empty() && shape.size() <= 4);
  put_string(tensor_records_, name);
  put(tensor_records_, static_cast<uint32_t>(shape.size()));
  int64_t rows = 1;
  for (size_t d = 0; d < shape.size(); ++d) {
    put(tensor_records_, static_cast<uint64_t>(shape[d]));
    if (d > 0) rows *= shape[d];
  }
  put(tensor_records_, tensor::info(type).ggml_type);
  put(tensor_records_, next_offset_);
  const auto bytes = static_cast<uint64_t>(rows * tensor::row_bytes(type, shape[0]));
  sizes_.push_back(bytes);
  next_offset_ += bytes + padding(bytes, kAlignment);
}

uint64_t GgufWriter::tensor_bytes() const {
  uint64_t sum = 0;
  for (const uint64_t size : sizes_)
    sum += size;
  return sum;
}

base::Result<void> GgufWriter::begin(const std::filesystem::path& path) {
  assert(fd_ < 0 && final_path_.empty());
  std::filesystem::path temporary = path;
  temporary += "." + base::random_hex(6) + ".tmp";
  fd_ = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) return base::system_error("cannot create", temporary);
  temporary_ = std::move(temporary);
  final_path_ = path;

  std::string header = "GGUF";
  put<uint32_t>(header, 3);
  put<uint64_t>(header, sizes_.size());
  put<uint64_t>(header, metadata_count_);
  TM_CHECK(write_raw(std::as_bytes(std::span(header))));
  TM_CHECK(write_raw(std::as_bytes(std::span(metadata_))));
  TM_CHECK(write_raw(std::as_bytes(std::span(tensor_records_))));
  return pad();
}

base::Result<void> GgufWriter::write(std::span<const std::byte> bytes) {
  assert(fd_ >= 0 && current_ < sizes_.size() && bytes.size() <= sizes_[current_] - current_done_);
  TM_CHECK(write_raw(bytes));
  current_done_ += bytes.size();
  if (current_done_ < sizes_[current_]) return {};
  ++current_;
  current_done_ = 0;
  return pad();
}

base::Result<void> GgufWriter::finish() {
  assert(fd_ >= 0 && current_ == sizes_.size());
  const bool flushed = ::fsync(fd_) == 0;
  const bool closed = ::close(std::exchange(fd_, -1)) == 0;
  if (!flushed || !closed || ::rename(temporary_.c_str(), final_path_.c_str()) != 0) {
    return base::system_error("cannot write", final_path_);
  }
  temporary_.clear();
  return {};
}

base::Result<void> GgufWriter::write_raw(std::span<const std::byte> bytes) {
  written_ += bytes.size();
  while (!bytes.empty()) {
    const ssize_t put_now = ::write(fd_, bytes.data(), bytes.size());
    if (put_now < 0 && errno == EINTR) continue;
    if (put_now < 0) return base::system_error("cannot write", final_path_);
    bytes = bytes.subspan(static_cast<size_t>(put_now));
  }
  return {};
}

base::Result<void> GgufWriter::pad() {
  constexpr std::array<std::byte, kAlignment> zeros{};
  return write_raw(std::span(zeros).first(padding(written_, kAlignment)));
}

}  // namespace tidemill::model
