#include "model/gguf_json.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

#include "base/utf8.hpp"

namespace tidemill::model {

namespace json = base::json;

namespace {

template <typename T>
T stored(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

json::value number_as_json(double value) {
  if (!std::isfinite(value)) return nullptr;
  return value;
}

// 1e-05 instead of 9.999999747378752e-06.
json::value number_as_json(float value) {
  if (!std::isfinite(value)) return nullptr;
  const std::string shortest = fmt::format("{}", value);
  double as_double = value;
  std::from_chars(shortest.data(), shortest.data() + shortest.size(), as_double);
  return as_double;
}

json::value string_as_json(const std::byte* at, size_t length) {
  return json::string(base::utf8::sanitize({reinterpret_cast<const char*>(at), length}));
}

// One element at `at`, which moves behind it. The type is none of array.
json::value element_as_json(GgufType type, const std::byte*& at) {
  const auto take = [&at]<typename T>(T) {
    const T value = stored<T>(at);
    at += sizeof(T);
    return value;
  };
  switch (type) {
    case GgufType::u8:
      return take(uint8_t{});
    case GgufType::i8:
      return take(int8_t{});
    case GgufType::u16:
      return take(uint16_t{});
    case GgufType::i16:
      return take(int16_t{});
    case GgufType::u32:
      return take(uint32_t{});
    case GgufType::i32:
      return take(int32_t{});
    case GgufType::u64:
      return take(uint64_t{});
    case GgufType::i64:
      return take(int64_t{});
    case GgufType::f32:
      return number_as_json(take(float{}));
    case GgufType::f64:
      return number_as_json(take(double{}));
    case GgufType::boolean:
      return take(uint8_t{}) != 0;
    case GgufType::string: {
      const auto length = static_cast<size_t>(take(uint64_t{}));
      const std::byte* const begin = at;
      at += length;
      return string_as_json(begin, length);
    }
    case GgufType::array:
      break;
  }
  return nullptr;
}

}  // namespace

json::value to_json(const GgufValue& value) {
  if (value.type == GgufType::string) return string_as_json(value.payload.data(), value.payload.size());
  const std::byte* at = value.payload.data();
  if (value.type != GgufType::array) return element_as_json(value.type, at);
  const bool nested = value.element == GgufType::array;
  const bool whole = !nested && value.count <= kWholeArray;
  json::array items;
  const uint64_t shown = nested ? 0 : whole ? value.count : kFirstOfArray;
  for (uint64_t i = 0; i < shown; ++i)
    items.push_back(element_as_json(value.element, at));
  if (whole) return items;
  return json::object{{"type", to_string(value.element)}, {"count", value.count}, {"first", std::move(items)}};
}

}  // namespace tidemill::model
