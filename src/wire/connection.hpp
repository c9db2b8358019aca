// One accepted socket: reads requests, runs their handlers one after the other, writes the answers. Private to the
// room.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "wire/deadlines.hpp"
#include "wire/http_server.hpp"
#include "wire/input_buffer.hpp"
#include "wire/request_parser.hpp"
#include "wire/transport.hpp"
#include "wire/wait_point.hpp"

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
  std::atomic<bool> hurrying = false;
  std::atomic<bool> hurry_cut_some = false;  // requests that had not come whole

  // What new connections show; null: plain HTTP.
  TlsContext tls() const {
    const std::lock_guard lock(tls_mutex);
    return tls_context;
  }
  void set_tls(TlsContext fresh) {
    const std::lock_guard lock(tls_mutex);
    tls_context.swap(fresh);
  }

 private:
  mutable std::mutex tls_mutex;
  TlsContext tls_context;
};

// All members run on the thread of the socket's context, save the constructor.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(asio::ip::tcp::socket socket, asio::io_context& io, ServerContext& context);
  ~Connection();

  // Serves until the connection ends.
  asio::awaitable<void> run();
  // Says 503 instead.
  asio::awaitable<void> refuse_for_load();

  // Looks at ServerContext::draining and hurrying again.
  void notice_drain() { input_event_.notify(); }
  // Resets the connection: what runs on it sees the client gone.
  void cut();
  // The exchange's wakers do nothing from here on. Also for whoever has seen the context's thread end.
  void detach_waker();

  asio::any_io_executor executor() { return io_.get_executor(); }

 private:
  friend class Exchange;
  struct WakerState;
  enum class Answer { none, whole, stream, stream_ended };

  // Input: what has come is taken at once, so that the end of the connection is seen whatever else goes on, unless
  // `input_` is full.
  void told();
  bool watch();
  void begin_input();
  void take_input();
  void consume_input(size_t bytes);
  void client_gone();
  base::Error absence() const;
  void close();

  asio::awaitable<bool> shake_hands();
  asio::awaitable<void> wait_for(const Progress& progress);
  asio::awaitable<bool> serve_one();
  asio::awaitable<bool> read_request(RequestParser& parser);
  asio::awaitable<void> run_exchange();
  asio::awaitable<void> refuse(int status, std::string message);
  std::string asked_path() const;
  void note_own_answer(std::string_view error);
  asio::awaitable<void> linger();
  void add_cors(Headers& headers) const;
  HttpResponse preflight(std::string allow) const;

  std::string format_head(int status, const Headers& headers, std::optional<size_t> content_length);
  // What can be written at once, which is nearly always all. False: `write_rest` has to go on.
  bool write_now(Pieces& pieces);
  // False if the client did not take it all.
  asio::awaitable<bool> write_rest(Pieces pieces);
  std::optional<int64_t> untaken();
  void write_deadline_passed();

  // The exchange's side (see http_server.hpp).
  asio::awaitable<base::Result<void>> respond(HttpResponse response);
  asio::awaitable<base::Result<void>> begin_stream(int status, Headers headers);
  asio::awaitable<base::Result<void>> write(std::string_view chunk);
  std::optional<base::Result<void>> begin_write(std::string_view chunk);
  asio::awaitable<base::Result<void>> finish_write();
  asio::awaitable<base::Result<void>> end_stream();
  asio::awaitable<Wake> wait(std::optional<base::Duration> at_most);
  std::function<void()> waker();

  const std::string peer_;
  asio::io_context& io_;
  Transport transport_;
  ServerContext& context_;

  // Input.
  InputBuffer input_;  // received and not yet consumed, at most `input_capacity_`
  size_t input_capacity_;
  WaitPoint input_event_;  // more input, the end of it, or a drain
  bool taking_input_ = false;
  bool end_of_input_ = false;
  bool broken_ = false;  // reset, stalled or cut: nothing can be read or written any more

  // Handshake and output.
  WaitPoint socket_event_;  // the socket can be read, or else written, or is closed
  bool waits_to_read_ = false;
  std::array<char, 24> size_line_{};  // of the chunk that is being written
  Pieces unwritten_{};                // of it
  Deadlines::Entry write_deadline_;
  std::optional<int64_t> untaken_;  // bytes, when that deadline was set; nullopt: it holds whatever becomes of them
  bool stalled_ = false;            // cut at that deadline

  // The exchange that runs now.
  HttpRequest request_;
  bool in_exchange_ = false;
  Answer answer_ = Answer::none;
  bool answer_taken_ = false;  // the kernel has taken all of it
  bool unfinished_ = false;
  int status_ = 0;
  uint64_t body_bytes_ = 0;
  // Of an answer that no handler gave, as ExchangeSummary tells it.
  struct OwnAnswer {
    std::string id;
    std::string method;
    std::string path;
    std::string error;
  };
  OwnAnswer own_;
  bool handled_ = false;
  bool keep_alive_ = false;
  bool chunked_ = false;
  std::function<void()> on_disconnect_;
  WaitPoint wake_event_;
  bool woken_ = false;
  std::shared_ptr<WakerState> waker_state_;
};

}  // namespace tidemill::wire
