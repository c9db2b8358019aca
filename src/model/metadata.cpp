#include "model/metadata.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "base/utf8.hpp"

namespace tidemill::model {

static_assert(std::endian::native == std::endian::little, "GGUF values are read in place, little-endian");

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

template <typename T>
T value_at(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

std::string_view characters_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// An integer element as int64; no value if the type is not an integer or the value does not fit.
std::optional<int64_t> integer_at(GgufType type, const std::byte* at) {
  switch (type) {
    case GgufType::u8:
    case GgufType::boolean:
      return value_at<uint8_t>(at);
    case GgufType::i8:
      return value_at<int8_t>(at);
    case GgufType::u16:
      return value_at<uint16_t>(at);
    case GgufType::i16:
      return value_at<int16_t>(at);
    case GgufType::u32:
      return value_at<uint32_t>(at);
    case GgufType::i32:
      return value_at<int32_t>(at);
    case GgufType::i64:
      return value_at<int64_t>(at);
    case GgufType::u64: {
      const auto value = value_at<uint64_t>(at);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> number_at(GgufType type, const std::byte* at) {
  if (type == GgufType::f32) return value_at<float>(at);
  if (type == GgufType::f64) return value_at<double>(at);
  if (type == GgufType::boolean) return std::nullopt;
  if (auto value = integer_at(type, at)) return static_cast<double>(*value);
  return std::nullopt;
}

std::string type_text(const GgufValue& value) {
  if (value.type != GgufType::array) return std::string(to_string(value.type));
  return fmt::format("array of {} {}", value.count, to_string(value.element));
}

std::string scalar_text(GgufType type, const std::byte* at) {
  if (type == GgufType::f32 || type == GgufType::f64) return fmt::format("{}", *number_at(type, at));
  if (type == GgufType::boolean) return value_at<uint8_t>(at) != 0 ? "true" : "false";
  if (type == GgufType::u64) return fmt::format("{}", value_at<uint64_t>(at));
  return fmt::format("{}", *integer_at(type, at));
}

}  // namespace

std::string_view to_string(GgufType type) {
  constexpr std::array<std::string_view, 13> names = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                      "bool", "string", "array", "u64", "i64", "f64"};
  const auto number = static_cast<size_t>(type);
  return number < names.size() ? names[number] : "unknown";
}

size_t fixed_size(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
      return 8;
    case GgufType::string:
    case GgufType::array:
      return 0;
  }
  return 0;
}

std::string printable(std::string_view text, size_t limit) {
  return base::utf8::printable(text, limit);
}

std::string GgufValue::describe(size_t limit) const {
  if (type == GgufType::string) return '"' + printable(characters_of(payload), limit) + '"';
  if (type != GgufType::array) return scalar_text(type, payload.data());
  std::string out = type_text(*this);
  if (element == GgufType::array) return out;
  out += " [";
  const std::byte* at = payload.data();
  for (uint64_t i = 0; i < count; ++i) {
    if (i > 0) out += ", ";
    if (i == 8 || out.size() > limit) {
      out += "...";
      break;
    }
    if (element == GgufType::string) {
      const auto length = value_at<uint64_t>(at);
      out += '"' + printable({reinterpret_cast<const char*>(at + 8), length}, 24) + '"';
      at += 8 + length;
    } else {
      out += scalar_text(element, at);
      at += fixed_size(element);
    }
  }
  return out + "]";
}

Error Metadata::error(ErrorCode code, std::string message) const {
  return Error(code, fmt::format("{}: {}", path_.string(), message));
}

bool Metadata::add(const GgufEntry& entry) {
  if (!index_.emplace(entry.key, entries_.size()).second) return false;
  entries_.push_back(entry);
  return true;
}

void Metadata::reserve_entries(size_t count) {
  entries_.reserve(count);
  index_.reserve(count);
}

const GgufValue* Metadata::find(std::string_view key) const {
  const auto found = index_.find(key);
  return found == index_.end() ? nullptr : &entries_[found->second].value;
}

Result<const GgufValue*> Metadata::require(std::string_view key) const {
  if (const GgufValue* value = find(key)) return value;
  return error(ErrorCode::not_found, fmt::format("metadata key '{}' is missing", printable(key)));
}

Result<const GgufValue*> Metadata::require_array(std::string_view key) const {
  TM_TRY(const GgufValue* value, require(key));
  if (value->type == GgufType::array) return value;
  return error(ErrorCode::corrupt,
               fmt::format("metadata key '{}' is of type {}; expected an array", printable(key), type_text(*value)));
}

Result<int64_t> Metadata::get_int(std::string_view key) const {
  TM_TRY(const GgufValue* value, require(key));
  if (value->type != GgufType::boolean && value->type != GgufType::array) {
    if (const auto integer = integer_at(value->type, value->payload.data())) return *integer;
  }
  return error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {} ({}); expected an integer", printable(key),
                                               value->describe(), type_text(*value)));
}

