// The backends of a gateway, and which of them a request goes to.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "gateway/backend.hpp"
#include "gateway/token_usage.hpp"
#include "route/router.hpp"

namespace tidemill::gateway {

// What the choice of a backend depends on.
struct Wanted {
  std::string model;                     // empty: any
  std::string session;                   // requests of one go to where it was before, if that costs little
  std::vector<route::BlockHash> blocks;  // of the prompt, as prompt_blocks() gives them
  uint64_t prompt_bytes = 0;
  std::optional<int64_t> prompt_tokens;                // where bytes would not tell
  std::optional<int64_t> output_tokens;                // the most that are asked for
  const std::vector<std::string>* backends = nullptr;  // those of these names alone, as AskedBackends reads them
  bool marking = false;  // none that is known to send streams without marks: they cannot take one up exactly
};

// A backend that asks for no requests is looked at this often in the time between two other looks: who waits for it
// waits hardly longer than it loads.
inline constexpr int looks_while_unready = 10;

class Fleet;

// One request under way at a backend, from the moment it was chosen.
class Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept { *this = std::move(other); }
  Lease& operator=(Lease&& other) noexcept;
  ~Lease() { end(Outcome::abandoned); }

  Backend* operator->() const { return backend_.get(); }
  Backend& operator*() const { return *backend_; }
  explicit operator bool() const { return backend_ != nullptr; }

  // The first byte that is worth something has come.
  void begin_answer();
  // Once; the lease is empty afterwards. What the backend said of the tokens corrects what is believed of its cache.
  void end(Outcome outcome, const TokenUsage& usage = {});

 private:
  friend class Fleet;
  Fleet* fleet_ = nullptr;
  std::shared_ptr<Backend> backend_;
  route::Ticket ticket_ = 0;
};

// Thread-safe; outlives its leases.
class Fleet {
 public:
  using Backends = std::vector<std::shared_ptr<Backend>>;

  // `max_open`: requests at one backend at one time.
  Fleet(const base::Clock& clock, int max_open) : clock_(clock), router_(router_options(max_open)) {}

  // Those that stay the same in a reload keep their state. The names in `unready` are those of which discovery says
  // that they take no new requests, whatever they say themselves.
  void replace(Backends backends, const std::set<std::string>& unready = {});
  // Requests at one backend at one time, from now on.
  void set_max_open(int max_open) { router_.set_most_open(max_open); }
  Backends backends() const;
  bool contains(const Backend& backend) const;

  // The best backend (route/router.hpp) that serves the model and is none of `tried`. not_found, param "model": no
  // backend serves it, all being known, or there is none of the names that are wanted; unavailable: none that may serve
  // it is left.
  base::Result<Lease> pick(const Wanted& wanted, const std::vector<const Backend*>& tried);

  // How long it may take until there is a backend for a request that none could take now: until an ejection ends, or
  // until enough looks, of which there is one in every `poll_interval`, can have found one well. 0 if one may have room
  // at any moment; at most a minute. Where none is there that may serve it, nobody knows: discovery or a reload brings
  // one, and `poll_interval` only keeps clients from asking all the time.
  base::Duration next_chance(const Wanted& wanted, base::Duration poll_interval) const;

  // What follows is of no account of a backend that is no longer here: another may have its address.

  // What a look at a backend that began at `begun` has found: it is ready. Of one that has asked for no requests since
  // then it is out of date, and tells nothing.
  void note_poll(Backend& backend, const route::BackendReport& report, base::SteadyTime begun);
  // It has told its models, which may be others now.
  void note_models(const Backend& backend);
  // It did not answer, or not well.
  void note_failed_poll(Backend& backend, std::string_view why);
  // It asks for no requests, as it has said to a look that began at `asked`, or to a request at that moment. From now
  // on it gets none until a look finds it ready; for its health this is no failure.
  void note_unready(Backend& backend, route::Unready why, base::SteadyTime asked);

  // The models of all backends, each once, in order.
  std::vector<std::string> models() const;
  std::vector<route::BackendView> view() const { return router_.view(clock_.now()); }

 private:
  friend class Lease;
  std::shared_ptr<const Backends> all() const;
  static route::RouterOptions router_options(int max_open) {
    route::RouterOptions options;
    options.health.most_open = max_open;
    return options;
  }

  const base::Clock& clock_;
  route::Router router_;
  std::mutex noting_;         // held while something is noted, so that router and backend always agree
  mutable std::mutex mutex_;  // guards what follows
  std::shared_ptr<const Backends> backends_ = std::make_shared<const Backends>();
};

// The blocks of a request's prompt, from the texts that it is made of as they stand in the body. Turns of one
// conversation begin alike, and so do requests with one system prompt.
struct PromptBlocks {
  std::vector<route::BlockHash> blocks;
  uint64_t bytes = 0;
};
PromptBlocks prompt_blocks(std::string_view salt, std::string_view tools, std::string_view system,
                           std::string_view prompt);

}  // namespace tidemill::gateway
