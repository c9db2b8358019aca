// Looks at the backends' health, load and models, again and again.
#pragma once

#include <memory>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "gateway/backend.hpp"
#include "gateway/service.hpp"

namespace tidemill::gateway {

namespace asio = boost::asio;

// One look: /ready, or what is configured in its place (readiness.hpp), /metrics, and /v1/models. What is found goes
// into the backend.
asio::awaitable<void> poll_backend(Service& service, std::shared_ptr<Backend> backend);

// Polls `backend` every gateway.poll_interval on `executor`, and more often while it asks for no requests, as long as
// it belongs to the fleet. The service must outlive the executor's work.
void start_polling(Service& service, const asio::any_io_executor& executor, std::shared_ptr<Backend> backend);

}  // namespace tidemill::gateway