Result<uint32_t> Metadata::get_u32(std::string_view key) const {
  TM_TRY(const int64_t value, get_int(key));
  if (value >= 0 && value <= std::numeric_limits<uint32_t>::max()) return static_cast<uint32_t>(value);
  return error(ErrorCode::corrupt,
               fmt::format("metadata key '{}' is {}; expected 0 to 4294967295", printable(key), value));
}

Result<double> Metadata::get_float(std::string_view key) const {
  TM_TRY(const GgufValue* value, require(key));
  if (value->type != GgufType::array) {
    if (const auto number = number_at(value->type, value->payload.data())) return *number;
  }
  return error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {} ({}); expected a number", printable(key),
                                               value->describe(), type_text(*value)));
}

Result<bool> Metadata::get_bool(std::string_view key) const {
  TM_TRY(const GgufValue* value, require(key));
  if (value->type != GgufType::array) {
    const auto integer = integer_at(value->type, value->payload.data());
    if (integer && (*integer == 0 || *integer == 1)) return *integer == 1;
  }
  return error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {} ({}); expected true or false", printable(key),
                                               value->describe(), type_text(*value)));
}

Result<std::string_view> Metadata::get_string(std::string_view key) const {
  TM_TRY(const GgufValue* value, require(key));
  if (value->type == GgufType::string) return characters_of(value->payload);
  return error(ErrorCode::corrupt,
               fmt::format("metadata key '{}' is of type {}; expected a string", printable(key), type_text(*value)));
}

Result<std::vector<std::string_view>> Metadata::get_strings(std::string_view key) const {
  TM_TRY(const GgufValue* value, require_array(key));
  if (value->element != GgufType::string) {
    return error(ErrorCode::corrupt, fmt::format("metadata key '{}' is an {}; expected an array of strings",
                                                 printable(key), type_text(*value)));
  }
  std::vector<std::string_view> strings;
  strings.reserve(value->count);
  for (const std::byte* at = value->payload.data(); strings.size() < value->count;) {
    const auto length = value_at<uint64_t>(at);
    strings.emplace_back(reinterpret_cast<const char*>(at + 8), length);
    at += 8 + length;
  }
  return strings;
}

Result<std::vector<float>> Metadata::get_floats(std::string_view key) const {
  TM_TRY(const GgufValue* value, require_array(key));
  std::vector<float> floats;
  const size_t size = fixed_size(value->element);
  if (size > 0) floats.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto number = size > 0 ? number_at(value->element, value->payload.data() + i * size) : std::nullopt;
    if (!number) {
      return error(ErrorCode::corrupt, fmt::format("metadata key '{}' is an {}; expected an array of numbers",
                                                   printable(key), type_text(*value)));
    }
    floats.push_back(static_cast<float>(*number));
  }
  return floats;
}

Result<std::vector<int32_t>> Metadata::get_ints(std::string_view key) const {
  TM_TRY(const GgufValue* value, require_array(key));
  std::vector<int32_t> integers;
  const size_t size = fixed_size(value->element);
  if (size > 0) integers.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto integer = size > 0 ? integer_at(value->element, value->payload.data() + i * size) : std::nullopt;
    if (!integer || *integer < std::numeric_limits<int32_t>::min() || *integer > std::numeric_limits<int32_t>::max()) {
      return error(ErrorCode::corrupt,
                   fmt::format("metadata key '{}' is an {}; expected an array of integers of at most 32 bits",
                               printable(key), type_text(*value)));
    }
    integers.push_back(static_cast<int32_t>(*integer));
  }
  return integers;
}

Result<std::vector<uint64_t>> Metadata::get_u64s(std::string_view key) const {
  TM_TRY(const GgufValue* value, require_array(key));
  if (value->element != GgufType::u64) {
    return error(ErrorCode::corrupt, fmt::format("metadata key '{}' is an {}; expected an array of u64", printable(key),
                                                 type_text(*value)));
  }
  std::vector<uint64_t> numbers(value->count);
  if (!numbers.empty()) std::memcpy(numbers.data(), value->payload.data(), value->payload.size());
  return numbers;
}

Result<std::string_view> Metadata::get_bytes(std::string_view key) const {
  TM_TRY(const GgufValue* value, require_array(key));
  if (value->element == GgufType::u8 || value->element == GgufType::i8) return characters_of(value->payload);
  return error(ErrorCode::corrupt, fmt::format("metadata key '{}' is an {}; expected an array of bytes", printable(key),
                                               type_text(*value)));
}

Result<int64_t> Metadata::get_int_or(std::string_view key, int64_t fallback) const {
  if (find(key) == nullptr) return fallback;
  return get_int(key);
}

Result<double> Metadata::get_float_or(std::string_view key, double fallback) const {
  if (find(key) == nullptr) return fallback;
  return get_float(key);
}

Result<bool> Metadata::get_bool_or(std::string_view key, bool fallback) const {
  if (find(key) == nullptr) return fallback;
  return get_bool(key);
}

Result<std::string_view> Metadata::get_string_or(std::string_view key, std::string_view fallback) const {
  if (find(key) == nullptr) return fallback;
  return get_string(key);
}

}  // namespace tidemill::model
