#include "gateway/plain_path.hpp"

#include <algorithm>
#include <string>

#include "wire/http_message.hpp"

namespace tidemill::gateway {

namespace {

// Nearly all are: segments of letters, digits, '-' and '_' alone.
bool is_evidently_plain(std::string_view target) {
  char before = 'a';
  for (const char c : target) {
    const bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
    const bool usual = letter || (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (!usual && (c != '/' || before == '/')) return false;
    before = c;
  }
  return target.starts_with('/') && before != '/';
}

}  // namespace

const char* why_not_plain(std::string_view target) {
  if (is_evidently_plain(target)) return nullptr;
  std::string_view path = target.substr(0, target.find('?'));
  if (target.find('#') != std::string_view::npos) return "it has a fragment ('#')";
  if (!path.starts_with('/')) return "it does not begin with '/'";
  while (!path.empty()) {
    path.remove_prefix(1);
    const std::string_view raw = path.substr(0, path.find('/'));
    path.remove_prefix(raw.size());
    const auto segment = wire::percent_decode(raw);
    if (!segment) return "it has a broken percent escape";
    if (segment->empty()) return "it has an empty segment ('//', or a slash at its end)";
    if (*segment == "." || *segment == "..") return "it has a segment of dots ('/./' or '/../')";
    if (segment->find_first_of("/\\") != std::string::npos) return "it has a backslash or an escaped slash";
    if (segment->find(';') != std::string::npos) return "it has parameters (';')";
    const auto control = [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; };
    if (std::any_of(segment->begin(), segment->end(), control)) return "it has an escaped control character";
  }
  return nullptr;
}

}  // namespace tidemill::gateway
