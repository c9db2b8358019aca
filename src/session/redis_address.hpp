// Where a Redis is, from a URL as redis-cli and the client libraries write it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace tidemill::session {

struct RedisAddress {
  std::string host;
  uint16_t port = 6379;
  std::string user;      // empty: Redis's default user
  std::string password;  // empty: none is sent
  int database = 0;
  bool tls = false;

  // Without user and password, for messages: "redis://host:6379/0".
  std::string name() const;
};

// Whether `text` begins as such a URL does.
bool is_redis_url(std::string_view text);
// invalid_argument: `text` is a URL, and no Redis'. The message does not show it: it may hold a password.
base::Result<void> check_location(std::string_view text);

// redis://[user:password@]host[:port][/database], or rediss:// for TLS. User and password are percent-encoded; a host
// with colons (IPv6) stands in brackets. Errors: `invalid_argument`, which never shows the password.
base::Result<RedisAddress> parse_redis_url(std::string_view text);

}  // namespace tidemill::session
