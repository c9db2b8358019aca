// The connections to one Redis, and what is done about one that is not there.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "session/redis_connection.hpp"

namespace tidemill::session {

// Thread-safe. Each call has a connection to itself and takes `deadline` at most. After a call that failed there is a
// pause, of 50 ms at first and twice as long after each further failure, up to 2 s; calls within it fail at once, so
// that a Redis which hangs costs one caller a deadline and not all of them. After the pause one caller tries.
class RedisPool {
 public:
  RedisPool(RedisAddress address, std::optional<TlsContext> tls, base::Duration deadline, size_t most,
            const base::Clock& clock);

  const std::string& name() const { return name_; }

  // Carries out the commands, in one round trip. `repeatable`: they may be sent a second time if the connection is lost
  // on the way, as one is that the server closed while it lay idle.
  // Errors: `unavailable`; `timeout` if they may have been carried out, or may be yet, and are not repeatable. Replies
  // that are errors are left to the caller.
  base::Result<std::vector<RedisReply>> call(const std::vector<RedisCommand>& commands, bool repeatable);

 private:
  using Connection = std::unique_ptr<RedisConnection>;

  // Waits for the right to use one connection; refused within a pause.
  base::Result<void> enter(Deadline deadline);
  // The pause is over and nobody else is trying; the lock is held.
  base::Result<void> may_try() const;
  // An idle connection that still stands; nullptr if there is none.
  Connection take_idle();
  // How what `enter` began ends: well, with a connection to keep (or nullptr); badly; or without telling anything.
  void leave_well(Connection connection);
  void leave_badly(const base::Error& error);
  void leave_untold();

  const RedisAddress address_;
  const std::string name_;
  const std::optional<TlsContext> tls_;
  const base::Duration deadline_;
  const size_t most_;
  const base::Clock& clock_;

  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<RedisConnection>> idle_;
  size_t lent_ = 0;
  int failures_ = 0;  // since the last success
  bool trying_ = false;
  base::SteadyTime next_try_{};
  std::string last_failure_;
};

}  // namespace tidemill::session
