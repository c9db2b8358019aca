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

#include "gateway/gateway_options.hpp"
#include "gateway/hang_up.hpp"
#include "gateway/model_card.hpp"
#include "observe/metrics.hpp"
#include "route/backend_load.hpp"
#include "wire/url.hpp"

namespace tidemill::gateway {

// What a backend's /metrics say, read under vLLM's names. What is absent stays empty.
route::BackendReport parse_report(std::string_view metrics);

// How a try at a backend ended.
enum class Outcome : uint8_t {
  answered,   // it has done what was asked
  declined,   // it is well, and has not: the request is at fault, as it sees it, or it cannot take a stream up
  faulty,     // 500, 502, 504, or such an error as a stream's first event
  refused,    // 429, 503: it is there, and does not want
  unready,    // 503, as it loads or drains: it asks for no requests (told_unready.hpp)
  failed,     // unreachable, broken off, no HTTP
  abandoned,  // the client has gone
};

// That of an answer with this status, which came whole.
Outcome outcome_of(int status);

// Thread-safe. Lives as long as anybody uses it, also past a reload that no longer names it.
class Backend {
 public:
  Backend(BackendOptions options, observe::Metrics& metrics);

  const BackendOptions& options() const { return options_; }
  const std::string& name() const { return options_.name; }
  const wire::Url& url() const { return url_; }
  // As a backend sees it: behind the path of its URL, if that has one.
  std::string target(std::string_view of_the_client) const;

  // Whether to ask it for `model`; empty stands for any.
  bool serves(std::string_view model) const;
  // Its models are known: they are configured, or it has listed them.
  bool models_known() const;
  std::vector<std::string> models() const;
  // The same, with what it has said of them; of those that are configured and that it has not listed, the name alone.
  std::vector<ModelCard> model_cards() const;
  // What it has answered to GET /v1/models. A list takes the place of the one before; all else changes nothing, and is
  // said in the log when it begins. The same answer again is not read again.
  void note_list(int status, std::string_view body);

  // It has answered 401, where the key that is configured for it was sent: nothing that clients could mend. Counted,
  // and said once in the log.
  void note_unauthorized();

  // The latest look at it has found it ready. Whether it gets requests, the fleet decides.
  bool ready() const { return seen_.load(std::memory_order_relaxed) == Seen::ready; }
  void note_ready(const route::BackendReport& report);
  // `by_itself`: it answers, and asks for no requests. Changes of either kind are said in the log, and so is the first
  // look.
  void note_unready(std::string_view why, bool by_itself, base::SteadyTime now);
  // It asks for no requests, as far as is known.
  bool asks_for_none() const { return seen_.load(std::memory_order_relaxed) == Seen::unready; }
  // It has asked for none after `moment`.
  bool asked_for_none_after(base::SteadyTime moment) const;
  route::BackendReport report() const;
  // Looks that have timed out in a row, with this one.
  int count_timeout() { return ++timeouts_; }
  int timeouts() const { return timeouts_; }

  // Whether its streams bear marks (sse_marks.hpp), as the latest of them showed; nullopt before the first.
  std::optional<bool> sends_marks() const;
  void note_marks(bool marked);

  // The tries under way there.
  HangUps& hang_ups() { return hang_ups_; }

  // Requests that the gateway has under way there.
  int in_flight() const { return in_flight_.load(std::memory_order_relaxed); }

  void begin();
  // A request under way was sent a second time, on another connection.
  void note_sent_again() { requests_.add(); }
  void finish(Outcome outcome);

 private:
  void note_no_list(std::string_view why);

  const BackendOptions options_;
  wire::Url url_;
  std::string base_path_;
  std::atomic<int> in_flight_{0};
  enum class Seen : uint8_t { never, ready, unready, failing };
  std::atomic<Seen> seen_{Seen::never};
  std::atomic<int> timeouts_{0};
  std::atomic<int8_t> marks_{-1};  // unknown, no, yes

  HangUps hang_ups_;

  mutable std::mutex mutex_;                        // guards what follows
  std::optional<base::SteadyTime> asked_for_none_;  // when it did so last
  route::BackendReport report_;
  std::optional<std::vector<ModelCard>> listed_;  // in order of their ids
  size_t list_hash_ = 0;                          // of the answer that listed_ was read from
  bool told_no_list_ = false;
  bool told_unauthorized_ = false;

  observe::Counter& requests_;
  observe::Counter& errors_;
  observe::Counter& unauthorized_;
};

}  // namespace tidemill::gateway
