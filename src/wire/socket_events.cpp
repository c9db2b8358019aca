#include "wire/socket_events.hpp"

#include <algorithm>
#include <cerrno>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/system/system_error.hpp>

namespace tidemill::wire {

using boost::system::error_code;

error_code last_error() {
  return {errno, boost::system::system_category()};
}

// ---- a socket

Socket::Socket(SocketEvents& events, Tell tell, void* owner, int descriptor)
    : events_(events), tell_(tell), owner_(owner), descriptor_(descriptor) {}

error_code Socket::connect(const asio::ip::tcp::endpoint& to) {
  close();
  descriptor_ = ::socket(to.protocol().family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
  if (descriptor_ < 0) return last_error();
  // An interrupted connect goes on by itself.
  if (::connect(descriptor_, to.data(), static_cast<socklen_t>(to.size())) != 0 && errno != EINPROGRESS &&
      errno != EINTR) {
    return last_error();
  }
  writable_ = false;
  return watch();
}

error_code Socket::connected() const {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(descriptor_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return last_error();
  return {error, boost::system::system_category()};
}

error_code Socket::watch() {
  const error_code error = is_open() ? events_.add(*this) : error_code(EBADF, boost::system::system_category());
  watched_ = !error;
  return error;
}

void Socket::close() {
  if (!is_open()) return;
  wait_for_events(false);
  if (watched_) events_.remove(*this);
  ::close(descriptor_);
  descriptor_ = -1;
  watched_ = readable_ = ended_ = urgent_ = false;
  writable_ = true;
}

void Socket::shutdown_send() const {
  (void)::shutdown(descriptor_, SHUT_WR);
}

void Socket::reset() {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  (void)::setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close();
}

void Socket::wait_for_events(bool wait) {
  if (waits_ == wait) return;
  waits_ = wait;
  if (wait) {
    events_.begin_wait();
  } else {
    events_.end_wait();
  }
}

// ---- all of a context's

SocketEvents::SocketEvents(asio::execution_context& context)
    : asio::execution_context::service(context), epoll_(static_cast<asio::io_context&>(context)) {}

SocketEvents& SocketEvents::of(asio::execution_context& context) {
  return asio::use_service<SocketEvents>(context);
}

error_code SocketEvents::prepare(asio::execution_context& context) {
  try {
    return of(context).open();
  } catch (const boost::system::system_error& error) {  // from Asio, which has a descriptor of its own
    return error.code();
  }
}

void SocketEvents::shutdown() {
  ended_ = true;
  error_code ignored;
  (void)epoll_.close(ignored);
}

// Where there is no descriptor left, the next socket tries again.
error_code SocketEvents::open() {
  if (ended_) return asio::error::operation_aborted;
  if (epoll_.is_open()) return {};
  const int descriptor = ::epoll_create1(EPOLL_CLOEXEC);
  if (descriptor < 0) return last_error();
  error_code error;
  (void)epoll_.assign(descriptor, error);
  if (error) ::close(descriptor);
  return error;
}

error_code SocketEvents::add(Socket& socket) {
  const error_code error = open();
  if (error) return error;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = &socket;
  if (::epoll_ctl(epoll_.native_handle(), EPOLL_CTL_ADD, socket.descriptor_, &event) != 0) return last_error();
  return {};
}

void SocketEvents::remove(Socket& socket) {
  if (epoll_.is_open()) (void)::epoll_ctl(epoll_.native_handle(), EPOLL_CTL_DEL, socket.descriptor_, nullptr);
  for (size_t i = next_; i < count_; ++i) {
    if (said_[i].data.ptr == &socket) said_[i].data.ptr = nullptr;
  }
}

void SocketEvents::begin_wait() {
  if (waits_++ == 0) arm();
}

// Nothing is left to wait for: the context need not stay for it.
void SocketEvents::end_wait() {
  if (--waits_ != 0 || !armed_ || ended_) return;
  error_code ignored;
  (void)epoll_.cancel(ignored);
}

void SocketEvents::arm() {
  if (armed_ || ended_ || !epoll_.is_open()) return;
  armed_ = true;
  epoll_.async_wait(asio::posix::stream_descriptor::wait_read, [this](error_code error) {
    armed_ = false;
    if (!error) tell_all();
    if (waits_ != 0) arm();
  });
}

// What does not fit into one turn makes the next begin at once.
void SocketEvents::tell_all() {
  const int count = ::epoll_wait(epoll_.native_handle(), said_.data(), static_cast<int>(said_.size()), 0);
  count_ = static_cast<size_t>(std::max(count, 0));
  for (next_ = 0; next_ < count_;) {
    const epoll_event said = said_[next_++];
    auto* const socket = static_cast<Socket*>(said.data.ptr);
    if (socket == nullptr) continue;
    const bool ended = (said.events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    const bool broken = (said.events & (EPOLLHUP | EPOLLERR)) != 0;
    socket->ended_ = socket->ended_ || ended;
    socket->urgent_ = socket->urgent_ || (said.events & EPOLLPRI) != 0;
    socket->readable_ = socket->readable_ || ended || (said.events & (EPOLLIN | EPOLLPRI)) != 0;
    socket->writable_ = socket->writable_ || broken || (said.events & EPOLLOUT) != 0;
    socket->tell_(socket->owner_);
  }
  count_ = next_ = 0;
}

}  // namespace tidemill::wire
