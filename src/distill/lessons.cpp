#include "distill/lessons.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "tensor/dtype.hpp"

namespace tidemill::distill {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr size_t kHeaderBytes = 128;

template <typename T>
void append(std::string& out, std::span<const T> values) {
  out.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

}  // namespace

TextWindows::TextWindows(std::span<const Token> text, std::span<const Token> lead, int64_t length)
    : text_(text), lead_(lead), length_(length) {
  assert(length >= 1 && lead.size() <= 1);
  // Tokens that something stands before.
  const auto predicted = static_cast<int64_t>(text.size() + lead.size()) - 1;
  count_ = std::max<int64_t>(0, predicted / length);
}

void TextWindows::read(int64_t index, std::span<Token> out) const {
  assert(index >= 0 && index < count_ && static_cast<int64_t>(out.size()) == length_ + 1);
  std::ranges::copy(lead_, out.begin());
  const std::span<const Token> from = text_.subspan(static_cast<size_t>(index * length_), out.size() - lead_.size());
  std::ranges::copy(from, out.begin() + static_cast<int64_t>(lead_.size()));
}

void TextLessons::read(int64_t index, std::span<Token> tokens, std::span<int32_t> /*expected*/,
                       std::span<float> /*probabilities*/) const {
  windows_.read(index, tokens);
}

std::string LessonFormat::header() const {
  std::string text =
      fmt::format("tidemill lessons 1: {} windows of {}, {} kept, {:016x}", count, length, kept, fingerprint);
  assert(text.size() < kHeaderBytes);
  text.resize(kHeaderBytes, '\n');
  return text;
}

size_t LessonFormat::record_bytes() const {
  return static_cast<size_t>(length + 1) * sizeof(Token) +
         static_cast<size_t>(length * kept) * (sizeof(int32_t) + sizeof(uint16_t));
}

std::string LessonFormat::record(std::span<const Token> tokens, const Expectations& expectations) const {
  std::string bytes;
  bytes.reserve(record_bytes());
  append(bytes, tokens);
  append(bytes, std::span<const int32_t>(expectations.tokens));
  std::vector<uint16_t> halves(expectations.probabilities.size());
  std::ranges::transform(expectations.probabilities, halves.begin(), tensor::f32_to_f16);
  append(bytes, std::span<const uint16_t>(halves));
  assert(bytes.size() == record_bytes());
  return bytes;
}

LessonFile::LessonFile(base::MappedFile file, const LessonFormat& format)
    : file_(std::move(file)), format_(format), header_bytes_(format.header().size()) {}

Result<std::unique_ptr<LessonFile>> LessonFile::open(const std::filesystem::path& path, const LessonFormat& format) {
  TM_TRY(base::MappedFile file, base::MappedFile::open(path));
  const std::string header = format.header();
  const std::span<const std::byte> bytes = file.bytes();
  if (bytes.size() < header.size() || std::memcmp(bytes.data(), header.data(), header.size()) != 0) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("'{}' holds no lessons of this teacher on this text; move it, or keep these under another "
                             "name",
                             path.string()));
  }
  const size_t wanted = header.size() + static_cast<size_t>(format.count) * format.record_bytes();
  if (bytes.size() != wanted) {
    return Error(ErrorCode::corrupt, fmt::format("'{}' has {} bytes, and lessons of its kind have {}; remove it",
                                                 path.string(), bytes.size(), wanted));
  }
  return std::unique_ptr<LessonFile>(new LessonFile(std::move(file), format));
}

void LessonFile::read(int64_t index, std::span<Token> tokens, std::span<int32_t> expected,
                      std::span<float> probabilities) const {
  assert(index >= 0 && index < format_.count);
  const std::byte* at = file_.bytes().data() + header_bytes_ + static_cast<size_t>(index) * format_.record_bytes();
  std::memcpy(tokens.data(), at, tokens.size_bytes());
  at += tokens.size_bytes();
  std::memcpy(expected.data(), at, expected.size_bytes());
  at += expected.size_bytes();
  for (float& probability : probabilities) {
    uint16_t half = 0;
    std::memcpy(&half, at, sizeof half);
    probability = tensor::f16_to_f32(half);
    at += sizeof half;
  }
}

}  // namespace tidemill::distill
