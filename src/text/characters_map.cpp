#include "text/characters_map.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/utf8.hpp"

namespace tidemill::text {
namespace {

// A unit of the double array: where the nodes behind it are, what byte leads to it, and whether an entry ends there,
// whose value is the unit at that place. The units of values have the highest bit set.
constexpr uint32_t value_bit = uint32_t{1} << 31;

// Far above every character's, so that no text grows beyond bounds.
constexpr size_t max_entry_bytes = 256;

bool ends_entry(uint32_t unit) {
  return ((unit >> 8) & 1) != 0;
}
uint32_t offset_of(uint32_t unit) {
  return (unit >> 10) << ((unit >> 6) & 8);
}
uint32_t label_of(uint32_t unit) {
  return unit & (value_bit | 0xFF);
}

}  // namespace

base::Result<CharactersMap> CharactersMap::parse(std::string_view bytes) {
  CharactersMap map;
  if (bytes.empty()) return map;
  uint32_t trie_bytes = 0;
  const bool begins = bytes.size() >= sizeof trie_bytes;
  if (begins) std::memcpy(&trie_bytes, bytes.data(), sizeof trie_bytes);
  if (!begins || trie_bytes % sizeof(uint32_t) != 0 || trie_bytes > bytes.size() - sizeof trie_bytes) {
    return base::Error(base::ErrorCode::corrupt,
                       fmt::format("the map of characters has {} bytes, and says that its trie has {}; expected a "
                                   "multiple of 4 that fits",
                                   bytes.size(), trie_bytes));
  }
  bytes.remove_prefix(sizeof trie_bytes);
  map.units_.resize(trie_bytes / sizeof(uint32_t));
  if (trie_bytes > 0) std::memcpy(map.units_.data(), bytes.data(), trie_bytes);
  map.texts_ = bytes.substr(trie_bytes);
  for (const uint32_t unit : map.units_) {
    if ((unit & value_bit) == 0 || (unit & ~value_bit) < map.texts_.size()) continue;
    return base::Error(base::ErrorCode::corrupt,
                       fmt::format("the map of characters has an entry at {}, but {} bytes of text", unit & ~value_bit,
                                   map.texts_.size()));
  }
  for (size_t begin = 0; begin < map.texts_.size();) {
    const size_t end = std::min(map.texts_.find('\0', begin), map.texts_.size());
    if (end - begin > max_entry_bytes) {
      return base::Error(base::ErrorCode::unsupported,
                         fmt::format("the map of characters has a text of {} bytes; at most {} are possible",
                                     end - begin, max_entry_bytes));
    }
    begin = end + 1;
  }
  return map;
}

CharactersMap::Step CharactersMap::next(std::string_view text) const {
  Step longest;
  uint32_t value = 0;
  uint32_t at = units_.empty() ? 0 : offset_of(units_.front());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    at ^= byte;
    if (at >= units_.size() || label_of(units_[at]) != byte) break;
    const uint32_t unit = units_[at];
    at ^= offset_of(unit);
    if (!ends_entry(unit) || at >= units_.size()) continue;
    longest.length = i + 1;
    value = units_[at] & ~value_bit;
  }
  if (longest.length > 0) {
    const std::string_view texts = texts_;
    const size_t begin = std::min<size_t>(value, texts.size());
    const size_t end = std::min(texts.find('\0', begin), texts.size());
    longest.text = texts.substr(begin, end - begin);
    return longest;
  }
  const base::utf8::Decoded decoded = base::utf8::decode(text);
  if (!decoded.valid) return {"\xEF\xBF\xBD", 1};
  return {text.substr(0, decoded.length), decoded.length};
}

}  // namespace tidemill::text
