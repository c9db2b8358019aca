// What the endpoints share: the model and engine once they are there, the life cycle, spans and metrics.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <boost/asio/awaitable.hpp>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "engine/engine.hpp"
#include "observe/metrics.hpp"
#include "observe/trace.hpp"
#include "serve/loaded_model.hpp"
#include "serve/running_calls.hpp"
#include "serve/serve_options.hpp"
#include "session/session_store.hpp"
#include "text/chat_template.hpp"
#include "wire/blocking_pool.hpp"
#include "wire/drainable.hpp"

namespace tidemill::serve {

namespace asio = boost::asio;

// A model and the engine that runs it.
struct Serving {
  std::unique_ptr<LoadedModel> model;
  std::unique_ptr<engine::Engine> engine;  // after the model, so that it goes first
  int64_t since = 0;                       // seconds since the Unix epoch
  std::string fingerprint;                 // see resumption.hpp
};

// Thread-safe. Outlives every handler.
class Service : public wire::Drainable {
 public:
  Service(ServeOptions options, const base::Clock& clock);
  ~Service();

  const ServeOptions& options() const { return options_; }
  const base::Clock& clock() const { return clock_; }
  observe::Tracer& tracer() { return tracer_; }
  observe::Metrics& metrics() { return metrics_; }

  // What is served; null while the model loads.
  const Serving* serving() const { return serving_.load(std::memory_order_acquire); }
  // Once.
  void set_serving(std::unique_ptr<Serving> serving);

  // Where conversations are kept; for the store pool. Set once, before the first handler runs.
  session::SessionStore& sessions() { return *sessions_; }
  void set_sessions(std::unique_ptr<session::SessionStore> sessions) { sessions_ = std::move(sessions); }

  // Calls over MCP.
  RunningCalls& running_calls() { return running_calls_; }

  // Whether new work is refused now, in the words of wire/unready.hpp; nullopt when it is not.
  std::optional<std::string_view> unready() const;
  // Likewise, as an error.
  std::optional<base::Error> refusal() const;

  // Seconds after which a client that was turned away may try again: how long the queue takes at the present rate,
  // from 1 to 60.
  int retry_after_s() const;
  // Feeds the estimate above with the tokens that one request generated.
  void note_completion(int64_t tokens);

  // At least so much text goes to the pool: tokenizing runs at some ten megabytes a second, so that this is a few
  // milliseconds. What may take long for other reasons is counted as this much.
  static constexpr size_t pooled_text_bytes = (size_t{64} << 10) + 1;

  // What is told to whoever comes too late for a pool, or waited there too long.
  static constexpr const char* stopping = "the server is stopping";

  // Runs `work` for the exchange (null: for nobody who may go) on a pool. What waits there longer than its client, or
  // until give_up_waiting(), is not done any more: errors `cancelled` and `unavailable`. Replaces what the exchange
  // does on disconnecting: `gone` is asked to stop then, so that work that has begun can end. `work` and what it refers
  // to must outlive the coroutine.
  template <typename Work>
  asio::awaitable<std::invoke_result_t<Work&>> run_pooled(wire::BlockingPool& pool, wire::Exchange* exchange,
                                                          Work& work, std::stop_source gone = {}) {
    if (exchange != nullptr) exchange->on_disconnect([gone]() mutable { (void)gone.request_stop(); });
    auto turn = [&]() -> std::invoke_result_t<Work&> {
      if (gone.stop_requested()) return base::Error(base::ErrorCode::cancelled, "the client has closed the connection");
      if (gives_up_waiting()) return base::Error(base::ErrorCode::unavailable, stopping);
      return work();
    };
    co_return co_await pool.run(turn);
  }

  // Runs `work` on the calling coroutine's thread, or, if `text_bytes` of input would hold that thread up for long,
  // pooled. Error `unavailable` after close_pools().
  template <typename Work>
  asio::awaitable<std::invoke_result_t<Work&>> run_text_work(size_t text_bytes, wire::Exchange* exchange, Work work) {
    if (text_bytes < pooled_text_bytes) co_return work();
    co_return co_await run_pooled(text_pool(text_bytes), exchange, work);
  }
  // For chat templates, of which a small input may keep some busy for seconds: a few milliseconds of them.
  static constexpr uint64_t inline_template_steps = 100'000;

  // As run_text_work, for work that renders chat templates: it gets an allowance of steps on the coroutine's thread,
  // and where it has exceeded that, it is done again, without one (null), on the pool.
  template <typename Work>
  asio::awaitable<std::invoke_result_t<Work&, text::StepAllowance*>> run_template_work(size_t text_bytes,
                                                                                       wire::Exchange* exchange,
                                                                                       Work work) {
    if (text_bytes < pooled_text_bytes) {
      text::StepAllowance allowance(inline_template_steps);
      auto done = work(&allowance);
      if (!allowance.exceeded()) co_return done;
    }
    auto whole = [&work] { return work(nullptr); };
    co_return co_await run_pooled(text_pool(text_bytes), exchange, whole);
  }
  // For compiling grammars. Those of full effort have a thread of their own, one after the other, so that they hold up
  // nothing but each other.
  wire::BlockingPool& grammar_pool(GrammarCache::Effort effort) {
    return effort == GrammarCache::Effort::slight ? grammar_pool_ : large_grammar_pool_;
  }
  // For work that may wait for a disk.
  wire::BlockingPool& store_pool() { return store_pool_; }
  // What waits for its turn in run_pooled() is given up from now on, and so are grammars that are being compiled; other
  // work that has begun is finished.
  void give_up_waiting() { (void)giving_up_.request_stop(); }
  bool gives_up_waiting() const { return giving_up_.stop_requested(); }
  std::stop_token giving_up() const { return giving_up_.get_token(); }
  // Does that, takes no further work for the pools and waits for what runs (wire/blocking_pool.hpp).
  void close_pools();

 private:
  const ServeOptions options_;
  const base::Clock& clock_;
  observe::Tracer tracer_;
  observe::Metrics metrics_;

  std::unique_ptr<session::SessionStore> sessions_;
  std::unique_ptr<Serving> owned_;
  std::atomic<const Serving*> serving_{nullptr};
  RunningCalls running_calls_;

  std::atomic<uint64_t> completions_{0};
  std::atomic<uint64_t> completion_tokens_{0};
  // Texts of over a megabyte wait for each other alone.
  wire::BlockingPool& text_pool(size_t text_bytes) {
    constexpr size_t large = size_t{1} << 20;
    return text_bytes > large ? large_text_pool_ : text_pool_;
  }

  std::stop_source giving_up_;
  wire::BlockingPool text_pool_;
  wire::BlockingPool large_text_pool_;
  wire::BlockingPool grammar_pool_;
  wire::BlockingPool large_grammar_pool_;
  wire::BlockingPool store_pool_;
};

}  // namespace tidemill::serve
