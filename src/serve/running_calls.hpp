// Calls of tools that run, under names by which another message can end them.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <unordered_map>

namespace tidemill::serve {

// Thread-safe. Outlives what it hands out.
class RunningCalls {
  struct Entry {
    std::stop_source stop;
    std::function<void()> wake;
  };
  using Entries = std::unordered_multimap<std::string, std::shared_ptr<Entry>>;

 public:
  // One call, for as long as it runs. For one thread at a time.
  class Running {
   public:
    Running() = default;  // a call that nothing but its own connection can end
    Running(Running&& other) noexcept = default;
    Running& operator=(Running&& other) = delete;
    ~Running();
    bool cancelled() const { return entry_ != nullptr && entry_->stop.stop_requested(); }
    // Asked to stop, from any thread, when the call has been cancelled.
    std::stop_token token() const { return entry_ != nullptr ? entry_->stop.get_token() : std::stop_token(); }

   private:
    friend class RunningCalls;
    Running(RunningCalls* calls, std::shared_ptr<Entry> entry, std::string name)
        : calls_(calls), entry_(std::move(entry)), name_(std::move(name)) {}

    RunningCalls* calls_ = nullptr;
    std::shared_ptr<Entry> entry_;  // null: moved from, or nameless
    std::string name_;
  };

  // `wake` is called, from any thread, when the call has been cancelled; it may be called after the call has ended.
  // Several calls may have one name. One whose cancellation has overtaken it, as it may on another connection, is
  // cancelled from the beginning.
  Running begin(std::string name, std::function<void()> wake);
  // Cancels the calls of that name that run, or, if there are none, the next one.
  void cancel(const std::string& name);

 private:
  void end(const std::string& name, const std::shared_ptr<Entry>& entry);

  std::mutex mutex_;  // guards all of the below
  Entries entries_;
  std::deque<std::string> early_;  // names cancelled that no call had; the oldest go first
};

}  // namespace tidemill::serve
