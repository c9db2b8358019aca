// What the gateway's handlers share.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "gateway/access_log.hpp"
#include "gateway/fleet.hpp"
#include "gateway/gate.hpp"
#include "gateway/gateway_options.hpp"
#include "observe/metrics.hpp"
#include "observe/trace.hpp"
#include "session/session_store.hpp"
#include "wire/client_pool.hpp"

namespace tidemill::gateway {

namespace asio = boost::asio;

// Thread-safe. Outlives every handler.
class Service {
 public:
  Service(const GatewayOptions& options, const base::Clock& clock);
  ~Service();

  // The options in effect; a reload replaces them, and requests under way keep those that they began with.
  std::shared_ptr<const GatewayOptions> options() const;
  void set_options(std::shared_ptr<const GatewayOptions> options);

  const base::Clock& clock() const { return clock_; }
  observe::Tracer& tracer() { return tracer_; }
  observe::Metrics& metrics() { return metrics_; }
  AccessLog& access_log() { return access_log_; }
  Fleet& fleet() { return fleet_; }
  const Fleet& fleet() const { return fleet_; }

  // The connections to the backends.
  wire::ClientPool& pool() { return pool_; }

  // Where conversations are kept; for run_store_work. Set once, before the first handler runs.
  session::SessionStore& sessions() { return *sessions_; }
  session::Store& store() { return *sessions_; }
  void set_sessions(std::unique_ptr<session::Store> sessions) { sessions_ = std::move(sessions); }

  // Who may do what. Set once, before the first handler runs.
  Gate& gate() { return *gate_; }
  void set_gate(std::unique_ptr<Gate> gate) { gate_ = std::move(gate); }

  // Runs `work`, which may wait for a disk or the network, on a thread of its own. Error `unavailable` after
  // close_store_pool().
  template <typename Work>
  asio::awaitable<std::invoke_result_t<Work&>> run_store_work(Work work) {
    if (!begin_store_work()) co_return base::Error(base::ErrorCode::unavailable, "the gateway is stopping");
    std::optional<std::invoke_result_t<Work&>> result;
    auto job = [&result, &work]() -> asio::awaitable<void> {
      result.emplace(work());
      co_return;
    };
    co_await asio::co_spawn(store_pool_.get_executor(), job, asio::use_awaitable);
    end_store_work();
    co_return std::move(*result);
  }
  // Takes no further work and waits for what runs, so that nothing refers to coroutines that are about to be destroyed.
  void close_store_pool();

  void start_draining() { draining_ = true; }
  bool draining() const { return draining_; }

  // Counts the requests that are being answered, for the drain.
  void enter();
  void leave();
  // Returns when none is being answered, or at `limit`. True for the former.
  bool wait_until_unused(base::Duration limit);

  struct Counters {
    observe::Counter& retries;        // tries after the first, before the client had got anything
    observe::Counter& exact_resumes;  // streams taken up elsewhere
    observe::Counter& best_effort_resumes;
    observe::Counter& lost_streams;  // that ended with an error because nobody could take them up
    observe::Histogram& first_byte;
  };
  const Counters& counters() const { return counters_; }

 private:
  bool begin_store_work();
  void end_store_work();

  const base::Clock& clock_;
  observe::Tracer tracer_;
  observe::Metrics metrics_;
  Counters counters_;
  AccessLog access_log_;
  Fleet fleet_;
  wire::ClientPool pool_;
  std::unique_ptr<session::Store> sessions_;
  std::unique_ptr<Gate> gate_;  // after the store, which it uses

  mutable std::mutex mutex_;  // guards what follows
  std::shared_ptr<const GatewayOptions> options_;
  std::condition_variable changed_;
  int active_ = 0;
  int store_jobs_ = 0;
  bool store_closed_ = false;

  std::atomic<bool> draining_{false};
  asio::thread_pool store_pool_;
};

}  // namespace tidemill::gateway
