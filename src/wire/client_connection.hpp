// One connection to a server, with a deadline on everything that waits. Private to the room.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "wire/tls_context.hpp"
#include "wire/transport.hpp"
#include "wire/url.hpp"
#include "wire/wait_point.hpp"

namespace tidemill::wire {

// Not thread-safe: on the thread of its context.
class ClientConnection {
 public:
  ClientConnection(asio::io_context& context, std::shared_ptr<const Url> to);
  ~ClientConnection();

  const Url& to() const { return *to_; }

  // TCP alone, to the endpoints of `dialed` in turn: `to`, or a proxy on the way there.
  asio::awaitable<base::Result<void>> connect(const Url& dialed, const std::vector<asio::ip::tcp::endpoint>& endpoints,
                                              base::SteadyTime deadline);
  // TLS with `to`, from here on.
  asio::awaitable<base::Result<void>> secure(const TlsContext& tls, base::SteadyTime deadline);
  // Writes what can be written at once and takes it off `pieces`; nullopt: `write` has to go on.
  std::optional<base::Result<void>> write_now(Pieces& pieces, bool& any);
  // Writes all; `limit` is for each wait. `any` becomes true with the first byte.
  asio::awaitable<base::Result<void>> write(Pieces pieces, base::Duration limit, bool& any);
  // Waits until `read` might give something.
  asio::awaitable<base::Result<void>> wait_readable(base::SteadyTime deadline);
  // What is there.
  Progress read(char* to, size_t size) {
    return stopped_ == Stopped::no ? transport_.read(to, size) : Progress{Progress::Kind::failed, 0, {}};
  }

  // Whether `read` might give something at once.
  bool readable() { return transport_.socket().readable(); }

  bool tls() const { return transport_.tls(); }
  bool silent() { return transport_.silent(); }
  // Ends what waits with `cancelled`, and everything that comes after it.
  void hang_up() { stop(Stopped::cancelled); }
  base::Error failure(std::string_view doing, const boost::system::error_code& error) const {
    return failure(doing, *to_, error);
  }

  base::SteadyTime idle_since;

 private:
  enum class Stopped : uint8_t { no, timeout, cancelled };
  enum class For : uint8_t { reading, writing };
  void stop(Stopped why);
  void told();
  bool can(For what) { return what == For::reading ? transport_.socket().readable() : transport_.socket().writable(); }
  base::Error failure(std::string_view doing, const Url& whom, const boost::system::error_code& error) const;
  void begin_wait(For what);
  // An error where the coroutine was cancelled; past its deadline the connection is stopped.
  boost::system::error_code end_wait(bool notified, base::SteadyTime deadline);
  asio::awaitable<base::Result<void>> wait(For what, base::SteadyTime deadline, std::string_view doing);

  std::shared_ptr<const Url> to_;
  Transport transport_;
  WaitPoint event_;  // the socket is what `waits_for_` asks, or it was stopped
  For waits_for_ = For::reading;
  Stopped stopped_ = Stopped::no;
  // Under TLS:
  bool waits_for_input_ = false;   // what is being written
  bool reads_by_writing_ = false;  // the last read could not write
};

}  // namespace tidemill::wire
