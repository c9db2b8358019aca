// A model's metadata: values under GGUF's keys (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), as GGUF
// stores them. Nothing is copied: keys, strings and arrays are views into the bytes that they were read from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"

namespace tidemill::model {

// Metadata value types, with their numbers in the file.
enum class GgufType : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};

std::string_view to_string(GgufType type);

// Bytes of a value of the type; 0 for strings and arrays, which have no fixed size.
size_t fixed_size(GgufType type);

// One metadata value, undecoded. Views live as long as what they were read from.
struct GgufValue {
  GgufType type = GgufType::u8;
  GgufType element = GgufType::u8;     // of an array; else the same as `type`
  uint64_t count = 1;                  // elements of an array; else 1
  std::span<const std::byte> payload;  // the scalar, the string's characters, or the array's elements as stored

  // The value for people: strings quoted and arrays cut after a few elements, at most about `limit` bytes in all.
  std::string describe(size_t limit = 120) const;
};

struct GgufEntry {
  std::string_view key;
  GgufValue value;
};

// Movable and copyable. Const calls are thread-safe.
class Metadata {
 public:
  // `path` is what errors name.
  explicit Metadata(std::filesystem::path path = {}) : path_(std::move(path)) {}

  const std::filesystem::path& path() const { return path_; }
  std::span<const GgufEntry> metadata() const { return entries_; }  // in the order in which they were added

  // False, and nothing changes, if the key is there already.
  bool add(const GgufEntry& entry);
  void reserve_entries(size_t count);

  const GgufValue* find(std::string_view key) const;  // null if absent

  // Typed metadata. An absent key is `not_found`; a value of another type or out of range is `corrupt`.
  // Integers are accepted in every width and signedness that holds the value; floats in both widths and from integers;
  // booleans also as integers 0 and 1.
  base::Result<int64_t> get_int(std::string_view key) const;
  base::Result<uint32_t> get_u32(std::string_view key) const;
  base::Result<double> get_float(std::string_view key) const;
  base::Result<bool> get_bool(std::string_view key) const;
  base::Result<std::string_view> get_string(std::string_view key) const;
  base::Result<std::vector<std::string_view>> get_strings(std::string_view key) const;
  base::Result<std::vector<float>> get_floats(std::string_view key) const;
  base::Result<std::vector<int32_t>> get_ints(std::string_view key) const;
  base::Result<std::vector<uint64_t>> get_u64s(std::string_view key) const;  // of the type u64 alone
  base::Result<std::string_view> get_bytes(std::string_view key) const;      // of the types u8 and i8

  // As above, but an absent key gives the fallback.
  base::Result<int64_t> get_int_or(std::string_view key, int64_t fallback) const;
  base::Result<double> get_float_or(std::string_view key, double fallback) const;
  base::Result<bool> get_bool_or(std::string_view key, bool fallback) const;
  base::Result<std::string_view> get_string_or(std::string_view key, std::string_view fallback) const;

  // An error of `code` whose message begins with the path.
  base::Error error(base::ErrorCode code, std::string message) const;

 private:
  base::Result<const GgufValue*> require(std::string_view key) const;
  base::Result<const GgufValue*> require_array(std::string_view key) const;

  std::filesystem::path path_;
  std::vector<GgufEntry> entries_;
  std::unordered_map<std::string_view, size_t> index_;
};

// Text from a file made fit for an error message: base::utf8::printable, cut to a readable length.
std::string printable(std::string_view text, size_t limit = 80);

}  // namespace tidemill::model
