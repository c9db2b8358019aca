// One model server as the gateway knows it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "gateway/gateway_options.hpp"
#include "observe/metrics.hpp"

namespace tidemill::gateway {

// What a look at a backend's /metrics says.
struct BackendLoad {
  double waiting = 0;     // requests in its queue
  double running = 0;     // requests that it computes
  double kv_usage = 0;    // share of its KV cache, 0 to 1
  double started_at = 0;  // of its process, seconds since the Unix epoch; 0: not told

  // Reads Prometheus' text under vLLM's names. What is absent stays 0.
  static BackendLoad parse(std::string_view metrics);
};

// How a try at a backend ended.
enum class Outcome : uint8_t {
  answered,   // whatever the status, if it is the request's own fault or success
  refused,    // 429, 502, 503, 504: it is there, and does not want
  failed,     // unreachable, broken off, no HTTP
  abandoned,  // the client has gone
};

// Thread-safe. Lives as long as anybody uses it, also past a reload that no longer names it.
class Backend {
 public:
  Backend(BackendOptions options, observe::Metrics& metrics, const base::Clock& clock);

  const BackendOptions& options() const { return options_; }
  const std::string& name() const { return options_.name; }

  // Whether to ask it for `model`; empty stands for any.
  bool serves(std::string_view model) const;
  // Its models are known: they are configured, or it has listed them.
  bool models_known() const;
  std::vector<std::string> models() const;
  void set_models(std::vector<std::string> models);

  // Health as the polls and the traffic see it. A backend is available until something speaks against it.
  bool available() const;
  // A look at it has succeeded since it was last found unready.
  bool reachable() const { return reachable_.load(std::memory_order_relaxed); }
  // True if it is another process than before.
  bool note_poll(const BackendLoad& load);
  void note_unready(std::string_view why);
  // Looks that have timed out in a row, with this one.
  int count_timeout() { return ++timeouts_; }
  BackendLoad load() const;

  // Whether its streams bear marks (sse_marks.hpp), as the latest of them showed; nullopt before the first.
  std::optional<bool> sends_marks() const;
  void note_marks(bool marked);

  // Requests that the gateway has under way there.
  int in_flight() const { return in_flight_.load(std::memory_order_relaxed); }

  // One request under way, from the moment a backend was chosen for it.
  class Lease {
   public:
    Lease() = default;
    explicit Lease(std::shared_ptr<Backend> backend);
    Lease(Lease&& other) noexcept = default;
    Lease& operator=(Lease&& other) noexcept;
    ~Lease() { end(Outcome::abandoned); }

    Backend* operator->() const { return backend_.get(); }
    Backend& operator*() const { return *backend_; }
    explicit operator bool() const { return backend_ != nullptr; }
    const std::shared_ptr<Backend>& shared() const { return backend_; }
    // Once; the lease is empty afterwards.
    void end(Outcome outcome);

   private:
    std::shared_ptr<Backend> backend_;
  };

 private:
  void begin();
  void finish(Outcome outcome);

  const BackendOptions options_;
  const base::Clock& clock_;
  std::atomic<int> in_flight_{0};
  std::atomic<bool> ready_{true};
  std::atomic<bool> reachable_{false};
  std::atomic<int> timeouts_{0};
  // Steady nanoseconds until which it is passed over; failures in a row make it longer.
  std::atomic<int64_t> shunned_until_{0};
  std::atomic<int> failures_{0};

  std::atomic<int8_t> marks_{-1};  // unknown, no, yes

  mutable std::mutex mutex_;
  BackendLoad load_;
  std::optional<std::vector<std::string>> listed_;

  observe::Counter& requests_;
  observe::Counter& errors_;
};

}  // namespace tidemill::gateway
