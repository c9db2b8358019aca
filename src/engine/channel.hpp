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

// Shared by both ends; outlives the engine if the reader does. Its size is bounded by what the request may generate, so
// the engine never waits for a slow reader.
class Channel {
 public:
  // The engine's end. `last` says that no event follows.
  void push(Event event, bool last);

  // The reader's end, as Stream documents.
  std::optional<Event> try_next();
  std::optional<Event> next();
  bool ended() const;
  void on_ready(std::function<void()> ready);
  // Whether the last event was pushed, taken or not.
  bool complete() const;

 private:
  std::optional<Event> take(std::unique_lock<std::mutex>& lock);

  mutable std::mutex mutex_;
  std::condition_variable filled_;
  std::deque<Event> events_;
  bool complete_ = false;

  std::mutex callback_mutex_;  // held while the callback runs, so that replacing it waits for that
  std::function<void()> ready_;
};

// A Stream on a channel; dropping it cancels the request.
std::shared_ptr<Stream> make_stream(std::shared_ptr<Channel> channel, std::shared_ptr<Mailbox> mailbox, uint64_t job);

}  // namespace tidemill::engine
