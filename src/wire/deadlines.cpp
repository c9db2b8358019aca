#include "wire/deadlines.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/io_context.hpp>

namespace tidemill::wire {

namespace {

constexpr base::Duration slot_length = std::chrono::milliseconds(8);

// The first tick at which `due` has passed.
int64_t tick_after(base::SteadyTime due) {
  return due.time_since_epoch() / slot_length + 1;
}

}  // namespace

Deadlines::Deadlines(asio::execution_context& context)
    : asio::execution_context::service(context),
      timer_(static_cast<asio::io_context&>(context)),
      turned_(now().time_since_epoch() / slot_length) {}

Deadlines& Deadlines::of(asio::execution_context& context) {
  return asio::use_service<Deadlines>(context);
}

void Deadlines::shutdown() {
  ended_ = true;
  timer_.cancel();
  for (Entry*& slot : slots_) {
    while (slot != nullptr)
      slot->unlink();
  }
  while (waits_ != nullptr) {
    Wait& wait = *waits_;
    wait.leave();
    wait.drop();
  }
}

void Deadlines::Wait::join(Deadlines& wheel) {
  next_ = wheel.waits_;
  link_ = &wheel.waits_;
  if (next_ != nullptr) next_->link_ = &next_;
  wheel.waits_ = this;
}

void Deadlines::Wait::leave() {
  if (link_ == nullptr) return;
  *link_ = next_;
  if (next_ != nullptr) next_->link_ = link_;
  next_ = nullptr;
  link_ = nullptr;
}

void Deadlines::Entry::set(base::SteadyTime due) {
  due_ = due;
  if (due == base::SteadyTime::max() || wheel_.ended_) return;
  const int64_t tick = tick_after(due);
  if (link_ != nullptr && tick_ <= tick) return;  // looked at in time
  unlink();
  wheel_.link(*this, tick);
}

void Deadlines::Entry::unlink() {
  if (link_ == nullptr) return;
  *link_ = next_;
  if (next_ != nullptr) next_->link_ = link_;
  next_ = nullptr;
  link_ = nullptr;
  if (--wheel_.linked_ == 0) wheel_.rest();
}

// Nothing is left to wait for: the context need not stay for it.
void Deadlines::rest() {
  if (wake_ == INT64_MIN) return;  // it is turning, and will see
  wake_ = INT64_MAX;
  timer_.cancel();
}

void Deadlines::link(Entry& entry, int64_t tick) {
  // A wheel that nothing was in has not turned; what lies beyond its horizon is looked at half a turn ahead.
  if (wake_ == INT64_MAX) turned_ = now().time_since_epoch() / slot_length;
  entry.tick_ = std::clamp(tick, turned_ + 1, turned_ + slot_count - 1);
  Entry*& head = slots_[static_cast<size_t>(entry.tick_ % slot_count)];
  entry.next_ = head;
  entry.link_ = &head;
  if (head != nullptr) head->link_ = &entry.next_;
  head = &entry;
  ++linked_;
  wake_at(entry.tick_);
}

void Deadlines::wake_at(int64_t tick) {
  if (tick >= wake_) return;
  wake_ = tick;
  timer_.expires_at(
      std::chrono::time_point_cast<asio::steady_timer::duration>(base::SteadyTime(base::Duration(slot_length * tick))));
  timer_.async_wait([this](boost::system::error_code error) {
    if (!error && !ended_) turn();
  });
}

void Deadlines::turn() {
  const base::SteadyTime time = now();
  const int64_t until = std::min(time.time_since_epoch() / slot_length, turned_ + slot_count - 1);
  // While entries fire, `wake_` holds off new timers.
  wake_ = INT64_MIN;
  while (turned_ < until) {
    ++turned_;  // what is set from here on goes into later slots
    Entry*& slot = slots_[static_cast<size_t>(turned_ % slot_count)];
    while (slot != nullptr) {
      Entry& entry = *slot;
      entry.unlink();
      if (entry.due_ == base::SteadyTime::max()) continue;
      if (const int64_t tick = tick_after(entry.due_); tick > turned_) {
        link(entry, tick);
      } else {
        entry.due_ = base::SteadyTime::max();
        entry.fire_(entry.owner_);
      }
    }
  }
  wake_ = INT64_MAX;
  for (int64_t tick = turned_ + 1; tick < turned_ + slot_count; ++tick) {
    if (slots_[static_cast<size_t>(tick % slot_count)] == nullptr) continue;
    wake_at(tick);
    break;
  }
}

}  // namespace tidemill::wire
