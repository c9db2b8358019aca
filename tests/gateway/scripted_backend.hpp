// A backend that says exactly the bytes it is told to, and then ends its connection as it is told to: for everything
// that can go wrong with a server. Independent of the code under test.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "wire/raw_client.hpp"

namespace tidemill::test {

namespace asio = boost::asio;

struct Received {
  std::string head;  // request line and fields
  std::string path;
  std::string body;

  // The value of a field; empty without it.
  std::string field(const std::string& name) const {
    const size_t at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos) return {};
    const size_t begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
};

// What to say, and what then.
struct Script {
  enum class End { close, reset, hang, keep };  // keep: the connection takes a further request
  std::string bytes;
  End end = End::close;
  // Behind `bytes`, as chunks, a few milliseconds apart, unless the gateway hangs up; then `rest`.
  int comments = 0;
  std::string rest{};
};

inline std::string http_answer(int status, const std::string& type, const std::string& body,
                               const std::string& fields = "") {
  return "HTTP/1.1 " + std::to_string(status) + " X\r\nContent-Type: " + type + "\r\n" + fields +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

// Each piece is one chunk.
inline std::string chunked_answer(const std::vector<std::string>& pieces) {
  std::string out =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string& piece : pieces) {
    std::array<char, 20> size{};
    std::snprintf(size.data(), size.size(), "%zx\r\n", piece.size());
    out += size.data() + piece + "\r\n";
  }
  return out + "0\r\n\r\n";
}

class ScriptedBackend {
 public:
  using Answer = std::function<Script(const Received&)>;

  // `answer` is asked for each request to the API, on one thread. /ready, /metrics and /v1/models are answered well.
  explicit ScriptedBackend(Answer answer, std::string models = R"({"data":[{"id":"m"}]})")
      : answer_(std::move(answer)),
        models_(std::move(models)),
        acceptor_(io_, asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 0)),
        port_(acceptor_.local_endpoint().port()) {
    asio::co_spawn(io_, accept(), asio::detached);
    thread_ = std::thread([this] { io_.run(); });
  }
  ~ScriptedBackend() { stop(); }

  // Takes no connection any more and drops those that are open, as a killed process does.
  void stop() {
    io_.stop();
    if (thread_.joinable()) thread_.join();
    acceptor_.close();
    // Coroutines that nothing will resume hold their sockets still.
    boost::system::error_code ignored;
    for (const auto& [key, socket] : open_)
      socket->close(ignored);
    open_.clear();
  }

  // From now on it takes connections and requests, and says nothing to anybody, as a stopped process does.
  void freeze() { frozen_ = true; }

  // What /v1/models and /ready answer from now on.
  void set_models(std::string models) {
    const std::lock_guard lock(mutex_);
    models_ = std::move(models);
  }
  void set_ready(int status) { ready_ = status; }
  void set_models_status(int status) { models_status_ = status; }

  uint16_t port() const { return port_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

  std::vector<Received> received() {
    const std::lock_guard lock(mutex_);
    return received_;
  }
  // Waits until a connection with a request to the API was closed by the gateway while the script hung.
  bool wait_for_hang_up(int times = 1) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return hang_ups_ >= times; });
  }
  bool wait_for_requests(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return received_.size() >= count; });
  }

 private:
  using Socket = asio::ip::tcp::socket;

  asio::awaitable<void> accept() {
    while (true) {
      boost::system::error_code error;
      auto socket =
          std::make_shared<Socket>(co_await acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, error)));
      if (error) co_return;
      open_[socket.get()] = socket;
      asio::co_spawn(io_, serve(socket), asio::detached);
    }
  }

  asio::awaitable<void> serve(std::shared_ptr<Socket> socket) {
    std::string input;
    while (co_await serve_one(*socket, input)) {
    }
    open_.erase(socket.get());
  }

  asio::awaitable<bool> serve_one(Socket& socket, std::string& input) {
    boost::system::error_code error;
    auto token = asio::redirect_error(asio::use_awaitable, error);
    const size_t head = co_await asio::async_read_until(socket, asio::dynamic_buffer(input), "\r\n\r\n", token);
    if (error) co_return false;
    Received request{.head = input.substr(0, head), .path = {}, .body = {}};
    input.erase(0, head);
    const size_t path = request.head.find(' ') + 1;
    request.path = request.head.substr(path, request.head.find(' ', path) - path);
    const std::string length = request.field("Content-Length");
    const size_t wanted = length.empty() ? 0 : std::stoul(length);
    if (input.size() < wanted) {
      co_await asio::async_read(socket, asio::dynamic_buffer(input), asio::transfer_exactly(wanted - input.size()),
                                token);
      if (error) co_return false;
    }
    request.body = input.substr(0, wanted);
    input.erase(0, wanted);
    if (frozen_) {
      std::array<char, 1> byte{};
      co_await asio::async_read(socket, asio::buffer(byte), token);
      co_return false;
    }
    if (request.path == "/ready" || request.path == "/metrics" || request.path == "/v1/models") {
      const std::string text = look_answer(request.path);
      co_await asio::async_write(socket, asio::buffer(text), token);
      co_return !error;
    }
    const Script script = answer_(request);
    {
      const std::lock_guard lock(mutex_);
      received_.push_back(request);
      changed_.notify_all();
    }
    co_await asio::async_write(socket, asio::buffer(script.bytes), token);
    if (script.comments > 0) co_await murmur(socket, script, error);
    co_await asio::async_write(socket, asio::buffer(script.rest), token);
    if (script.end == Script::End::keep) co_return !error;
    if (script.end == Script::End::reset) {
      socket.set_option(asio::socket_base::linger(true, 0), error);
    } else if (script.end == Script::End::hang) {
      std::array<char, 1> byte{};
      co_await asio::async_read(socket, asio::buffer(byte), token);
      const std::lock_guard lock(mutex_);
      ++hang_ups_;
      changed_.notify_all();
    }
    socket.close(error);
    co_return false;
  }

  asio::awaitable<void> murmur(Socket& socket, const Script& script, boost::system::error_code& error) {
    static constexpr std::string_view comment = "4\r\n: \n\n\r\n";
    asio::steady_timer timer(io_);
    for (int i = 0; i < script.comments && !error; ++i) {
      co_await asio::async_write(socket, asio::buffer(comment), asio::redirect_error(asio::use_awaitable, error));
      timer.expires_after(std::chrono::milliseconds(2));
      boost::system::error_code ignored;
      co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    if (!error) co_return;
    const std::lock_guard lock(mutex_);
    ++hang_ups_;
    changed_.notify_all();
  }

  std::string look_answer(const std::string& path) {
    const std::lock_guard lock(mutex_);
    const bool models = path == "/v1/models";
    const int status = path == "/ready" ? ready_.load() : models ? models_status_.load() : 200;
    return http_answer(status, "application/json", models ? models_ : "");
  }

  Answer answer_;
  std::string models_;
  std::atomic<int> ready_ = 200;
  std::atomic<int> models_status_ = 200;
  std::atomic<bool> frozen_ = false;
  asio::io_context io_{1};
  asio::ip::tcp::acceptor acceptor_;
  uint16_t port_;
  std::map<Socket*, std::shared_ptr<Socket>> open_;
  std::thread thread_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Received> received_;
  int hang_ups_ = 0;
};

}  // namespace tidemill::test
