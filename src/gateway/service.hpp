// What the gateway's handlers share.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "gateway/access_log.hpp"
#include "gateway/companion.hpp"
#include "gateway/failure_log.hpp"
#include "gateway/fleet.hpp"
#include "gateway/gate.hpp"
#include "gateway/gateway_options.hpp"
#include "gateway/route_table.hpp"
#include "gateway/turn_lock.hpp"
#include "observe/metrics.hpp"
#include "observe/trace.hpp"
#include "session/session_store.hpp"
#include "wire/blocking_pool.hpp"
#include "wire/client_pool.hpp"
#include "wire/drainable.hpp"
#include "wire/unready.hpp"

namespace tidemill::gateway {

// Thread-safe. Outlives every handler.
class Service : public wire::Drainable {
 public:
  Service(const GatewayOptions& options, const base::Clock& clock);

  // The options in effect; a reload replaces them, and requests under way keep those that they began with.
  std::shared_ptr<const GatewayOptions> options() const;
  void set_options(std::shared_ptr<const GatewayOptions> options);

  // Likewise the named routes.
  std::shared_ptr<const RouteTable> routes() const;
  void set_routes(std::shared_ptr<const RouteTable> routes);

  const base::Clock& clock() const { return clock_; }
  observe::Tracer& tracer() { return tracer_; }
  observe::Metrics& metrics() { return metrics_; }
  // Set once, before the first handler runs.
  const Companion& companion() const { return companion_; }
  void set_companion(Companion companion) { companion_ = companion; }
  AccessLog& access_log() { return access_log_; }
  FailureLog& failures() { return failures_; }
  Fleet& fleet() { return fleet_; }
  const Fleet& fleet() const { return fleet_; }

  // When a client whose request no backend could take may come again (Fleet::next_chance). At once while the gateway
  // drains: it does not come back, and who stands in its place may have backends.
  base::Duration next_chance(const Wanted& wanted) const {
    return draining() ? base::Duration() : fleet_.next_chance(wanted, options()->poll_interval);
  }
  // The same for one that hears of `why`, as Call::refuse() wants it. Other errors than unavailable say nothing of it,
  // and cost nothing.
  base::Duration retry_after(const base::Error& why, const Wanted& wanted) const {
    return why.code() == base::ErrorCode::unavailable ? next_chance(wanted) : base::Duration();
  }

  // The connections to the backends.
  wire::ClientPool& pool() { return pool_; }

  // Where conversations are kept; for the store pool. Set once, before the first handler runs.
  session::SessionStore& sessions() { return *sessions_; }
  session::Store& store() { return *sessions_; }
  void set_sessions(std::unique_ptr<session::Store> sessions) { sessions_ = std::move(sessions); }
  // Of conversations, by requests that run.
  HeldLeases& leases() { return leases_; }

  // The session store did not answer the last look at it, or has failed to keep a response since; then the next look,
  // which is a second away, finds out whether it takes any.
  bool store_lost() const { return store_lost_; }
  void note_store_lost(bool lost) { store_lost_ = lost; }

  // Who may do what. Set once, before the first handler runs.
  Gate& gate() { return *gate_; }
  void set_gate(std::unique_ptr<Gate> gate) { gate_ = std::move(gate); }

  // For work that may wait for a disk or the network.
  wire::BlockingPool& store_pool() { return store_pool_; }

  // Whether new work is refused now, in the words of wire/unready.hpp; nullopt when it is not.
  std::optional<std::string_view> unready() const {
    return draining() ? std::optional(wire::unready_draining) : std::nullopt;
  }

  // How much of what the gateway can do it is doing, 0 to 1, as far as that has a bound (gateway.slots).
  double pressure() const { return draining() ? 1 : gate_->pressure(); }

  // Ends the tries that are under way; what has not been answered yet hears that the gateway stops.
  void end_tries();
  bool ending() const { return ending_; }

  struct Counters {
    observe::Counter& retries;        // tries after the first, before the client had got anything
    observe::Counter& exact_resumes;  // streams taken up elsewhere
    observe::Counter& best_effort_resumes;
    observe::Counter& lost_streams;  // that ended with an error because nobody could take them up
    observe::Counter& lost_usages;   // of streams that have all of their text
    observe::Histogram& first_byte;
  };
  const Counters& counters() const { return counters_; }

 private:
  const base::Clock& clock_;
  observe::Tracer tracer_;
  observe::Metrics metrics_;
  Companion companion_;
  Counters counters_;
  AccessLog access_log_;
  FailureLog failures_;
  Fleet fleet_;
  wire::ClientPool pool_;
  std::unique_ptr<session::Store> sessions_;
  HeldLeases leases_{clock_};
  std::unique_ptr<Gate> gate_;  // after the store, which it uses

  mutable std::mutex mutex_;  // guards what follows
  std::shared_ptr<const GatewayOptions> options_;
  std::shared_ptr<const RouteTable> routes_ = std::make_shared<const RouteTable>();

  std::atomic<bool> store_lost_{false};
  std::atomic<bool> ending_{false};
  wire::BlockingPool store_pool_;
};

}  // namespace tidemill::gateway
