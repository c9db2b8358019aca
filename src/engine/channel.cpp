#include "engine/channel.hpp"

#include <utility>

namespace tidemill::engine {

// The bytes of most tokens have room in their strings.
int64_t bytes_of(const Event& event) {
  size_t bytes = sizeof(Event) + event.text.size() + event.tokens.size() * sizeof(Token) +
                 event.text_ends.size() * sizeof(size_t) + event.embedding.size() * sizeof(float);
  for (const TokenInfo& info : event.logprobs)
    bytes += sizeof(TokenInfo) + info.top.size() * sizeof(TokenLogprob);
  return static_cast<int64_t>(bytes);
}

bool Channel::push(Event event, bool last) {
  bool lags = false;
  {
    const std::lock_guard lock(mutex_);
    unread_ += bytes_of(event);
    events_.push_back(std::move(event));
    complete_ = last;
    lags_ = lags_ || unread_ > most_unread_;
    lags = lags_;
  }
  filled_.notify_one();
  const std::lock_guard lock(callback_mutex_);
  if (ready_) ready_();
  return lags;
}

bool Channel::lags() const {
  const std::lock_guard lock(mutex_);
  return lags_;
}

Channel::Taken Channel::take(std::unique_lock<std::mutex>& /*lock*/) {
  if (events_.empty()) return {};
  Taken taken{.event = std::move(events_.front())};
  events_.pop_front();
  unread_ -= bytes_of(*taken.event);
  if (lags_ && unread_ <= most_unread_ / 2) {
    lags_ = false;
    taken.caught_up = !complete_;
  }
  return taken;
}

Channel::Taken Channel::try_next() {
  std::unique_lock lock(mutex_);
  return take(lock);
}

Channel::Taken Channel::next() {
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

  std::optional<Event> try_next() override { return tell(channel_->try_next()); }
  std::optional<Event> next() override { return tell(channel_->next()); }
  bool ended() const override { return channel_->ended(); }
  void on_ready(std::function<void()> ready) override { channel_->on_ready(std::move(ready)); }
  void cancel() override {
    if (!channel_->complete()) mailbox_->cancel(job_);
  }

 private:
  std::optional<Event> tell(Channel::Taken taken) {
    if (taken.caught_up) mailbox_->caught_up(job_);
    return std::move(taken.event);
  }

  std::shared_ptr<Channel> channel_;
  std::shared_ptr<Mailbox> mailbox_;
  uint64_t job_;
};

}  // namespace

std::shared_ptr<Stream> make_stream(std::shared_ptr<Channel> channel, std::shared_ptr<Mailbox> mailbox, uint64_t job) {
  return std::make_shared<ChannelStream>(std::move(channel), std::move(mailbox), job);
}

}  // namespace tidemill::engine
