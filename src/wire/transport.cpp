#include "wire/transport.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <utility>

#include <boost/asio/error.hpp>
#include <boost/asio/ip/address.hpp>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

namespace tidemill::wire {

namespace {

using boost::system::error_code;

constexpr size_t record_size = size_t{16} << 10;

Socket& socket_of(BIO* bio) {
  return *static_cast<Socket*>(BIO_get_data(bio));
}

// OpenSSL's own socket BIO writes with write(2), which raises SIGPIPE.
int bio_write(BIO* bio, const char* bytes, int count) {
  BIO_clear_retry_flags(bio);
  Socket& socket = socket_of(bio);
  const ssize_t sent = ::send(socket.descriptor(), bytes, static_cast<size_t>(count), MSG_NOSIGNAL);
  if (sent < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
  if (sent < 0 && errno == EAGAIN) socket.note_full();
  return static_cast<int>(sent);
}

int bio_read(BIO* bio, char* to, int size) {
  BIO_clear_retry_flags(bio);
  Socket& socket = socket_of(bio);
  const ssize_t got = ::recv(socket.descriptor(), to, static_cast<size_t>(size), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
  if (got < 0 && errno == EAGAIN) socket.note_drained();
  return static_cast<int>(got);
}

long bio_control(BIO* /*bio*/, int command, long /*number*/, void* /*pointer*/) {
  return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP ? 1 : 0;
}

BIO_METHOD* bio_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tidemill socket");
    BIO_meth_set_write(made, bio_write);
    BIO_meth_set_read(made, bio_read);
    BIO_meth_set_ctrl(made, bio_control);
    BIO_meth_set_create(made, [](BIO* bio) {
      BIO_set_init(bio, 1);
      return 1;
    });
    return made;
  }();
  return method;
}

void take_off(Pieces& pieces, size_t count) {
  for (asio::const_buffer& piece : pieces) {
    const size_t part = std::min(count, piece.size());
    piece += part;
    count -= part;
  }
}

}  // namespace

void Transport::SslFree::operator()(SSL* ssl) const {
  SSL_free(ssl);
}

void Transport::prepare() const {
  const int descriptor = socket_.descriptor();
  (void)::fcntl(descriptor, F_SETFL, ::fcntl(descriptor, F_GETFL) | O_NONBLOCK);
  const int on = 1;
  (void)::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

Transport::~Transport() = default;

bool Transport::start_tls(SSL_CTX* context, const std::string& host) {
  ERR_clear_error();
  ssl_.reset(SSL_new(context));
  BIO* const bio = ssl_ ? BIO_new(bio_method()) : nullptr;
  if (bio == nullptr) return false;
  BIO_set_data(bio, &socket_);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_mode(ssl_.get(),
               SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  if (host.empty()) {
    SSL_set_accept_state(ssl_.get());
    return true;
  }
  SSL_set_connect_state(ssl_.get());
  error_code not_an_address;
  (void)asio::ip::make_address(host, not_an_address);
  X509_VERIFY_PARAM* const verify = SSL_get0_param(ssl_.get());
  if (!not_an_address) return X509_VERIFY_PARAM_set1_ip_asc(verify, host.c_str()) == 1;
  X509_VERIFY_PARAM_set_hostflags(verify, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  return SSL_set_tlsext_host_name(ssl_.get(), host.c_str()) == 1 &&
         X509_VERIFY_PARAM_set1_host(verify, host.c_str(), host.size()) == 1;
}

Progress Transport::of_tls(int result) {
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return {Progress::Kind::want_read, 0, {}};
    case SSL_ERROR_WANT_WRITE:
      return {Progress::Kind::want_write, 0, {}};
    case SSL_ERROR_ZERO_RETURN:
      return {Progress::Kind::ended, 0, {}};
    default:
      break;
  }
  const unsigned long code = ERR_peek_last_error();
  const char* const reason = code != 0 ? ERR_reason_error_string(code) : nullptr;
  const error_code error = code == 0 && errno != 0 ? last_error() : asio::error::connection_reset;
  tls_failure_ = reason != nullptr ? reason : code == 0 ? "the peer has closed the connection" : "unknown TLS error";
  if (const long verdict = SSL_get_verify_result(ssl_.get()); verdict != X509_V_OK) {
    tls_failure_ += std::string(": ") + X509_verify_cert_error_string(verdict);
  }
  ERR_clear_error();
  return {Progress::Kind::failed, 0, error};
}

Progress Transport::handshake() {
  ERR_clear_error();
  errno = 0;
  const int result = SSL_do_handshake(ssl_.get());
  return result == 1 ? Progress() : of_tls(result);
}

Progress Transport::read(char* to, size_t size) {
  if (ssl_) {
    ERR_clear_error();
    errno = 0;
    const int got = SSL_read(ssl_.get(), to, static_cast<int>(std::min<size_t>(size, 1U << 30)));
    return got > 0 ? Progress{Progress::Kind::done, static_cast<size_t>(got), {}} : of_tls(got);
  }
  return receive(to, size, 0);
}

Progress Transport::peek(char* byte) {
  return receive(byte, 1, MSG_PEEK);
}

Progress Transport::receive(char* to, size_t size, int flags) {
  while (true) {
    const ssize_t got = ::recv(socket_.descriptor(), to, size, flags);
    if (got > 0 && static_cast<size_t>(got) < size) socket_.note_short();
    if (got > 0) return {Progress::Kind::done, static_cast<size_t>(got), {}};
    if (got == 0) return {Progress::Kind::ended, 0, {}};
    if (errno == EAGAIN) {
      socket_.note_drained();
      return {Progress::Kind::want_read, 0, {}};
    }
    if (errno != EINTR) return {Progress::Kind::failed, 0, last_error()};
  }
}

// Pieces that fit one TLS record go into one: a record each would cost a packet each. A repeated call after want_write
// gathers at least the bytes of the first, as OpenSSL asks.
[[gnu::noinline]] static int write_record(SSL* ssl, const Pieces& pieces) {
  static thread_local std::array<char, record_size> record;
  size_t filled = 0;
  for (const asio::const_buffer& piece : pieces) {
    const size_t part = std::min(piece.size(), record.size() - filled);
    if (part != 0) std::memcpy(record.data() + filled, piece.data(), part);
    filled += part;
  }
  return SSL_write(ssl, record.data(), static_cast<int>(filled));
}

Progress Transport::write(Pieces& pieces) {
  if (ssl_) {
    ERR_clear_error();
    errno = 0;
    const int put = write_record(ssl_.get(), pieces);
    if (put <= 0) return of_tls(put);
    take_off(pieces, static_cast<size_t>(put));
    return {Progress::Kind::done, static_cast<size_t>(put), {}};
  }
  std::array<iovec, std::tuple_size_v<Pieces>> vectors;
  size_t count = 0;
  for (const asio::const_buffer& piece : pieces) {
    if (piece.size() != 0) vectors[count++] = {const_cast<void*>(piece.data()), piece.size()};
  }
  msghdr message{};
  message.msg_iov = vectors.data();
  message.msg_iovlen = count;
  while (true) {
    const ssize_t put = ::sendmsg(socket_.descriptor(), &message, MSG_NOSIGNAL);
    if (put >= 0) {
      take_off(pieces, static_cast<size_t>(put));
      return {Progress::Kind::done, static_cast<size_t>(put), {}};
    }
    if (errno == EAGAIN) {
      socket_.note_full();
      return {Progress::Kind::want_write, 0, {}};
    }
    if (errno != EINTR) return {Progress::Kind::failed, 0, last_error()};
  }
}

void Transport::finish_tls() {
  if (!ssl_ || !SSL_is_init_finished(ssl_.get())) return;
  ERR_clear_error();
  (void)SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

std::optional<int64_t> Transport::unacknowledged() const {
  int bytes = 0;
  if (::ioctl(socket_.descriptor(), SIOCOUTQ, &bytes) != 0) return std::nullopt;
  return bytes;
}

bool Transport::silent() {
  // What waits under TLS may be a session ticket, which is nothing to the layer above.
  if (ssl_) {
    char byte = 0;
    ERR_clear_error();
    const int got = SSL_peek(ssl_.get(), &byte, 1);
    const bool nothing = got <= 0 && SSL_get_error(ssl_.get(), got) == SSL_ERROR_WANT_READ;
    ERR_clear_error();
    return nothing;
  }
  char byte = 0;
  return ::recv(socket_.descriptor(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

}  // namespace tidemill::wire
