#include "session/redis_pool.hpp"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "session/session_store.hpp"

namespace tidemill::session {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr base::Duration first_pause = std::chrono::milliseconds(50);
constexpr int most_doublings = 6;

base::Duration pause_after(int failures) {
  return std::min(first_pause * (1 << std::min(failures - 1, most_doublings)), longest_pause);
}

}  // namespace

RedisPool::RedisPool(RedisAddress address, std::optional<TlsContext> tls, base::Duration deadline, size_t most,
                     const base::Clock& clock)
    : address_(std::move(address)),
      name_(address_.name()),
      tls_(std::move(tls)),
      deadline_(deadline),
      most_(std::max<size_t>(most, 1)),
      clock_(clock) {}

Result<void> RedisPool::may_try() const {
  if (failures_ == 0 || (!trying_ && clock_.now() >= next_try_)) return {};
  return Error(ErrorCode::unavailable, fmt::format("{} (it is tried again soon)", last_failure_));
}

Result<void> RedisPool::enter(Deadline deadline) {
  std::unique_lock lock(mutex_);
  TM_CHECK(may_try());
  if (!returned_.wait_until(lock, deadline, [&] { return lent_ < most_; })) {
    return Error(ErrorCode::unavailable, fmt::format("{}: all {} connections were busy for too long", name_, most_));
  }
  TM_CHECK(may_try());  // it may have failed meanwhile
  if (failures_ > 0) trying_ = true;
  ++lent_;
  return {};
}

RedisPool::Connection RedisPool::take_idle() {
  const std::lock_guard lock(mutex_);
  while (!idle_.empty()) {
    Connection connection = std::move(idle_.back());
    idle_.pop_back();
    if (connection->is_quiet()) return connection;
  }
  return nullptr;
}

void RedisPool::leave_well(Connection connection) {
  {
    const std::lock_guard lock(mutex_);
    --lent_;
    failures_ = 0;
    trying_ = false;
    if (connection) idle_.push_back(std::move(connection));
  }
  returned_.notify_one();
}

void RedisPool::leave_badly(const Error& error) {
  std::vector<Connection> closed;
  {
    const std::lock_guard lock(mutex_);
    --lent_;
    ++failures_;
    trying_ = false;
    next_try_ = clock_.now() + pause_after(failures_);
    last_failure_ = error.message();
    closed.swap(idle_);
  }
  returned_.notify_all();
}

void RedisPool::leave_untold() {
  {
    const std::lock_guard lock(mutex_);
    --lent_;
    trying_ = false;
  }
  returned_.notify_one();
}

Result<std::vector<RedisReply>> RedisPool::call(const std::vector<RedisCommand>& commands, bool repeatable) {
  const Deadline deadline = std::chrono::steady_clock::now() + deadline_;
  while (true) {
    TM_CHECK(enter(deadline));
    Connection connection = take_idle();
    const bool was_idle = connection != nullptr;
    if (!was_idle) {
      auto opened = RedisConnection::open(address_, tls_ ? &*tls_ : nullptr, deadline);
      if (!opened) {
        leave_badly(opened.error());
        return std::move(opened).error();
      }
      connection = std::move(*opened);
    }
    std::unique_ptr<RedisFailure> failure;
    std::vector<RedisReply> replies = connection->exchange(commands, deadline, failure);
    if (!failure) {
      // One that is refused now (a replica, a password that was changed) may not be by another server of that name.
      const bool refused = std::any_of(replies.begin(), replies.end(), [&](const RedisReply& reply) {
        return reply.is_error() && redis_error(reply.text, name_).code() == ErrorCode::unavailable;
      });
      leave_well(refused ? nullptr : std::move(connection));
      return replies;
    }
    const bool harmless = !failure->sent || repeatable;
    if (was_idle && harmless && std::chrono::steady_clock::now() < deadline) {
      leave_untold();  // idle connections may have been closed; each try uses one up, and the last opens a new one
      continue;
    }
    leave_badly(failure->error);
    if (harmless) return std::move(failure->error);
    return Error(ErrorCode::timeout, failure->error.message());
  }
}

}  // namespace tidemill::session
