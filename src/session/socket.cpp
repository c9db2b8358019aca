#include "session/socket.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <future>
#include <memory>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

#include <fmt/core.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

namespace tidemill::session {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr size_t read_size = size_t{16} << 10;

Error failure(std::string what) {
  return {ErrorCode::unavailable, std::move(what)};
}

Error system_failure(std::string_view what, int code) {
  return failure(fmt::format("{}: {}", what, std::generic_category().message(code)));
}

std::string tls_reason() {
  std::array<char, 256> text{};
  const unsigned long code = ERR_get_error();
  if (code == 0) return "the connection was closed";
  ERR_error_string_n(code, text.data(), text.size());
  ERR_clear_error();
  return text.data();
}

// Waits for `events`; false: the deadline passed.
Result<bool> wait_for(int file, short events, Deadline deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd watched{file, events, 0};
    const int ready = ::poll(&watched, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return system_failure("cannot wait for the connection", errno);
  }
}

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Result<Addresses> look_up(const std::string& host, uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (code != 0) return failure(fmt::format("cannot find the host '{}': {}", host, ::gai_strerror(code)));
  return Addresses(list);
}

// A name is looked up on a thread of its own, because the resolver knows no deadline. One that is late ends by itself.
Result<Addresses> resolve(const std::string& host, uint16_t port, Deadline deadline) {
  if (auto numeric = look_up(host, port, AI_NUMERICHOST)) return numeric;
  auto promise = std::make_shared<std::promise<Result<Addresses>>>();
  std::future<Result<Addresses>> found = promise->get_future();
  std::thread([promise, host, port] { promise->set_value(look_up(host, port, 0)); }).detach();
  if (found.wait_until(deadline) != std::future_status::ready) {
    return failure(fmt::format("the name of the host '{}' is not resolved in time", host));
  }
  return found.get();
}

Result<void> connect_to(int file, const addrinfo& address, Deadline deadline) {
  if (::connect(file, address.ai_addr, address.ai_addrlen) == 0) return {};
  if (errno != EINPROGRESS) return system_failure("cannot connect", errno);
  TM_TRY(const bool ready, wait_for(file, POLLOUT, deadline));
  if (!ready) return failure("cannot connect in time");
  int code = 0;
  socklen_t size = sizeof(code);
  ::getsockopt(file, SOL_SOCKET, SO_ERROR, &code, &size);
  if (code != 0) return system_failure("cannot connect", code);
  return {};
}

bool is_numeric(const std::string& host) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  return ::inet_pton(AF_INET, host.c_str(), bytes.data()) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), bytes.data()) == 1;
}

}  // namespace

Result<TlsContext> TlsContext::create(const std::string& ca_file) {
  TlsContext made;
  made.context_.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* context = made.context_.get();
  if (context == nullptr) return Error(ErrorCode::internal, "OpenSSL gives no context: " + tls_reason());
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  const int loaded = ca_file.empty() ? SSL_CTX_set_default_verify_paths(context)
                                     : SSL_CTX_load_verify_locations(context, ca_file.c_str(), nullptr);
  if (loaded != 1) {
    return Error(ErrorCode::io,
                 fmt::format("cannot read authorities from '{}': {}; it must be a PEM file", ca_file, tls_reason()));
  }
  return made;
}

Socket::Socket(Socket&& other) noexcept : file_(std::exchange(other.file_, -1)), ssl_(std::move(other.ssl_)) {}

Socket::~Socket() {
  if (file_ >= 0) ::close(file_);
}

