#include "wire/url.hpp"

#include <charconv>

#include <fmt/format.h>

#include "wire/http_message.hpp"

namespace tidemill::wire {

base::Result<Url> Url::parse(std::string_view text) {
  const auto bad = [text](std::string_view why) {
    return base::Error(
        base::ErrorCode::invalid_argument,
        fmt::format("'{}' is not a URL to call: {}; it should look like http://host:port/path", text, why));
  };
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= ' ' || c == '\x7f') return bad("it holds a space or a control character");
  }
  Url url;
  const size_t scheme_end = text.find("://");
  const std::string_view scheme = text.substr(0, scheme_end == std::string_view::npos ? 0 : scheme_end);
  if (equal_ignoring_case(scheme, "https")) {
    url.https = true;
    url.port = 443;
  } else if (!equal_ignoring_case(scheme, "http")) {
    return bad("the scheme is neither http nor https");
  }
  std::string_view rest = text.substr(scheme_end + 3);
  rest = rest.substr(0, rest.find('#'));
  const size_t host_end = rest.find_first_of("/?");
  std::string_view authority = rest.substr(0, host_end);
  if (host_end != std::string_view::npos) {
    url.target = rest.substr(host_end);
    if (url.target.front() == '?') url.target.insert(0, "/");
  }
  if (authority.find('@') != std::string_view::npos) {  // not repeated: it may hold a password
    return base::Error(base::ErrorCode::invalid_argument,
                       "a URL to call has no user and no password in it: these belong into a header");
  }
  if (authority.starts_with('[')) {
    const size_t bracket = authority.find(']');
    if (bracket == std::string_view::npos) return bad("the ']' of the IPv6 address is missing");
    url.host = authority.substr(1, bracket - 1);
    authority.remove_prefix(bracket + 1);
  } else {
    url.host = authority.substr(0, authority.find(':'));
    authority.remove_prefix(url.host.size());
  }
  if (url.host.empty()) return bad("the host is missing");
  if (authority.empty()) return url;
  const char* const end = authority.data() + authority.size();
  const auto [stop, error] = std::from_chars(authority.data() + 1, end, url.port);
  if (authority.front() != ':' || error != std::errc() || stop != end || url.port == 0) {
    return bad("the port is not a number from 1 to 65535");
  }
  return url;
}

base::Result<Url> Url::refer(std::string_view reference) const {
  reference = reference.substr(0, reference.find('#'));
  const std::string origin = text().substr(0, text().size() - target.size());
  if (reference.starts_with("//")) return parse((https ? "https:" : "http:") + std::string(reference));
  if (reference.starts_with('/')) return parse(origin + std::string(reference));
  // A colon before any slash ends a scheme.
  const size_t colon = reference.find(':');
  if (colon != std::string_view::npos && colon < reference.find_first_of("/?")) return parse(reference);
  std::string_view base = std::string_view(target).substr(0, target.find('?'));
  if (reference.empty()) base = target;
  if (!reference.empty() && !reference.starts_with('?')) base = base.substr(0, base.rfind('/') + 1);
  return parse(origin + std::string(base) + std::string(reference));
}

std::string Url::text() const {
  return (https ? "https://" : "http://") + authority() + target;
}

bool Url::same_origin(const Url& other) const {
  return https == other.https && port == other.port && equal_ignoring_case(host, other.host);
}

std::string Url::authority() const {
  std::string text = host_and_port();
  if (port == (https ? 443 : 80)) text.erase(text.rfind(':'));
  return text;
}

std::string Url::host_and_port() const {
  const bool bare = host.find(':') == std::string::npos;
  return (bare ? host : "[" + host + "]") + ":" + std::to_string(port);
}

}  // namespace tidemill::wire
