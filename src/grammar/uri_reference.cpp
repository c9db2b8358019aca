#include "grammar/uri_reference.hpp"

#include <algorithm>
#include <optional>

namespace tidemill::grammar {
namespace {

struct UriParts {
  std::optional<std::string_view> scheme;
  std::optional<std::string_view> authority;
  std::string_view path;
  std::optional<std::string_view> query;
};

bool is_scheme_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_scheme_character(char c) {
  return is_scheme_letter(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
}

UriParts uri_parts(std::string_view text) {
  UriParts parts;
  const size_t colon = text.find(':');
  if (colon != std::string_view::npos && colon > 0 && is_scheme_letter(text.front()) &&
      std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(colon), is_scheme_character)) {
    parts.scheme = text.substr(0, colon);
    text.remove_prefix(colon + 1);
  }
  if (const size_t mark = text.find('?'); mark != std::string_view::npos) {
    parts.query = text.substr(mark + 1);
    text = text.substr(0, mark);
  }
  if (text.starts_with("//")) {
    const size_t end = std::min(text.find('/', 2), text.size());
    parts.authority = text.substr(2, end - 2);
    text.remove_prefix(end);
  }
  parts.path = text;
  return parts;
}

// Section 5.2.4, segment by segment.
std::string without_dots(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    const bool slash = path.front() == '/';
    const size_t end = std::min(path.find('/', 1), path.size());
    const std::string_view segment = path.substr(slash ? 1 : 0, end - (slash ? 1 : 0));
    const bool last = end == path.size();
    path.remove_prefix(end);
    if (segment != "." && segment != "..") {
      out.append(slash ? "/" : "").append(segment);
      continue;
    }
    if (slash && segment == "..") {
      const size_t before = out.rfind('/');
      out.resize(before == std::string::npos ? 0 : before);
    }
    if (last && slash) out += '/';
    if (!slash && !path.empty()) path.remove_prefix(1);  // a relative path's own beginning
  }
  return out;
}

// Section 5.2.3.
std::string merged_path(const UriParts& base, std::string_view path) {
  if (base.authority && base.path.empty()) return "/" + std::string(path);
  const size_t slash = base.path.rfind('/');
  return std::string(base.path.substr(0, slash == std::string_view::npos ? 0 : slash + 1)).append(path);
}

}  // namespace

std::string resolved_uri(std::string_view base, std::string_view reference) {
  const UriParts from = uri_parts(base);
  UriParts to = uri_parts(reference);
  std::string path;
  if (to.scheme || to.authority || to.path.starts_with('/')) {
    path = without_dots(to.path);
  } else if (to.path.empty()) {
    path = from.path;
    if (!to.query) to.query = from.query;
  } else {
    path = without_dots(merged_path(from, to.path));
  }
  if (!to.scheme) {
    if (!to.authority) to.authority = from.authority;
    to.scheme = from.scheme;
  }
  std::string out;
  if (to.scheme) out.append(*to.scheme).append(":");
  if (to.authority) out.append("//").append(*to.authority);
  out += path;
  if (to.query) out.append("?").append(*to.query);
  return out;
}

}  // namespace tidemill::grammar
