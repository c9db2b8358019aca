#include "route/backend_set.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace tidemill::route {

bool BackendSet::update(std::string_view source, std::vector<Endpoint> endpoints) {
  const auto said = sources_.find(source);
  if (endpoints.empty()) {
    if (said == sources_.end()) return false;
    sources_.erase(said);
  } else if (said == sources_.end()) {
    sources_.emplace(source, std::move(endpoints));
  } else {
    said->second = std::move(endpoints);
  }

  std::vector<Endpoint> merged;
  for (const auto& [name, list] : sources_)
    merged.insert(merged.end(), list.begin(), list.end());
  // Of several mentions of one address a ready one comes first, and stays.
  std::ranges::sort(merged, [](const Endpoint& a, const Endpoint& b) {
    if (a.address != b.address) return a.address < b.address;
    if (a.ready != b.ready) return a.ready;
    return a.instance > b.instance;
  });
  const auto same = [](const Endpoint& a, const Endpoint& b) { return a.address == b.address; };
  merged.erase(std::unique(merged.begin(), merged.end(), same), merged.end());
  if (merged == merged_) return false;
  merged_ = std::move(merged);
  ++generation_;
  return true;
}

base::Result<std::string> parse_address(std::string_view text, uint16_t default_port) {
  const auto wrong = [&](std::string_view why) {
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("'{}' is not an address of a backend: {}; write host:port", text, why));
  };
  std::string_view rest = text;
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!rest.starts_with(scheme)) continue;
    rest.remove_prefix(scheme.size());
    if (rest.ends_with('/')) rest.remove_suffix(1);
    if (default_port == 0) default_port = scheme == "http://" ? 80 : 443;
  }
  if (rest.find_first_of("/?#@ \t") != std::string_view::npos) return wrong("it holds more than host and port");
  std::string_view host = rest;
  std::string_view port;
  if (rest.starts_with('[')) {
    const size_t end = rest.find(']');
    if (end == std::string_view::npos) return wrong("its bracket is not closed");
    host = rest.substr(0, end + 1);
    if (host.size() == 2) return wrong("it has no host");
    rest.remove_prefix(end + 1);
    if (!rest.empty() && rest.front() != ':') return wrong("something follows the bracket that is not a port");
    if (!rest.empty()) port = rest.substr(1);
    if (rest.size() == 1) return wrong("its port is empty");
  } else if (const size_t colon = rest.find(':'); colon != std::string_view::npos) {
    if (rest.find(':', colon + 1) != std::string_view::npos) return wrong("an IPv6 address stands in brackets");
    host = rest.substr(0, colon);
    port = rest.substr(colon + 1);
    if (port.empty()) return wrong("its port is empty");
  }
  if (host.empty()) return wrong("it has no host");
  uint32_t number = default_port;
  if (!port.empty()) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc() || end != port.data() + port.size()) return wrong("its port is not a number");
  }
  if (number == 0 || number > 65535) return wrong(port.empty() ? "it has no port" : "ports are 1 to 65535");
  return fmt::format("{}:{}", host, number);
}

}  // namespace tidemill::route
