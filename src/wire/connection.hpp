// One accepted socket: reads requests, runs their handlers one after the other, writes the answers. Private to the
// room.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "wire/http_server.hpp"
#include "wire/request_parser.hpp"

namespace tidemill::wire {

// What all connections of a server share; outlives them.
struct ServerContext {
  ServerContext(HttpServerOptions given, Router routes)
      : options(std::move(given)),
        router(std::move(routes)),
        clock(options.clock != nullptr ? *options.clock : base::SystemClock::instance()) {}

  HttpServerOptions options;
  Router router;
  const base::Clock& clock;
  std::atomic<bool> draining = false;
};

// Wakes one coroutine of the same strand, or lets it give up at a deadline. A waiter checks its condition first; since
// nothing else runs on the strand between that check and the wait, no notification is lost.
class StrandEvent {
 public:
  explicit StrandEvent(const asio::any_io_executor& strand) : timer_(strand) {}
  // Notified, or for no reason: true. Past the deadline: false.
  asio::awaitable<bool> wait_until(base::SteadyTime deadline);
  void notify() { timer_.cancel(); }

 private:
  asio::steady_timer timer_;
};

// All members run on the strand of the socket's executor, save the constructor.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(asio::ip::tcp::socket socket, ServerContext& context);
  ~Connection();

  // Serves until the connection ends.
  asio::awaitable<void> run();
  // Says 503 instead.
  asio::awaitable<void> refuse_for_load();

  // Looks at ServerContext::draining again.
  void notice_drain() { input_event_.notify(); }
  // Resets the connection: what runs on it sees the client gone.
  void cut();

  asio::any_io_executor strand() { return socket_.get_executor(); }

 private:
  friend class Exchange;
  struct WakerState;
  enum class Answer { none, whole, stream, stream_ended };
  // The pieces of one write, in order; unused ones are empty.
  using Pieces = std::array<asio::const_buffer, 3>;

  // Input: `pump` is the only reader of the socket and runs all the time, so that the end of the connection is seen
  // whatever else goes on.
  void start_pump();
  asio::awaitable<void> pump();
  boost::system::error_code read_available();
  void consume_input(size_t bytes);
  void client_gone();

  asio::awaitable<bool> serve_one();
  asio::awaitable<bool> read_request(RequestParser& parser);
  asio::awaitable<void> run_exchange();
  asio::awaitable<void> dispatch(Exchange& exchange);
  asio::awaitable<void> refuse(int status, std::string message);
  asio::awaitable<void> linger();
  void add_cors(Headers& headers) const;
  HttpResponse preflight(std::string allow) const;

  std::string format_head(int status, const Headers& headers, std::optional<size_t> content_length);
  // False if the client did not take it all.
  asio::awaitable<bool> write_all(Pieces pieces);

  // The exchange's side (see http_server.hpp).
  asio::awaitable<base::Result<void>> respond(HttpResponse response);
  asio::awaitable<base::Result<void>> begin_stream(int status, Headers headers);
  asio::awaitable<base::Result<void>> write(std::string_view chunk);
  asio::awaitable<base::Result<void>> end_stream();
  asio::awaitable<Wake> wait(std::optional<base::Duration> at_most);
  std::function<void()> waker();
  void detach_waker();

  asio::ip::tcp::socket socket_;
  ServerContext& context_;
  std::string peer_;

  // Input.
  std::string input_;  // received and not yet consumed, at most `input_capacity_`
  size_t input_capacity_;
  StrandEvent input_event_;  // more input, the end of it, or a drain
  StrandEvent room_event_;   // there is room in `input_` again
  bool end_of_input_ = false;
  bool broken_ = false;  // reset, stalled or cut: nothing can be read or written any more

  // Output.
  asio::steady_timer write_timer_;

  // The exchange that runs now.
  HttpRequest request_;
  bool in_exchange_ = false;
  Answer answer_ = Answer::none;
  int status_ = 0;
  uint64_t body_bytes_ = 0;
  bool keep_alive_ = false;
  bool chunked_ = false;
  std::function<void()> on_disconnect_;
  StrandEvent wake_event_;
  bool woken_ = false;
  std::shared_ptr<WakerState> waker_state_;
};

}  // namespace tidemill::wire
