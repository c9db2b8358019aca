// What the sources of backends have in common.
#pragma once

#include <functional>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "base/clock.hpp"
#include "route/backend_set.hpp"

namespace tidemill::gateway {

namespace asio = boost::asio;

// Gets everything that a source knows of, whenever that changes. Called on the source's executor.
using OnEndpoints = std::function<void(std::vector<route::Endpoint>)>;

// Waits; passed in, so that tests need not.
using Sleep = std::function<asio::awaitable<void>(base::Duration)>;
// By a timer on `executor`. Ends early when the coroutine that calls it is cancelled.
Sleep timer_sleep(asio::any_io_executor executor);

}  // namespace tidemill::gateway
