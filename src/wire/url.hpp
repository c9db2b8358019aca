// Where a request goes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace tidemill::wire {

// "https://host:8443/path?query". IPv6 hosts stand in brackets in the text, without them here.
struct Url {
  bool https = false;
  std::string host;
  uint16_t port = 80;
  std::string target = "/";  // path and query, as sent

  static base::Result<Url> parse(std::string_view text);
  // Where a reference found at this URL leads, as a Location or a Link has it (RFC 3986, section 5.2): whole, or
  // without scheme, host or folder. Dots in paths are left for the server to resolve.
  base::Result<Url> refer(std::string_view reference) const;
  // As `parse` takes it.
  std::string text() const;
  // What the Host header says: the port only where it is not the scheme's own.
  std::string authority() const;
  // With the port always: "hub.example:443", "[::1]:80".
  std::string host_and_port() const;
  // Whether both are of one scheme, host and port: what is meant for the one may be sent to the other.
  bool same_origin(const Url& other) const;
};

}  // namespace tidemill::wire