Result<Socket> Socket::connect(const std::string& host, uint16_t port, const TlsContext* tls, Deadline deadline) {
  TM_TRY(const Addresses addresses, resolve(host, port, deadline));
  Error last = failure(fmt::format("the host '{}' has no address", host));
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    Socket made(::socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (made.file_ < 0) {
      last = system_failure("cannot make a socket", errno);
      continue;
    }
    const int on = 1;
    ::setsockopt(made.file_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    auto connected = connect_to(made.file_, *address, deadline);
    if (connected && tls != nullptr) connected = made.start_tls(host, *tls, deadline);
    if (connected) return made;
    last = std::move(connected).error();
  }
  return last;
}

Result<void> Socket::start_tls(const std::string& host, const TlsContext& tls, Deadline deadline) {
  ssl_.reset(SSL_new(tls.get()));
  if (!ssl_) return failure("TLS: " + tls_reason());
  SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  SSL_set_connect_state(ssl_.get());
  if (is_numeric(host)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), host.c_str());
  } else {
    SSL_set1_host(ssl_.get(), host.c_str());
    SSL_set_tlsext_host_name(ssl_.get(), host.c_str());
  }
  while (true) {
    const int outcome = SSL_do_handshake(ssl_.get());
    if (outcome == 1) return flush_tls(deadline);
    auto served = serve_tls(outcome, deadline);
    if (served) continue;
    const long verdict = SSL_get_verify_result(ssl_.get());
    if (verdict == X509_V_OK) return served;
    return failure(fmt::format("the server's certificate is not accepted: {}", X509_verify_cert_error_string(verdict)));
  }
}

Result<void> Socket::serve_tls(int outcome, Deadline deadline) {
  const int wanted = SSL_get_error(ssl_.get(), outcome);
  if (wanted != SSL_ERROR_WANT_READ && wanted != SSL_ERROR_WANT_WRITE) return failure("TLS: " + tls_reason());
  TM_CHECK(flush_tls(deadline));
  if (wanted == SSL_ERROR_WANT_READ) TM_CHECK(feed_tls(deadline));
  return {};
}

Result<void> Socket::flush_tls(Deadline deadline) {
  char* bytes = nullptr;
  BIO* out = SSL_get_wbio(ssl_.get());
  const long size = BIO_get_mem_data(out, &bytes);
  if (size <= 0) return {};
  auto sent = send_raw({bytes, static_cast<size_t>(size)}, deadline);
  (void)BIO_reset(out);
  return sent;
}

Result<void> Socket::feed_tls(Deadline deadline) {
  TM_TRY(const std::string bytes, receive_raw(deadline));
  BIO_write(SSL_get_rbio(ssl_.get()), bytes.data(), static_cast<int>(bytes.size()));
  return {};
}

Result<void> Socket::send_raw(std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(file_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return system_failure("the connection is lost", errno);
    TM_TRY(const bool ready, wait_for(file_, POLLOUT, deadline));
    if (!ready) return failure("it takes nothing in time");
  }
  return {};
}

Result<std::string> Socket::receive_raw(Deadline deadline) {
  std::string bytes(read_size, '\0');
  while (true) {
    const ssize_t size = ::recv(file_, bytes.data(), bytes.size(), 0);
    if (size > 0) {
      bytes.resize(static_cast<size_t>(size));
      return bytes;
    }
    if (size == 0) return failure("it closed the connection");
    if (errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK) return system_failure("the connection is lost", errno);
    TM_TRY(const bool ready, wait_for(file_, POLLIN, deadline));
    if (!ready) return failure("it does not answer in time");
  }
}

Result<void> Socket::send(std::string_view bytes, Deadline deadline) {
  if (!ssl_) return send_raw(bytes, deadline);
  while (!bytes.empty()) {
    size_t taken = 0;
    const int outcome = SSL_write_ex(ssl_.get(), bytes.data(), std::min(bytes.size(), read_size), &taken);
    if (outcome != 1) {
      TM_CHECK(serve_tls(outcome, deadline));
      continue;
    }
    bytes.remove_prefix(taken);
    TM_CHECK(flush_tls(deadline));
  }
  return {};
}

Result<std::string> Socket::receive(Deadline deadline) {
  if (!ssl_) return receive_raw(deadline);
  std::string bytes(read_size, '\0');
  while (true) {
    size_t size = 0;
    const int outcome = SSL_read_ex(ssl_.get(), bytes.data(), bytes.size(), &size);
    if (outcome == 1) {
      bytes.resize(size);
      return bytes;
    }
    TM_CHECK(serve_tls(outcome, deadline));
  }
}

bool Socket::is_quiet() const {
  pollfd watched{file_, POLLIN, 0};
  // TLS may have tickets to deliver at any time; they are read with the next answer.
  if (::poll(&watched, 1, 0) == 0) return true;
  if (!ssl_ || (watched.revents & (POLLHUP | POLLERR)) != 0) return false;
  char byte = 0;
  return ::recv(file_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

}  // namespace tidemill::session
