#include "wire/client_connection.hpp"

#include <utility>

#include <fmt/format.h>

namespace tidemill::wire {

namespace {

using asio::ip::tcp;
using base::ErrorCode;
using base::Result;
using boost::system::error_code;

constexpr std::string_view sending = "cannot send the request to";

}  // namespace

ClientConnection::ClientConnection(asio::io_context& context, std::shared_ptr<const Url> to)
    : to_(std::move(to)),
      transport_(
          SocketEvents::of(context), [](void* self) { static_cast<ClientConnection*>(self)->told(); }, this),
      event_(Deadlines::of(context)) {}

ClientConnection::~ClientConnection() {
  if (stopped_ == Stopped::no) transport_.finish_tls();
}

void ClientConnection::stop(Stopped why) {
  if (stopped_ != Stopped::no) return;
  stopped_ = why;
  transport_.socket().close();
  event_.notify();
}

void ClientConnection::told() {
  if (can(waits_for_)) event_.notify_now();
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

void ClientConnection::begin_wait(For what) {
  waits_for_ = what;
  transport_.socket().wait_for_events(true);
}

error_code ClientConnection::end_wait(bool notified, base::SteadyTime deadline) {
  transport_.socket().wait_for_events(false);
  if (notified || stopped_ != Stopped::no) return {};
  if (Deadlines::now() < deadline) return asio::error::operation_aborted;
  stop(Stopped::timeout);
  return {};
}

asio::awaitable<Result<void>> ClientConnection::wait(For what, base::SteadyTime deadline, std::string_view doing) {
  error_code error;
  if (stopped_ == Stopped::no && can(what)) {
    if (Deadlines::now() >= deadline) stop(Stopped::timeout);
  } else if (stopped_ == Stopped::no) {
    begin_wait(what);
    const bool notified = co_await event_.wait_until(deadline);
    error = end_wait(notified, deadline);
  }
  if (error || stopped_ != Stopped::no) co_return failure(doing, error);
  co_return Result<void>();
}

asio::awaitable<Result<void>> ClientConnection::connect(const Url& dialed, const std::vector<tcp::endpoint>& endpoints,
                                                        base::SteadyTime deadline) {
  static constexpr std::string_view doing = "cannot connect to";
  if (stopped_ != Stopped::no) co_return failure(doing, dialed, {});
  Socket& socket = transport_.socket();
  error_code error = asio::error::host_not_found;
  for (size_t i = 0; i < endpoints.size() && error; ++i) {
    stopped_ = Stopped::no;
    // An address that says nothing leaves the others their share of the time.
    const base::SteadyTime now = Deadlines::now();
    error = socket.connect(endpoints[i]);
    if (error) continue;
    const base::SteadyTime until = now + (deadline - now) / static_cast<int64_t>(endpoints.size() - i);
    begin_wait(For::writing);
    const bool notified = co_await event_.wait_until(until);
    error = end_wait(notified, until);
    if (stopped_ == Stopped::cancelled || error) break;
    error = stopped_ == Stopped::timeout ? error_code(asio::error::timed_out) : socket.connected();
  }
  if (error || stopped_ == Stopped::cancelled) co_return failure(doing, dialed, error);
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
    auto waited = co_await wait(read ? For::reading : For::writing, deadline, "no trusted TLS connection to");
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
    auto waited = co_await wait(waits_for_input_ ? For::reading : For::writing, Deadlines::now() + limit, sending);
    if (!waited) co_return std::move(waited).error();
  }
}

asio::awaitable<Result<void>> ClientConnection::wait_readable(base::SteadyTime deadline) {
  return wait(reads_by_writing_ ? For::writing : For::reading, deadline, "no answer from");
}

}  // namespace tidemill::wire
