// Where the next request goes: prefixes, load and health of all backends under one lock.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "route/backend_load.hpp"
#include "route/backend_set.hpp"
#include "route/block_hasher.hpp"
#include "route/choice.hpp"
#include "route/health.hpp"

namespace tidemill::route {

struct RouterOptions {
  ChoiceOptions choice;
  HealthOptions health;
  LoadOptions load;
  size_t block_bytes = kBlockBytes;  // of the hashers that make the requests' blocks
  double bytes_per_token = 3.5;      // until learned from what backends report
  // Over all backends; each is believed to hold at most its share of it, so that memory is bounded: some 16 MB if they
  // are full of long prompts, and 25 times that if every prompt were a single block.
  size_t most_blocks = size_t{2} << 20;
  size_t most_sessions = 100'000;  // whose home is remembered
};

// A request as it is routed.
struct RouteRequest {
  std::span<const BlockHash> blocks = {};     // of its prompt, whole ones
  uint64_t prompt_bytes = 0;                  // all that was hashed
  std::optional<int64_t> prompt_tokens = {};  // where known better
  std::optional<int64_t> output_tokens = {};  // expected, or its limit
  std::string_view session = {};              // empty: none
  std::span<const std::string> exclude = {};  // addresses not to use: those that were tried
  // Which backends can serve it at all (its model, its version); empty: all. Called under the lock: must not call the
  // router.
  std::function<bool(std::string_view address)> eligible = {};
};

// A request that is open on a backend. 0 is none.
using Ticket = uint64_t;

struct Alternative {
  std::string address;
  double ttft_seconds = 0;
};

struct Route {
  Ticket ticket = 0;
  std::string address;
  int64_t prompt_tokens = 0;  // estimated
  int64_t cached_tokens = 0;  // of them, believed to be in its cache
  double ttft_seconds = 0;    // predicted
  bool probe = false;         // it goes to a backend that is on trial: retry elsewhere without delay if it fails
  std::vector<Alternative> alternatives = {};  // whom a retry would take, best first, as things stand now (at most 3)
};

// What came of it. Left out where the backend did not say.
struct Finish {
  Outcome outcome = Outcome::success;
  std::optional<int64_t> prompt_tokens = {};
  std::optional<int64_t> cached_tokens = {};
  std::optional<int64_t> output_tokens = {};
  // The prompt's blocks and the answer's, where the caller hashed on; else those that were routed count.
  std::span<const BlockHash> blocks = {};
};

// What the router knows of a backend, for /metrics and people.
struct BackendView {
  std::string address;
  HealthState health = HealthState::up;
  double ramp = 1;
  int32_t open = 0;
  int32_t prefilling = 0;
  double backlog_seconds = 0;
  double tokens_per_second = 0;
  double utilisation = 0;
  uint64_t believed_blocks = 0;
  uint64_t believed_capacity = 0;  // in blocks
};

// What keeps requests from a backend; nothing of it if it may be asked.
struct Hindrance {
  bool asks_for_none = false;    // it loads or drains
  base::Duration ejected_for{};  // from now
  int checks_to_go = 0;          // that must pass before it is no longer down
};

// Belief and correction: a prompt counts as held by a backend from the moment that it is sent there, so that requests
// that come at the same time meet; where the backend reports fewer cached tokens than believed, everything that was
// used no later than what it lacked is forgotten, and its capacity taken to be what remains; where it keeps reporting
// more, it grows again. A backend that restarts (another process_start_time_seconds), or from which a connection was
// refused, is believed to hold nothing.
//
// Thread-safe: one lock, held for some microseconds a call. Deterministic: the same calls give the same routes.
class Router {
 public:
  explicit Router(const RouterOptions& options = {});
  ~Router();
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  // The backends there are from now on. Those that stay keep all that is known of them; those that join an existing
  // set start slowly.
  void set_backends(std::span<const Endpoint> endpoints, base::SteadyTime now);

  // The models that a backend serves, from now on: no more than HealthOptions::most_ejected of those that serve one are
  // ejected. An address that is not among the backends is ignored.
  void set_models(std::string_view address, std::vector<std::string> models);

  // HealthOptions::most_open from now on.
  void set_most_open(int64_t requests);

  // Chooses a backend and opens the request there. Errors: unavailable, saying why none can be used.
  base::Result<Route> route(const RouteRequest& request, base::SteadyTime now);
  // The backend's first token (or its whole answer) came. `cached_tokens` if it said so already.
  void first_token(Ticket ticket, base::SteadyTime now, std::optional<int64_t> cached_tokens = {});
  // The request is no longer on the backend. Every ticket is finished once; later calls with it do nothing.
  void finish(Ticket ticket, const Finish& finish, base::SteadyTime now);

  // What active checks found. An address that is not among the backends is ignored, here and below.
  void check(std::string_view address, bool passed, base::SteadyTime now);
  void report(std::string_view address, const BackendReport& report, base::SteadyTime now);
  // It says that it is not ready: no new requests, for `retry_after` if given, else until ready().
  void drain(std::string_view address, std::optional<base::Duration> retry_after, base::SteadyTime now,
             Unready why = Unready::draining);
  void ready(std::string_view address, base::SteadyTime now);
  // Its cache is lost.
  void forget(std::string_view address, base::SteadyTime now);

  std::vector<BackendView> view(base::SteadyTime now) const;
  // What keeps requests from each of these, in their order; from an address that is not among the backends, nothing.
  std::vector<Hindrance> hindrances(std::span<const std::string_view> addresses, base::SteadyTime now) const;
  double bytes_per_token() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill::route
