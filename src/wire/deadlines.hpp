// Deadlines of many connections on one thread: one timer for all of them. Private to the room.
//
// A hashed wheel (Varghese and Lauck, 1987) with lazy entries: a deadline that moves later, as those of reads and
// writes do all the time, costs one store; its place in the wheel is looked at again when its old slot comes up.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include <boost/asio/execution_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/clock.hpp"

namespace tidemill::wire {

namespace asio = boost::asio;

// One per io_context, made on first use; the context must be run by one thread at a time, and everything here happens
// on that thread. An entry fires up to two slots late, never early. As long as entries that were once set exist, the
// context may have work: io_context::run returns when the last one is gone, or up to a turn (about four seconds) later
// than it was cleared.
class Deadlines : public asio::execution_context::service {
 public:
  using key_type = Deadlines;
  inline static asio::execution_context::id id;

  class Entry {
   public:
    // `fire` is called with `owner` when the deadline has passed, once for each `set`. It may set, clear or destroy
    // the entry.
    Entry(Deadlines& wheel, void (*fire)(void*), void* owner) : wheel_(wheel), fire_(fire), owner_(owner) {}
    ~Entry() { unlink(); }
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

    // Replaces the previous deadline; SteadyTime::max() is none.
    void set(base::SteadyTime due);
    void clear() { due_ = base::SteadyTime::max(); }

   private:
    friend class Deadlines;
    void unlink();

    Deadlines& wheel_;
    void (*fire_)(void*);
    void* owner_;
    base::SteadyTime due_ = base::SteadyTime::max();
    int64_t tick_ = 0;  // of the slot it is in
    Entry* next_ = nullptr;
    Entry** link_ = nullptr;  // what points to this entry; null: not in the wheel
  };

  // Something that waits on this thread and holds a coroutine: let go when the context ends, as Asio does with its own.
  class Wait {
   public:
    Wait(const Wait&) = delete;
    Wait& operator=(const Wait&) = delete;

   protected:
    Wait() = default;
    virtual ~Wait() { leave(); }
    void join(Deadlines& wheel);
    void leave();
    virtual void drop() = 0;

   private:
    friend class Deadlines;
    Wait* next_ = nullptr;
    Wait** link_ = nullptr;
  };

  // By the machine's own clock, as the network goes by no other.
  static base::SteadyTime now() { return base::SystemClock::instance().now(); }

  explicit Deadlines(asio::execution_context& context);
  static Deadlines& of(asio::execution_context& context);

 private:
  static constexpr int64_t slot_count = 512;

  void shutdown() override;
  void link(Entry& entry, int64_t tick);
  void wake_at(int64_t tick);
  void turn();
  void rest();

  asio::steady_timer timer_;
  std::array<Entry*, slot_count> slots_{};
  size_t linked_ = 0;
  Wait* waits_ = nullptr;
  int64_t turned_ = 0;  // every slot up to this tick has been looked at
  int64_t wake_ = INT64_MAX;
  bool ended_ = false;
};

}  // namespace tidemill::wire
