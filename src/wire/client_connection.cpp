#include "wire/client_connection.hpp"

#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "wire/as_result.hpp"

namespace tidemill::wire {

namespace {

using asio::ip::tcp;
using base::ErrorCode;
using base::Result;
using boost::system::error_code;

constexpr std::string_view sending = "cannot send the request to";

// Connecting has told the event loop to report the socket as writable too, and every later wait for input tells it
// again: each would first come back for that. A fresh registration is for input, until a write has to wait.
void listen_for_input_alone(tcp::socket& socket) {
  error_code error;
  const tcp protocol = socket.remote_endpoint(error).protocol();
  const auto descriptor = error ? -1 : socket.release(error);
  if (!error) socket.assign(protocol, descriptor, error);
}

}  // namespace

ClientConnection::ClientConnection(asio::io_context& context, std::shared_ptr<const Url> to)
    : to_(std::move(to)),
      transport_(tcp::socket(context)),
      deadline_(
          Deadlines::of(context), [](void* self) { static_cast<ClientConnection*>(self)->stop(Stopped::timeout); },
          this) {}

ClientConnection::~ClientConnection() {
  if (stopped_ == Stopped::no) transport_.finish_tls();
}

void ClientConnection::stop(Stopped why) {
  if (stopped_ != Stopped::no) return;
  stopped_ = why;
  error_code ignored;
  transport_.socket().close(ignored);  // what waits on it comes back
}

base::Error ClientConnection::failure(std::string_view doing, const Url& whom, const error_code& error) const {
  if (stopped_ == Stopped::timeout) {
    return {ErrorCode::timeout, fmt::format("{} {}: it took too long", doing, whom.authority())};
  }
  if (stopped_ == Stopped::cancelled || error == asio::error::operation_aborted) {
    return {ErrorCode::cancelled, fmt::format("{} {}: cancelled", doing, whom.authority())};
  }
  return {ErrorCode::unavailable, fmt::format("{} {}: {}", doing, whom.authority(), error.message())};
}

asio::awaitable<Result<void>> ClientConnection::wait(tcp::socket::wait_type what, base::SteadyTime deadline,
                                                     std::string_view doing) {
  if (stopped_ != Stopped::no) co_return failure(doing, {});
  deadline_.set(deadline);
  const auto [error] = co_await transport_.socket().async_wait(what, as_result);
  deadline_.clear();
  if (error || stopped_ != Stopped::no) co_return failure(doing, error);
  co_return Result<void>();
}

asio::awaitable<Result<void>> ClientConnection::connect(const Url& dialed, const std::vector<tcp::endpoint>& endpoints,
                                                        base::SteadyTime deadline) {
  static constexpr std::string_view doing = "cannot connect to";
  if (stopped_ != Stopped::no) co_return failure(doing, dialed, {});
  tcp::socket& socket = transport_.socket();
  error_code error = asio::error::host_not_found;
  for (size_t i = 0; i < endpoints.size() && error; ++i) {
    stopped_ = Stopped::no;
    error_code ignored;
    socket.close(ignored);
    // An address that says nothing leaves the others their share of the time.
    const base::SteadyTime now = Deadlines::now();
    deadline_.set(now + (deadline - now) / static_cast<int64_t>(endpoints.size() - i));
    std::tie(error) = co_await socket.async_connect(endpoints[i], as_result);
    deadline_.clear();
    if (stopped_ == Stopped::cancelled || (error == asio::error::operation_aborted && stopped_ == Stopped::no)) break;
    if (!error && stopped_ != Stopped::no) error = asio::error::timed_out;
  }
  if (error) co_return failure(doing, dialed, error);
  listen_for_input_alone(socket);
  transport_.prepare();
  co_return Result<void>();
}

asio::awaitable<Result<void>> ClientConnection::secure(const TlsContext& tls, base::SteadyTime deadline) {
  if (!transport_.start_tls(tls.get(), to_->host)) {
    co_return base::Error(ErrorCode::invalid_argument, fmt::format("'{}' cannot be a TLS server name", to_->host));
  }
  while (true) {
    const Progress progress = transport_.handshake();
    if (progress.kind == Progress::Kind::done) co_return Result<void>();
    if (progress.kind == Progress::Kind::failed || progress.kind == Progress::Kind::ended) {
      co_return base::Error(ErrorCode::unavailable, fmt::format("no trusted TLS connection to {}: {}", to_->authority(),
                                                                transport_.tls_failure()));
    }
    const bool read = progress.kind == Progress::Kind::want_read;
    auto waited = co_await wait(read ? tcp::socket::wait_read : tcp::socket::wait_write, deadline,
                                "no trusted TLS connection to");
    if (!waited) co_return std::move(waited).error();
  }
}

std::optional<Result<void>> ClientConnection::write_now(Pieces& pieces, bool& any) {
  while (asio::buffer_size(pieces) != 0) {
    const Progress progress =
        stopped_ == Stopped::no ? transport_.write(pieces) : Progress{Progress::Kind::failed, 0, {}};
    any = any || progress.bytes != 0;
    waits_for_input_ = progress.kind == Progress::Kind::want_read;
    if (progress.kind == Progress::Kind::failed || progress.kind == Progress::Kind::ended) {
      return failure(sending, progress.error);
    }
    if (progress.kind != Progress::Kind::done) return std::nullopt;
  }
  return Result<void>();
}

asio::awaitable<Result<void>> ClientConnection::write(Pieces pieces, base::Duration limit, bool& any) {
  while (true) {
    if (auto done = write_now(pieces, any)) co_return *std::move(done);
    const auto what = waits_for_input_ ? tcp::socket::wait_read : tcp::socket::wait_write;
    auto waited = co_await wait(what, Deadlines::now() + limit, sending);
    if (!waited) co_return std::move(waited).error();
  }
}

asio::awaitable<Result<void>> ClientConnection::wait_readable(base::SteadyTime deadline) {
  return wait(tcp::socket::wait_read, deadline, "no answer from");
}

}  // namespace tidemill::wire
