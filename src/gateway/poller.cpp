#include "gateway/poller.hpp"

#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <fmt/core.h>

#include "base/log.hpp"
#include "gateway/readiness.hpp"
#include "gateway/told_unready.hpp"
#include "wire/as_result.hpp"

namespace tidemill::gateway {

using base::Result;

namespace {

// A busy machine may answer a look late: it is not gone for that.
constexpr int most_timeouts = 3;
constexpr size_t max_answer = size_t{16} << 20;

// Of a body with more than `most` bytes the rest is not read.
asio::awaitable<Result<wire::HttpResponse>> get(Service& service, const Backend& backend, std::string_view path,
                                                size_t most) {
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
  while (response.body.size() <= most) {
    const auto piece = co_await answer->next();
    if (!piece) co_return piece.error();
    if (piece->empty()) co_return response;
    response.body += *piece;
  }
  co_return response;
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

void note_no_answer(Service& service, Backend& backend, const base::Error& why) {
  const bool slow = why.code() == base::ErrorCode::timeout;
  if (!slow || backend.count_timeout() >= most_timeouts) {
    service.fleet().note_failed_poll(backend, why.to_string());
  }
  // Frozen: it answers nothing for so long, so what is silent as well will not go on.
  if (slow && backend.timeouts() >= most_timeouts) {
    backend.hang_ups().end_silent(service.clock().now() - most_timeouts * service.options()->poll_timeout);
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
  const std::string& ready_path = backend->options().ready_path;
  const std::string_view path = look_path(ready_path);
  const auto answer = co_await get(service, *backend, path, path == models_path ? max_list_bytes : max_answer);
  if (!answer) {
    note_no_answer(service, *backend, answer.error());
    co_return;
  }
  const Readiness says = readiness_of(ready_path, answer->status);
  const auto told = told_unready(*answer, answer->body);
  if (told || says == Readiness::unready) {
    service.fleet().note_unready(*backend, told.value_or(route::Unready::draining), begun);
    co_return;
  }
  if (says == Readiness::failing) {
    service.fleet().note_failed_poll(*backend, fmt::format("it answers {} to {}", answer->status, path));
    co_return;
  }
  const auto metrics = co_await get(service, *backend, "/metrics", max_answer);
  std::optional<Result<wire::HttpResponse>> asked;
  if (path != models_path) asked = co_await get(service, *backend, models_path, max_list_bytes);
  const Result<wire::HttpResponse>& listed = asked ? *asked : answer;
  if (says == Readiness::untold && !listed) {
    note_no_answer(service, *backend, listed.error());
    co_return;
  }
  if (says == Readiness::untold && listed->status >= 500) {
    service.fleet().note_failed_poll(
        *backend, fmt::format("it answers {} to {}, and {} to {}", answer->status, path, listed->status, models_path));
    co_return;
  }
  const bool measured = metrics && metrics->status == 200;
  service.fleet().note_poll(*backend, measured ? parse_report(metrics->body) : route::BackendReport(), begun);
  // Afterwards, since it forgets those of another instance; and each time, since there may be others at any time.
  if (!listed) co_return;
  backend->note_list(listed->status, listed->body);
  service.fleet().note_models(*backend);
}

void start_polling(Service& service, const asio::any_io_executor& executor, std::shared_ptr<Backend> backend) {
  const std::string name = backend->name();
  asio::co_spawn(executor, poll_forever(service, std::move(backend)), [name](std::exception_ptr failure) {
    if (failure) base::log::error("{} is no longer looked at: an exception ended the poll", name);
  });
}

}  // namespace tidemill::gateway
