#include "engine/mailbox.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "engine/job.hpp"

namespace tidemill::engine {

Mailbox::Mailbox(int max_waiting) : max_waiting_(max_waiting) {}
Mailbox::~Mailbox() = default;

base::Result<size_t> Mailbox::post(std::vector<std::unique_ptr<Job>> jobs) {
  const std::lock_guard lock(mutex_);
  const auto refuse = [&jobs](base::ErrorCode code, std::string why, size_t from = 0) {
    for (size_t i = from; i < jobs.size(); ++i)
      jobs[i]->span.fail(why);
    return base::Error(code, std::move(why));
  };
  if (letters_.closed) return refuse(base::ErrorCode::unavailable, "the engine has stopped");
  if (draining_) return refuse(base::ErrorCode::unavailable, "the engine is draining and takes no new requests");
  const size_t taken = std::min(room_left(), jobs.size());
  if (taken < jobs.size()) {
    base::Error full =
        refuse(base::ErrorCode::exhausted,
               fmt::format("the queue is full: {} requests wait already; try again later", waiting_), taken);
    if (taken == 0) return full;
  }
  waiting_ += static_cast<int>(taken);
  in_flight_ += static_cast<int>(taken);
  std::move(jobs.begin(), jobs.begin() + static_cast<std::ptrdiff_t>(taken), std::back_inserter(letters_.arrivals));
  posted_.notify_one();
  return taken;
}

void Mailbox::cancel(uint64_t job) {
  const std::lock_guard lock(mutex_);
  if (letters_.closed) return;
  letters_.cancelled.push_back(job);
  posted_.notify_one();
}

void Mailbox::caught_up(uint64_t job) {
  const std::lock_guard lock(mutex_);
  if (letters_.closed) return;
  letters_.caught_up.push_back(job);
  posted_.notify_one();
}

bool Mailbox::post_errand(std::function<void()> errand) {
  const std::lock_guard lock(mutex_);
  if (letters_.closed) return false;
  letters_.errands.push_back(std::move(errand));
  posted_.notify_one();
  return true;
}

void Mailbox::drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
}

void Mailbox::close() {
  const std::lock_guard lock(mutex_);
  letters_.closed = true;
  posted_.notify_one();
}

Mailbox::Letters Mailbox::take(bool wait) {
  std::unique_lock lock(mutex_);
  const auto something = [this] {
    return letters_.closed || !letters_.arrivals.empty() || !letters_.cancelled.empty() ||
           !letters_.caught_up.empty() || !letters_.errands.empty();
  };
  if (wait) posted_.wait(lock, something);
  Letters taken = std::exchange(letters_, {});
  letters_.closed = taken.closed;
  return taken;
}

void Mailbox::left_queue() {
  const std::lock_guard lock(mutex_);
  --waiting_;
}

void Mailbox::left() {
  const std::lock_guard lock(mutex_);
  --in_flight_;
}

int Mailbox::waiting() const {
  const std::lock_guard lock(mutex_);
  return waiting_;
}

size_t Mailbox::room() const {
  const std::lock_guard lock(mutex_);
  return room_left();
}

size_t Mailbox::room_left() const {
  return static_cast<size_t>(std::max(0, max_waiting_ - waiting_));
}

int Mailbox::in_flight() const {
  const std::lock_guard lock(mutex_);
  return in_flight_;
}

}  // namespace tidemill::engine
