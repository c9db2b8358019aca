#include "serve/running_calls.hpp"

#include <utility>
#include <vector>

namespace tidemill::serve {

namespace {

// Most cancellations of calls that have ended come too late, and are kept for nothing.
constexpr size_t max_early = 64;
constexpr size_t max_early_name = 512;

}  // namespace

RunningCalls::Running::~Running() {
  if (entry_ != nullptr) calls_->end(name_, entry_);
}

RunningCalls::Running RunningCalls::begin(std::string name, std::function<void()> wake) {
  auto entry = std::make_shared<Entry>();
  entry->wake = std::move(wake);
  const std::lock_guard lock(mutex_);
  if (std::erase(early_, name) > 0) (void)entry->stop.request_stop();
  entries_.emplace(name, entry);
  return {this, std::move(entry), std::move(name)};
}

void RunningCalls::cancel(const std::string& name) {
  std::vector<std::shared_ptr<Entry>> found;
  {
    const std::lock_guard lock(mutex_);
    const auto [first, last] = entries_.equal_range(name);
    for (auto one = first; one != last; ++one)
      found.push_back(one->second);
    if (found.empty() && name.size() <= max_early_name) {
      early_.push_back(name);
      if (early_.size() > max_early) early_.pop_front();
    }
  }
  for (const auto& entry : found) {
    (void)entry->stop.request_stop();
    entry->wake();
  }
}

void RunningCalls::end(const std::string& name, const std::shared_ptr<Entry>& entry) {
  const std::lock_guard lock(mutex_);
  const auto [first, last] = entries_.equal_range(name);
  for (auto one = first; one != last; ++one) {
    if (one->second != entry) continue;
    entries_.erase(one);
    return;
  }
}

}  // namespace tidemill::serve
