#include "engine/mailbox.hpp"

#include <utility>

#include <fmt/format.h>

#include "engine/job.hpp"

namespace tidemill::engine {

Mailbox::Mailbox(int max_waiting) : max_waiting_(max_waiting) {}
Mailbox::~Mailbox() = default;

base::Result<void> Mailbox::post(std::unique_ptr<Job> job) {
  const std::lock_guard lock(mutex_);
  const auto refuse = [&job](base::ErrorCode code, std::string why) {
    job->span.fail(why);
    return base::Error(code, std::move(why));
  };
  if (letters_.closed) return refuse(base::ErrorCode::unavailable, "the engine has stopped");
  if (draining_) return refuse(base::ErrorCode::unavailable, "the engine is draining and takes no new requests");
  if (waiting_ >= max_waiting_) {
    return refuse(base::ErrorCode::exhausted,
                  fmt::format("the queue is full: {} requests wait already; try again later", waiting_));
  }
  ++waiting_;
  ++in_flight_;
  letters_.arrivals.push_back(std::move(job));
  posted_.notify_one();
  return {};
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

int Mailbox::in_flight() const {
  const std::lock_guard lock(mutex_);
  return in_flight_;
}

}  // namespace tidemill::engine
