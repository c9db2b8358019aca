#include "model/hugging_face/base64.hpp"

#include <cstddef>
#include <cstdint>

namespace tidemill::model {

std::optional<std::string> base64_bytes(std::string_view text) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  size_t padding = 0;
  for (; text.ends_with('='); ++padding)
    text.remove_suffix(1);
  const bool fills_up = padding == 0 || (padding <= 2 && (text.size() + padding) % 4 == 0);
  if (!fills_up || text.size() % 4 == 1) return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3 + 2);
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    const size_t digit = digits.find(c);
    if (digit == digits.npos) return std::nullopt;
    bits = (bits << 6) | static_cast<uint32_t>(digit);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes += static_cast<char>((bits >> held) & 0xFF);
  }
  if ((bits & ((1U << held) - 1)) != 0) return std::nullopt;
  return bytes;
}

}  // namespace tidemill::model
