// Sockets, and what the kernel says of them to the one thread that serves them. Private to the room.
//
// A socket is registered once in its life, for edges: nothing is asked of the kernel between a read that found all
// there was and the next bytes. Asio, which would register each wait anew, watches over all of them as one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <sys/epoll.h>

#include <boost/asio/execution_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/system/error_code.hpp>

namespace tidemill::wire {

namespace asio = boost::asio;

class SocketEvents;

// What errno says.
boost::system::error_code last_error();

// A TCP socket that never blocks. Not thread-safe: on the thread of its context, save the constructors and `close`
// before `watch`.
class Socket {
 public:
  using Tell = void (*)(void* owner);

  // `tell` is called with `owner` after what the kernel said has been noted, as the last act of what the event loop
  // called; it may close or destroy the socket.
  Socket(SocketEvents& events, Tell tell, void* owner) : events_(events), tell_(tell), owner_(owner) {}
  // Of a descriptor that is connected, which it owns from here on; `watch` has yet to be called.
  Socket(SocketEvents& events, Tell tell, void* owner, int descriptor);
  ~Socket() { close(); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // Begins to connect a fresh descriptor, and to watch it: it is `writable` when `connected` has an answer.
  boost::system::error_code connect(const asio::ip::tcp::endpoint& to);
  boost::system::error_code connected() const;
  // From here on the kernel's word comes.
  boost::system::error_code watch();
  void close();
  bool is_open() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }
  void shutdown_send() const;
  // The peer sees a reset, not an orderly end.
  void reset();

  // Whether to read, or to write, may move something.
  bool readable() const { return readable_; }
  bool writable() const { return writable_; }
  // Said by who has found nothing to read, or no room to write to: not `readable`, or `writable`, until the kernel says
  // so.
  void note_drained() { readable_ = false; }
  void note_full() { writable_ = false; }
  // Said by who has read fewer bytes than asked for: that is all there was (epoll(7)), unless the peer's end has come,
  // which is to be read yet, or reading stops at urgent data.
  void note_short() { readable_ = ended_ || urgent_; }

  // Somebody waits for the kernel's word, for which the context has to run. Without anybody it may be late.
  void wait_for_events(bool wait);

 private:
  friend class SocketEvents;

  SocketEvents& events_;
  Tell tell_;
  void* owner_;
  int descriptor_ = -1;
  bool watched_ = false;
  bool waits_ = false;
  bool readable_ = false;
  bool writable_ = true;
  bool ended_ = false;   // by the peer, or by an error
  bool urgent_ = false;  // the peer has sent urgent data
};

// One per io_context, made on first use; the context must be run by one thread at a time.
class SocketEvents : public asio::execution_context::service {
 public:
  using key_type = SocketEvents;
  inline static asio::execution_context::id id;

  explicit SocketEvents(asio::execution_context& context);
  static SocketEvents& of(asio::execution_context& context);
  // Takes the descriptors that are needed, which otherwise the first socket does, and may find that there are none
  // left.
  static boost::system::error_code prepare(asio::execution_context& context);

 private:
  friend class Socket;

  void shutdown() override;
  boost::system::error_code open();
  boost::system::error_code add(Socket& socket);
  void remove(Socket& socket);
  void begin_wait();
  void end_wait();
  void arm();
  void tell_all();

  asio::posix::stream_descriptor epoll_;  // opened with the first socket
  std::array<epoll_event, 64> said_{};    // in a turn; null where the socket has gone meanwhile
  size_t next_ = 0;
  size_t count_ = 0;
  size_t waits_ = 0;
  bool armed_ = false;
  bool ended_ = false;
};

}  // namespace tidemill::wire
