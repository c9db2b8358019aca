#include "gateway/discovery_dns.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include <boost/asio/error.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/system/system_error.hpp>
#include <fmt/format.h>

#include "base/log.hpp"
#include "wire/as_result.hpp"

namespace tidemill::gateway {

namespace {

using asio::ip::tcp;

std::string endpoint_address(const std::string& host, uint16_t port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

// Looks until whatever is waited for throws, as everything does once the coroutine is cancelled.
asio::awaitable<void> look(const DnsOptions& options, const Resolve& resolve, const Sleep& sleep,
                           const OnEndpoints& on_endpoints) {
  std::optional<std::vector<std::string>> known;
  bool failing = false;
  while (true) {
    base::Result<std::vector<std::string>> found = co_await resolve(options.host);
    if (!found && !failing) {
      base::log::warn("discovery: {}{}", found.error().to_string(),
                      found.error().code() == base::ErrorCode::not_found ? "" : "; keeping the backends known so far");
    }
    failing = !found;
    if (!found && found.error().code() == base::ErrorCode::not_found) found = std::vector<std::string>{};
    if (found) {
      std::ranges::sort(*found);
      found->erase(std::unique(found->begin(), found->end()), found->end());
      if (known != *found) {
        known = *found;
        std::vector<route::Endpoint> endpoints;
        for (const std::string& host : *known)
          endpoints.push_back({.address = endpoint_address(host, options.port)});
        on_endpoints(std::move(endpoints));
      }
    }
    co_await sleep(options.interval);
  }
}

}  // namespace

Resolve system_resolve(asio::any_io_executor executor) {
  return [executor = std::move(executor)](std::string host) -> asio::awaitable<base::Result<std::vector<std::string>>> {
    tcp::resolver resolver(executor);
    const auto [error, found] = co_await resolver.async_resolve(host, "", tcp::resolver::flags(), wire::as_result);
    if (error) {
      const bool no_such = error == asio::error::host_not_found || error == asio::error::no_data;
      co_return base::Error(no_such ? base::ErrorCode::not_found : base::ErrorCode::unavailable,
                            fmt::format("cannot resolve '{}': {}", host, error.message()));
    }
    std::vector<std::string> addresses;
    for (const auto& entry : found)
      addresses.push_back(entry.endpoint().address().to_string());
    co_return addresses;
  };
}

asio::awaitable<void> watch_dns(DnsOptions options, Resolve resolve, Sleep sleep, OnEndpoints on_endpoints) {
  try {
    co_await look(options, resolve, sleep, on_endpoints);
  } catch (const boost::system::system_error& stopped) {
    if (stopped.code() != asio::error::operation_aborted) throw;
  }
}

}  // namespace tidemill::gateway
