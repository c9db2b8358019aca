#include "session/redis_address.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/core.h>

namespace tidemill::session {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr std::string_view plain_scheme = "redis://";
constexpr std::string_view tls_scheme = "rediss://";
constexpr int most_databases = 16384;

Error fault(std::string_view what) {
  return {ErrorCode::invalid_argument,
          fmt::format("the address of the Redis {}: write redis://[user:password@]host[:port][/database], or rediss:// "
                      "for TLS",
                      what)};
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    unsigned byte = 0;
    const char* first = text.data() + i + 1;
    if (i + 2 >= text.size() || std::from_chars(first, first + 2, byte, 16).ptr != first + 2) return std::nullopt;
    decoded += static_cast<char>(byte);
    i += 2;
  }
  return decoded;
}

std::optional<int> number(std::string_view text, int least, int most) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) return std::nullopt;
  return value;
}

Result<void> read_credentials(std::string_view text, RedisAddress& address) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return fault("has a user without a password");
  const auto user = percent_decoded(text.substr(0, colon));
  const auto password = percent_decoded(text.substr(colon + 1));
  if (!user || !password) return fault("has a '%' in its user or password that is followed by no two hex digits");
  if (password->empty()) return fault("has a user without a password");
  address.user = *user;
  address.password = *password;
  return {};
}

Result<void> read_place(std::string_view text, RedisAddress& address) {
  std::string_view port;
  if (text.starts_with('[')) {
    const size_t close = text.find(']');
    if (close == std::string_view::npos) return fault("has a '[' without a ']'");
    address.host = text.substr(1, close - 1);
    const std::string_view rest = text.substr(close + 1);
    if (!rest.empty() && !rest.starts_with(':')) return fault("has something between its host and its port");
    port = rest.empty() ? rest : rest.substr(1);
    if (rest == ":") return fault("has no port after the colon");
  } else {
    const size_t colon = text.find(':');
    address.host = text.substr(0, colon);
    if (colon != std::string_view::npos) {
      port = text.substr(colon + 1);
      if (port.empty()) return fault("has no port after the colon");
    }
  }
  if (address.host.empty()) return fault("has no host");
  if (port.empty()) return {};
  const auto value = number(port, 1, 65535);
  if (!value) return fault(fmt::format("has the port '{}', which is no number from 1 to 65535", port));
  address.port = static_cast<uint16_t>(*value);
  return {};
}

}  // namespace

std::string RedisAddress::name() const {
  const bool brackets = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}{}:{}/{}", tls ? tls_scheme : plain_scheme, brackets ? "[" : "", host, brackets ? "]" : "",
                     port, database);
}

bool is_redis_url(std::string_view text) {
  return text.starts_with(plain_scheme) || text.starts_with(tls_scheme);
}

Result<void> check_location(std::string_view text) {
  if (text.find("://") == std::string_view::npos || is_redis_url(text)) return {};
  return Error(ErrorCode::invalid_argument,
               "what is kept can be kept in a file, or in a Redis at redis://... or rediss://...; this is a URL of "
               "another scheme");
}

Result<RedisAddress> parse_redis_url(std::string_view text) {
  if (!is_redis_url(text)) return fault("does not begin with redis:// or rediss://");
  RedisAddress address;
  address.tls = text.starts_with(tls_scheme);
  text.remove_prefix(address.tls ? tls_scheme.size() : plain_scheme.size());
  // The last '@', so that an unencoded one in the password does no harm.
  if (const size_t at = text.rfind('@'); at != std::string_view::npos) {
    TM_CHECK(read_credentials(text.substr(0, at), address));
    text.remove_prefix(at + 1);
  }
  const size_t slash = std::min(text.find('/'), text.size());
  TM_CHECK(read_place(text.substr(0, slash), address));
  const std::string_view database = slash < text.size() ? text.substr(slash + 1) : std::string_view();
  if (database.empty()) return address;
  const auto value = number(database, 0, most_databases);
  if (!value) {
    return fault(fmt::format("has the database '{}', which is no number from 0 to {}", database, most_databases));
  }
  address.database = *value;
  return address;
}

}  // namespace tidemill::session
