// Limits of tenants: requests and tokens per minute, and money per day and month.
//
// A request is reserved for when it is admitted (its prompt and all the output that it may make) and settled when it
// ends, with what it used. One gateway alone is exact. Several share their books through a store, exchanged
// every now and then (some ten times a second), so a limit may be overshot by what the others admit between two
// exchanges: at most one minute's limit for each further gateway, from a standing start; it is held against the tenant
// afterwards, so it does not repeat. A request waits for the store only where this gateway knows nothing of its
// tenant's books, as in a new life. Without its store a gateway goes on by itself, each with the whole limit, and tells
// what was used when the store is back.
//
// Limits are token buckets which hold one minute's worth. Days and months are UTC's. What is reserved of a budget is
// shared for 15 to 30 minutes, so that the reservations of a gateway that died do not stay; what is spent stays.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "access/policy.hpp"
#include "access/refusal.hpp"
#include "base/clock.hpp"
#include "session/session_store.hpp"

namespace tidemill::access {

// How one limit stands after a request.
struct LimitStatus {
  int64_t limit = 0;       // a minute
  int64_t remaining = 0;   // now
  base::Duration reset{};  // until nothing of it is used
};

struct RateStatus {
  std::optional<LimitStatus> requests;  // nullopt: no limit
  std::optional<LimitStatus> tokens;
};

// x-ratelimit-limit-requests, -remaining-requests, -reset-requests and the same of tokens, as OpenAI names and writes
// them ("6m0s", "120ms"); only those of limits that there are.
std::vector<std::pair<std::string, std::string>> rate_headers(const RateStatus& status);

struct LimiterOptions {
  std::string gateway{};                  // its name in the store
  session::SharedState* store = nullptr;  // must outlive the limiter; nullptr: this gateway is alone
};

class Limiter;

// What one admitted request holds. Settle it once; destroyed unsettled it gives everything back, as of a request that
// never ran. Movable; must not outlive its limiter.
class Reservation {
 public:
  Reservation() = default;
  Reservation(Reservation&& other) noexcept { *this = std::move(other); }
  Reservation& operator=(Reservation&& other) noexcept;
  ~Reservation() { release(); }

  explicit operator bool() const { return limiter_ != nullptr; }
  // Takes what was used in place of what was reserved; more than that is owed, and less than nothing is nothing, so
  // that no more than was reserved is ever given back. Returns how the limits stand then.
  RateStatus settle(int64_t tokens, Money cost);

 private:
  friend class Limiter;
  void release();

  Limiter* limiter_ = nullptr;
  std::string tenant_;
  TenantPolicy policy_;
  int64_t tokens_ = 0;
  Money cost_;
  int64_t held_in_ = 0;  // the window of holds that the cost is in
};

// Thread-safe. admit and settle take a few microseconds and never wait for the store; learn and exchange do.
class Limiter {
 public:
  Limiter(LimiterOptions options, const base::Clock& clock);
  ~Limiter();
  Limiter(const Limiter&) = delete;
  Limiter& operator=(const Limiter&) = delete;

  struct Admission {
    std::optional<Refusal> refusal;  // nothing is reserved then
    Reservation reservation;
    RateStatus status;
  };
  // `tokens` and `cost` are the most that the request may use; less than nothing is nothing.
  Admission admit(const std::string& tenant, const TenantPolicy& policy, int64_t tokens, Money cost);

  // Whether `admit` would go by what the store knows: it has told of the tenant's books, and they were in use within
  // two minutes. If not, they are asked for, and `learn` waits for them. True too where there are no limits or no
  // store, and while the store cannot be reached.
  bool knows(const std::string& tenant, const TenantPolicy& policy);
  // Exchanges until it knows them, or the store cannot be reached. Blocks as the store does.
  void learn(const std::string& tenant, const TenantPolicy& policy);

  // What the tenant has spent, of this day and this month, held reservations not included.
  struct Spending {
    Money day;
    Money month;
  };
  Spending spending(const std::string& tenant) const;

  // Tells the store what was used here and learns what was used elsewhere; also drops what has ended, so it is to be
  // called now and then without a store too. Blocks as the store does, and while another thread exchanges. An error
  // leaves everything as it was, to be told the next time; entering and leaving that state is logged.
  base::Result<void> exchange();
  // Why the books are not shared at present; nullopt: they are, or there is no store.
  std::optional<std::string> apart() const;

 private:
  friend class Reservation;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidemill::access
