// The stream of events that answers one request.
#pragma once

#include <functional>
#include <optional>

#include "engine/request.hpp"

namespace tidemill::engine {

// Produced by the engine's thread, consumed by one other. Dropping the last reference cancels the request.
class Stream {
 public:
  virtual ~Stream() = default;

  // The next event if one is there, without waiting. Events of one choice come in order; after the event that carries
  // `usage` (or an `error`) there are no more.
  virtual std::optional<Event> try_next() = 0;
  // Waits for the next event; nullopt when the stream has ended.
  virtual std::optional<Event> next() = 0;
  // Whether the last event has been taken.
  virtual bool ended() const = 0;

  // Calls `ready` from the engine's thread whenever events are added (and at once, from this thread, if some are
  // already there). It must return quickly and not call back into the stream. Replaces the previous callback; an empty
  // one removes it, and after that call returns the old one is not running any more.
  virtual void on_ready(std::function<void()> ready) = 0;

  // Ends the request: its blocks are freed within one step. Idempotent. The stream ends with FinishReason::cancelled.
  virtual void cancel() = 0;
};

}  // namespace tidemill::engine
