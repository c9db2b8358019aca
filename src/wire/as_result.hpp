// What to pass to an operation of Asio's that a coroutine waits for: co_await then gives a tuple of the error and what
// the operation gives, and throws nothing.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace tidemill::wire {

inline constexpr auto as_result = boost::asio::as_tuple(boost::asio::use_awaitable);

}  // namespace tidemill::wire
