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
  // What the Host header says: the port only where it is not the scheme's own.
  std::string authority() const;
};

}  // namespace tidemill::wire
