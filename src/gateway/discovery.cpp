#include "gateway/discovery.hpp"

#include <utility>

#include <boost/asio/steady_timer.hpp>

#include "wire/as_result.hpp"

namespace tidemill::gateway {

Sleep timer_sleep(asio::any_io_executor executor) {
  return [executor = std::move(executor)](base::Duration time) -> asio::awaitable<void> {
    asio::steady_timer timer(executor);
    timer.expires_after(std::chrono::duration_cast<asio::steady_timer::duration>(time));
    (void)co_await timer.async_wait(wire::as_result);
  };
}

}  // namespace tidemill::gateway
