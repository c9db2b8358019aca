#include "gateway/plain_path.hpp"

#include <algorithm>
#include <string>

#include "wire/http_message.hpp"

namespace tidemill::gateway {

const char* why_not_plain(std::string_view target) {
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
