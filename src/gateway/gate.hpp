// Who may do what: API keys, limits, budgets and the queue before the backends, for every request to the API.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "access/admission.hpp"
#include "access/key_ring.hpp"
#include "access/key_vault.hpp"
#include "access/limiter.hpp"
#include "access/policy.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "session/session_store.hpp"
#include "wire/blocking_pool.hpp"
#include "wire/http_server.hpp"

namespace tidemill::gateway {

namespace asio = boost::asio;

struct GateOptions {
  std::string keys;    // a file or a Redis; empty: everybody may do everything
  std::string policy;  // a TOML file (access/policy.hpp); empty: no limits, no prices
  int slots = 0;       // requests at the backends at one time; 0: no bound, and no queue
  size_t max_queued = 4096;
  base::Duration longest_wait = std::chrono::seconds(1);
  std::string gateway;                    // a name that no other gateway has
  session::SharedState* store = nullptr;  // for limits that gateways share; may be none
};

// Why a request is not let through, as it is answered.
struct Refused {
  int status = 429;
  std::string message;
  std::string type;
  std::string code;
  std::optional<base::Duration> retry_after;
  std::vector<std::pair<std::string, std::string>> headers{};  // that tell of limits
};

// Who calls, with what the caller may use at this moment.
struct Caller {
  std::string tenant;
  std::string key_id;
  std::shared_ptr<const access::KeyRing> ring;  // keeps `key`
  const access::ApiKey* key = nullptr;          // null where there are no keys
  std::shared_ptr<const access::Policy> policy;
};

class Gate;

// One request that was let through, until it ends. Settled once; destroyed unsettled it gives everything back.
class Passage {
 public:
  Passage() = default;
  Passage(Passage&& other) noexcept { *this = std::move(other); }
  Passage& operator=(Passage&& other) noexcept;
  ~Passage();

  // The x-ratelimit-* fields of the answer.
  std::vector<std::pair<std::string, std::string>> headers() const { return access::rate_headers(status_); }
  void first_token();
  // Another model answers than the one that was asked for at the gate: it is settled at that one's price.
  void set_model(const Caller& caller, const std::string& model);
  // nullopt: its model has no price.
  std::optional<access::Money> cost_of(const access::Usage& usage) const;
  // What it took; nullopt if its model has no price.
  std::optional<access::Money> settle(const access::Usage& usage);

 private:
  friend class Gate;
  Gate* gate_ = nullptr;
  access::Reservation reservation_;
  access::RateStatus status_;
  std::optional<access::Price> price_;
  uint64_t place_ = 0;  // in the queue, or at the backends; 0: none
};

// What a request asks for, as it is weighed.
struct Asked {
  std::string model;
  std::string_view scope = "generate";
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;  // the most that it may make
};

// Thread-safe.
class Gate {
 public:
  // Errors: the keys or the policy cannot be read.
  static base::Result<std::unique_ptr<Gate>> open(GateOptions options, const base::Clock& clock);

  // Callers show keys, which are for the gateway alone.
  bool wants_keys() const { return vault_ != nullptr; }
  // By bearer token or x-api-key.
  std::pair<Caller, std::optional<Refused>> identify(const wire::HttpRequest& request) const;
  // Whether the caller may do that, with that model.
  static std::optional<Refused> check(const Caller& caller, std::string_view scope, std::string_view model);

  // Of one that comes to the gate: through it unless `refused`, or `gone` while it waited for its turn.
  struct Entry {
    Passage passage;
    std::optional<Refused> refused;
    bool gone = false;
  };
  // Whether the store has told what the caller's tenant has used; if not, `learn` waits for that, as long as the store
  // takes, and is to be called before `reserve`.
  bool knows(const Caller& caller) { return limiter_.knows(caller.tenant, caller.policy->of(caller.tenant)); }
  asio::awaitable<void> learn(const Caller& caller, wire::BlockingPool& pool);
  // Reserves what it may take. Without slots to wait for, that is all; else it has to wait for its turn.
  Entry reserve(const Caller& caller, const Asked& asked);
  bool queues() const { return admission_.has_value(); }
  asio::awaitable<void> wait_for_turn(const Caller& caller, const Asked& asked, wire::Exchange& exchange, Entry& entry);

  // To be called some ten times a second, on a thread that may wait for the store: shares the books, and reads keys
  // that have changed.
  void keep();
  // Tells what has been used here since, unless the store cannot be reached: to be called last of all. Waits for it.
  void share_books();
  // To be called as often as keep(), whatever the store does: ends waits that took too long. Waits for nothing itself.
  void expire();
  // What use_policy() takes, from the file; none where `path` is empty.
  static base::Result<std::shared_ptr<const access::Policy>> load_policy(const std::string& path);
  void use_policy(std::shared_ptr<const access::Policy> policy);

  // The queue's bounds from now on. Whether there is one is settled at the start: nothing happens where `slots` is 0,
  // or was then.
  void set_queue(int slots, size_t max_queued, base::Duration longest_wait);

  std::string currency() const;
  access::Admission::State queue() const;
  // The share of the slots that is taken; 1 while anybody waits for one, 0 where there is no bound.
  double pressure() const;

 private:
  friend class Passage;
  Gate(GateOptions options, const base::Clock& clock);
  base::Result<void> read_keys();
  void look_at_keys();
  // Says it in the log unless it is what was said last; empty: all is well again.
  void complain_of_keys(std::string complaint);

  const GateOptions options_;
  const base::Clock& clock_;
  std::atomic<int> slots_;
  access::Limiter limiter_;
  std::optional<access::Admission> admission_;
  std::unique_ptr<access::KeyVault> vault_;
  int rounds_ = 0;
  // Of the keys; for one thread, as keep() is.
  std::string complaint_;   // as it was said last
  bool keys_lost_ = false;  // the last look at them failed, which is said once

  mutable std::mutex mutex_;  // guards the pointers; what they point to is never changed
  std::shared_ptr<const access::KeyRing> ring_;
  std::shared_ptr<const access::Policy> policy_;
  std::string revision_;
};

}  // namespace tidemill::gateway
