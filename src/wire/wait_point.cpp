#include "wire/wait_point.hpp"

#include <utility>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace tidemill::wire {

struct WaitPoint::Waiter {
  virtual ~Waiter() = default;
  virtual void resume(bool notified, When when) = 0;
};

WaitPoint::WaitPoint(Deadlines& deadlines)
    : deadlines_(deadlines),
      deadline_(
          deadlines, [](void* self) { static_cast<WaitPoint*>(self)->resume(false, When::later); }, this) {}

WaitPoint::~WaitPoint() = default;

void WaitPoint::resume(bool notified, When when) {
  if (!waiter_) return;
  leave();
  deadline_.clear();
  const auto waiter = std::move(waiter_);
  waiter->resume(notified, when);
}

void WaitPoint::drop() {
  const auto waiter = std::move(waiter_);  // its coroutine, and this event with it, may go here
}

asio::awaitable<bool> WaitPoint::wait_until(base::SteadyTime deadline) {
  const auto begin = [this, deadline](auto handler) {
    using Handler = decltype(handler);
    struct Held final : Waiter {
      explicit Held(Handler given) : handler(std::move(given)) {}
      void resume(bool notified, When when) override {
        asio::get_associated_cancellation_slot(handler).clear();
        const auto executor = asio::get_associated_executor(handler);
        auto go_on = [resumed = std::move(handler), notified]() mutable { std::move(resumed)(notified); };
        if (when == When::now) return asio::dispatch(executor, std::move(go_on));
        asio::post(executor, std::move(go_on));
      }
      Handler handler;
    };
    auto slot = asio::get_associated_cancellation_slot(handler);
    if (slot.is_connected()) slot.assign([this](asio::cancellation_type) { resume(false, When::later); });
    waiter_ = std::make_unique<Held>(std::move(handler));
    join(deadlines_);
    deadline_.set(deadline);
  };
  return asio::async_initiate<const asio::use_awaitable_t<>, void(bool)>(begin, asio::use_awaitable);
}

}  // namespace tidemill::wire
