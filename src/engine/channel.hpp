// The queue between the engine's thread and the reader of one request's stream.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "engine/mailbox.hpp"
#include "engine/request.hpp"
#include "engine/stream.hpp"

namespace tidemill::engine {

// Shared by both ends; outlives the engine if the reader does. The engine never waits for a slow reader: what it pushes
// is taken, and it is told when to let the request rest.
class Channel {
 public:
  // `most_unread`: bytes of events, as bytes_of() counts, past which the reader lags. It does until half of that or
  // less is unread.
  explicit Channel(int64_t most_unread) : most_unread_(most_unread) {}

  // The engine's end. `last` says that no event follows. Whether the reader lags.
  bool push(Event event, bool last);
  bool lags() const;

  // The reader's end, as Stream documents.
  struct Taken {
    std::optional<Event> event;
    bool caught_up = false;  // the reader lagged until it took this one, and there is more to come
  };
  Taken try_next();
  Taken next();
  bool ended() const;
  void on_ready(std::function<void()> ready);
  // Whether the last event was pushed, taken or not.
  bool complete() const;

 private:
  Taken take(std::unique_lock<std::mutex>& lock);

  const int64_t most_unread_;
  mutable std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<Event> events_;
  int64_t unread_ = 0;  // bytes of them
  bool lags_ = false;
  bool complete_ = false;

  std::mutex callback_mutex_;  // held while the callback runs, so that replacing it waits for that
  std::function<void()> ready_;
};

// About what the event takes in memory.
int64_t bytes_of(const Event& event);

// A Stream on a channel; dropping it cancels the request.
std::shared_ptr<Stream> make_stream(std::shared_ptr<Channel> channel, std::shared_ptr<Mailbox> mailbox, uint64_t job);

}  // namespace tidemill::engine
