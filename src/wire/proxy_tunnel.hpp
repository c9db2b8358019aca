// A tunnel through an HTTP proxy (CONNECT; RFC 9110, section 9.3.6). Private to the room.
#pragma once

#include <cstddef>

#include <boost/asio/awaitable.hpp>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "wire/client_connection.hpp"
#include "wire/proxy.hpp"

namespace tidemill::wire {

// Asks the proxy, to which `connection` is connected, for one to `connection.to()`; from then on the bytes are the
// server's. `head_limit`: bytes of the proxy's answer. Errors: those of a connection, Proxy::refusal, `corrupt` and
// `too_large` (its answer).
asio::awaitable<base::Result<void>> open_tunnel(ClientConnection& connection, const Proxy& proxy, size_t head_limit,
                                                base::SteadyTime deadline);

}  // namespace tidemill::wire
