#include "gateway/poller.hpp"

#include <exception>
#include <string>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <fmt/core.h>

#include "base/log.hpp"
#include "gateway/told_unready.hpp"
#include "wire/as_result.hpp"

namespace tidemill::gateway {

using base::Result;

namespace {

// A busy machine may answer a look late: it is not gone for that.
constexpr int most_timeouts = 3;
constexpr size_t max_answer = size_t{16} << 20;

asio::awaitable<Result<wire::HttpResponse>> get(Service& service, const Backend& backend, const char* path) {
  wire::Headers headers;
  if (!backend.options().api_key.empty()) headers.add("Authorization", "Bearer " + backend.options().api_key);
  const std::string target = backend.target(path);
  const base::Duration limit = service.options()->poll_timeout;
  const wire::OutgoingRequest request{.to = &backend.url(),
                                      .target = target,
                                      .headers = &headers,
                                      .body = {},
                                      .repeatable = true,
                                      .timeouts = {.connect = limit, .first_byte = limit, .idle = limit}};
  auto answer = co_await service.pool().open(request);
  if (!answer) co_return std::move(answer).error();
  wire::HttpResponse response = answer->head();
  while (true) {
    const auto piece = co_await answer->next();
    if (!piece) co_return piece.error();
    if (piece->empty()) co_return response;
    if (response.body.size() + piece->size() > max_answer) {
      co_return base::Error(base::ErrorCode::too_large, "the backend says too much of itself");
    }
    response.body += *piece;
  }
}

// What answers to /ready that it is, or, as servers of other kinds, that it knows no such path or shows it to none but
// those with a key, which clients may have.
bool says_ready(int status) {
  return (status >= 200 && status < 300) || status == 401 || status == 404 || status == 405;
}

std::string why_not_ready(int status) {
  return fmt::format("it answers {} to /ready{}", status,
                     status == 403 ? ", as if it wanted a key: set its api_key" : "");
}

// In parts, since it may be a request that finds out that the backend is not ready.
asio::awaitable<void> wait_for_next_look(const Service& service, const Backend& backend) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  const base::Duration part = service.options()->poll_interval / looks_while_unready;
  for (int i = 0; i < looks_while_unready; ++i) {
    timer.expires_after(std::chrono::duration_cast<asio::steady_timer::duration>(part));
    (void)co_await timer.async_wait(wire::as_result);
    if (backend.asks_for_none()) co_return;
  }
}

asio::awaitable<void> poll_forever(Service& service, std::shared_ptr<Backend> backend) {
  while (service.fleet().contains(*backend)) {
    co_await poll_backend(service, backend);
    co_await wait_for_next_look(service, *backend);
  }
}

}  // namespace

asio::awaitable<void> poll_backend(Service& service, std::shared_ptr<Backend> backend) {
  const base::SteadyTime begun = service.clock().now();
  const auto ready = co_await get(service, *backend, "/ready");
  if (!ready) {
    const bool slow = ready.error().code() == base::ErrorCode::timeout;
    if (!slow || backend->count_timeout() >= most_timeouts) {
      service.fleet().note_failed_poll(*backend, ready.error().to_string());
    }
    // Frozen: it answers nothing for so long, so what is silent as well will not go on.
    if (slow && backend->timeouts() >= most_timeouts) {
      backend->hang_ups().end_silent(service.clock().now() - most_timeouts * service.options()->poll_timeout);
    }
    co_return;
  }
  if (ready->status == 503) {
    service.fleet().note_unready(*backend, told_unready(*ready, ready->body).value_or(route::Unready::draining), begun);
    co_return;
  }
  if (!says_ready(ready->status)) {
    service.fleet().note_failed_poll(*backend, why_not_ready(ready->status));
    co_return;
  }
  const auto metrics = co_await get(service, *backend, "/metrics");
  const auto listed = co_await get(service, *backend, "/v1/models");
  const bool told = metrics && metrics->status == 200;
  service.fleet().note_poll(*backend, told ? parse_report(metrics->body) : route::BackendReport(), begun);
  // Afterwards, since it forgets those of another instance; and each time, since there may be others at any time.
  if (listed && listed->status == 200) backend->set_models(parse_models(listed->body));
}

void start_polling(Service& service, const asio::any_io_executor& executor, std::shared_ptr<Backend> backend) {
  const std::string name = backend->name();
  asio::co_spawn(executor, poll_forever(service, std::move(backend)), [name](std::exception_ptr failure) {
    if (failure) base::log::error("{} is no longer looked at: an exception ended the poll", name);
  });
}

}  // namespace tidemill::gateway
