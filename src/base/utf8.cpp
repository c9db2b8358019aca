#include "base/utf8.hpp"

namespace tidemill::base::utf8 {
namespace {

// What a lead byte promises: the sequence's length and the range of its second byte, which is where overlong forms,
// surrogates and values past U+10FFFF are told apart (table 3-7 of the Unicode standard). Length 0: not a lead byte.
struct Lead {
  uint8_t length;
  uint8_t second_low;
  uint8_t second_high;
};

Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// Bytes at the start of `text` that form a valid sequence or a prefix of one, 0 if the first byte begins none.
size_t valid_prefix(std::string_view text, const Lead& lead) {
  if (lead.length == 0) return 0;
  size_t have = 1;
  while (have < lead.length && have < text.size()) {
    const auto byte = static_cast<uint8_t>(text[have]);
    const uint8_t low = have == 1 ? lead.second_low : 0x80;
    const uint8_t high = have == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) break;
    ++have;
  }
  return have;
}

}  // namespace

Decoded decode(std::string_view text) {
  const auto first = static_cast<uint8_t>(text[0]);
  if (first < 0x80) return {first, 1, true};
  const Lead lead = lead_of(first);
  const size_t have = valid_prefix(text, lead);
  if (have == 0) return {replacement, 1, false};
  if (have < lead.length) return {replacement, static_cast<uint8_t>(have), false};
  char32_t code_point = first & (0xFFu >> (lead.length + 1));
  for (size_t i = 1; i < have; ++i)
    code_point = (code_point << 6) | (static_cast<uint8_t>(text[i]) & 0x3Fu);
  return {code_point, lead.length, true};
}

void append(std::string& out, char32_t code_point) {
  if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF)) code_point = replacement;
  const auto put = [&out](char32_t byte) { out += static_cast<char>(static_cast<uint8_t>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3F));
    put(0x80 | ((code_point >> 6) & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

bool is_valid(std::string_view text) {
  while (!text.empty()) {
    const Decoded decoded = decode(text);
    if (!decoded.valid) return false;
    text.remove_prefix(decoded.length);
  }
  return true;
}

size_t length(std::string_view text) {
  size_t count = 0;
  for (const char c : text)
    count += (static_cast<uint8_t>(c) & 0xC0) != 0x80 ? 1 : 0;
  return count;
}

std::string_view prefix(std::string_view text, size_t count) {
  size_t bytes = 0;
  for (; count > 0 && bytes < text.size(); --count)
    bytes += decode(text.substr(bytes)).length;
  return text.substr(0, bytes);
}

std::string sanitize(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Decoded decoded = decode(text);
    if (decoded.valid) {
      out.append(text.substr(0, decoded.length));
    } else {
      append(out, replacement);
    }
    text.remove_prefix(decoded.length);
  }
  return out;
}

std::string printable(std::string_view text, size_t limit) {
  const auto shows = [](char32_t c) {
    const bool control = c < 0x20 || (c >= 0x7F && c < 0xA0);
    const bool breaks_or_turns = (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
    return !control && !breaks_or_turns;
  };
  std::string out;
  size_t at = 0;
  while (at < text.size()) {
    const Decoded decoded = decode(text.substr(at));
    if (at + decoded.length > limit) return out + "...";
    append(out, decoded.valid && shows(decoded.code_point) ? decoded.code_point : replacement);
    at += decoded.length;
  }
  return out;
}

size_t incomplete_tail(std::string_view text) {
  for (size_t tail = 1; tail <= 3 && tail <= text.size(); ++tail) {
    const std::string_view end = text.substr(text.size() - tail);
    const auto first = static_cast<uint8_t>(end[0]);
    if (first >= 0x80 && first < 0xC0) continue;  // a continuation byte: the lead, if any, is further left
    const Lead lead = lead_of(first);
    return lead.length > tail && valid_prefix(end, lead) == tail ? tail : 0;
  }
  return 0;
}

}  // namespace tidemill::base::utf8
