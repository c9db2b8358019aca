#include "base/service_variables.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

namespace tidemill::base {

namespace {

using Environment = std::vector<std::pair<std::string, std::string>>;

bool is_port(std::string_view text) {
  unsigned number = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), number);
  return fault == std::errc() && end == text.data() + text.size() && number >= 1 && number <= 65535;
}

// Near enough to tell an address from a name or a number: no Service has another.
bool is_address(std::string_view text) {
  const auto only = [text](std::string_view allowed) { return text.find_first_not_of(allowed) == text.npos; };
  const auto count = [text](char c) { return std::count(text.begin(), text.end(), c); };
  return (only("0123456789.") && count('.') == 3) || (only("0123456789abcdefABCDEF:.") && count(':') >= 2);
}

// "tcp" of "TCP"; nullopt for what is no protocol of a Service.
std::optional<std::string_view> protocol(std::string_view upper) {
  if (upper == "TCP") return "tcp";
  if (upper == "UDP") return "udp";
  if (upper == "SCTP") return "sctp";
  return std::nullopt;
}

// "tcp://10.0.0.11:8080", "udp://[fd00::b]:53"
bool is_link(std::string_view text) {
  const size_t scheme = text.find("://");
  if (scheme == text.npos) return false;
  const std::string_view name = text.substr(0, scheme);
  if (name != "tcp" && name != "udp" && name != "sctp") return false;
  std::string_view host = text.substr(scheme + 3);
  const size_t colon = host.rfind(':');
  if (colon == host.npos || !is_port(host.substr(colon + 1))) return false;
  host = host.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return is_address(host);
}

// What follows "NAME_PORT_": "8080_TCP", "8080_TCP_ADDR".
bool is_link_part(std::string_view rest, std::string_view value) {
  const size_t bar = rest.find('_');
  if (bar == rest.npos || !is_port(rest.substr(0, bar))) return false;
  const std::string_view port = rest.substr(0, bar);
  rest.remove_prefix(bar + 1);
  const size_t next = std::min(rest.find('_'), rest.size());
  const auto scheme = protocol(rest.substr(0, next));
  if (!scheme) return false;
  const std::string_view part = rest.substr(next);
  if (part.empty()) return is_link(value);
  if (part == "_PROTO") return value == *scheme;
  if (part == "_PORT") return value == port;
  return part == "_ADDR" && is_address(value);
}

bool has_service(const Environment& environment, std::string_view service) {
  const std::string wanted = std::string(service) + "_SERVICE_HOST";
  return std::any_of(environment.begin(), environment.end(),
                     [&](const auto& each) { return each.first == wanted && is_address(each.second); });
}

}  // namespace

bool is_service_variable(std::string_view name, std::string_view value, const Environment& environment) {
  if (name.ends_with("_SERVICE_HOST")) return is_address(value);
  if (name.ends_with("_PORT") && is_link(value)) return true;
  // A Service's own name may hold either word, so each place is tried.
  constexpr std::string_view numbered = "_SERVICE_PORT";
  for (size_t at = name.find(numbered); at != name.npos; at = name.find(numbered, at + 1)) {
    const std::string_view rest = name.substr(at + numbered.size());
    const bool whole = rest.empty() || (rest.size() > 1 && rest.front() == '_');
    if (whole && is_port(value) && has_service(environment, name.substr(0, at))) return true;
  }
  constexpr std::string_view linked = "_PORT_";
  for (size_t at = name.find(linked); at != name.npos; at = name.find(linked, at + 1))
    if (is_link_part(name.substr(at + linked.size()), value)) return true;
  return false;
}

}  // namespace tidemill::base
