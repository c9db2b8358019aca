// Backends behind a DNS name: every address that it resolves to, asked again and again.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "gateway/discovery.hpp"

namespace tidemill::gateway {

// All IPv4 and IPv6 addresses of a name, as text, IPv6 without brackets. Errors: not_found (there is no such name),
// unavailable (nobody can tell now).
using Resolve = std::function<asio::awaitable<base::Result<std::vector<std::string>>>(std::string host)>;
// The system's resolver (getaddrinfo, in a thread of Asio's), answering on `executor`.
Resolve system_resolve(asio::any_io_executor executor);

struct DnsOptions {
  std::string host;
  uint16_t port = 0;
  base::Duration interval = std::chrono::seconds(10);
};

// Tells the addresses at once and then whenever they differ, until the coroutine is cancelled. A name that is gone has
// no backends; while the resolver does not answer, what was known stays.
asio::awaitable<void> watch_dns(DnsOptions options, Resolve resolve, Sleep sleep, OnEndpoints on_endpoints);

}  // namespace tidemill::gateway
