#include "engine/channel.hpp"

#include <utility>

namespace tidemill::engine {

void Channel::push(Event event, bool last) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    complete_ = last;
  }
  filled_.notify_one();
  const std::lock_guard lock(callback_mutex_);
  if (ready_) ready_();
}

std::optional<Event> Channel::take(std::unique_lock<std::mutex>& /*lock*/) {
  if (events_.empty()) return std::nullopt;
  Event event = std::move(events_.front());
  events_.pop_front();
  return event;
}

std::optional<Event> Channel::try_next() {
  std::unique_lock lock(mutex_);
  return take(lock);
}

std::optional<Event> Channel::next() {
  std::unique_lock lock(mutex_);
  filled_.wait(lock, [this] { return !events_.empty() || complete_; });
  return take(lock);
}

bool Channel::ended() const {
  const std::lock_guard lock(mutex_);
  return complete_ && events_.empty();
}

bool Channel::complete() const {
  const std::lock_guard lock(mutex_);
  return complete_;
}

void Channel::on_ready(std::function<void()> ready) {
  const std::lock_guard callback_lock(callback_mutex_);
  ready_ = std::move(ready);
  if (!ready_) return;
  bool waiting = false;
  {
    const std::lock_guard lock(mutex_);
    waiting = !events_.empty();
  }
  if (waiting) ready_();
}

namespace {

class ChannelStream final : public Stream {
 public:
  ChannelStream(std::shared_ptr<Channel> channel, std::shared_ptr<Mailbox> mailbox, uint64_t job)
      : channel_(std::move(channel)), mailbox_(std::move(mailbox)), job_(job) {}
  ~ChannelStream() override {
    channel_->on_ready({});
    ChannelStream::cancel();
  }

  std::optional<Event> try_next() override { return channel_->try_next(); }
  std::optional<Event> next() override { return channel_->next(); }
  bool ended() const override { return channel_->ended(); }
  void on_ready(std::function<void()> ready) override { channel_->on_ready(std::move(ready)); }
  void cancel() override {
    if (!channel_->complete()) mailbox_->cancel(job_);
  }

 private:
  std::shared_ptr<Channel> channel_;
  std::shared_ptr<Mailbox> mailbox_;
  uint64_t job_;
};

}  // namespace

std::shared_ptr<Stream> make_stream(std::shared_ptr<Channel> channel, std::shared_ptr<Mailbox> mailbox, uint64_t job) {
  return std::make_shared<ChannelStream>(std::move(channel), std::move(mailbox), job);
}

}  // namespace tidemill::engine
