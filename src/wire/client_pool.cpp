#include "wire/client_pool.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "base/eight_bytes.hpp"
#include "wire/chunk_decoder.hpp"
#include "wire/client_shard.hpp"
#include "wire/http_head.hpp"
#include "wire/input_buffer.hpp"

namespace tidemill::wire {

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;
using base::SteadyTime;

bool breaks_the_head(std::string_view text) {
  using base::eight_bytes::equal;
  return base::any_of_bytes(text,
                            [](uint64_t eight) { return equal(eight, '\r') | equal(eight, '\n') | equal(eight, 0); });
}

// `asked`: the proxy that the request itself goes to; null: it goes to its server, by a tunnel or without.
Result<std::string> format_head(const OutgoingRequest& request, bool keep, const Proxy* asked) {
  const std::string_view target = request.target.empty() ? std::string_view(request.to->target) : request.target;
  const auto is_token = [](char c) { return is_token_character(static_cast<unsigned char>(c)); };
  if (request.method.empty() || !std::all_of(request.method.begin(), request.method.end(), is_token)) {
    return Error(ErrorCode::invalid_argument, fmt::format("'{}' is not an HTTP method", request.method));
  }
  if (breaks_the_head(target) || target.find(' ') != target.npos) {
    return Error(ErrorCode::invalid_argument, "the target of the request holds a blank or a line break");
  }
  std::string head;
  head.reserve(512);
  const auto append = [&head](auto... parts) { (head.append(parts), ...); };
  append(request.method, " ");
  if (asked != nullptr) append("http://", request.to->authority());
  append(target, " HTTP/1.1\r\n");
  if (asked != nullptr && !asked->authorization.empty()) {
    append("Proxy-Authorization: ", std::string_view(asked->authorization), "\r\n");
  }
  static const Headers none;
  const Headers& headers = request.headers != nullptr ? *request.headers : none;
  if (!headers.has("host")) append("Host: ", request.to->authority(), "\r\n");
  for (const auto& [name, value] : headers) {
    if (is_framing(name)) continue;
    if (name.empty() || breaks_the_head(name) || breaks_the_head(value)) {
      return Error(ErrorCode::invalid_argument, fmt::format("the header '{}' holds a line break", name));
    }
    append(std::string_view(name), ": ", std::string_view(value), "\r\n");
  }
  if (!request.body.empty() || (request.method != "GET" && request.method != "HEAD")) {
    std::array<char, 20> digits;
    const char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), request.body.size()).ptr;
    append("Content-Length: ", std::string_view(digits.data(), static_cast<size_t>(end - digits.data())), "\r\n");
  }
  append(keep ? "\r\n" : "Connection: close\r\n\r\n");
  return head;
}

}  // namespace

void Cancellation::cancel() {
  cancelled_ = true;
  if (const auto act = std::exchange(hang_up_, nullptr)) act();
}

void Cancellation::set(std::function<void()> hang_up) {
  hang_up_ = std::move(hang_up);
  if (cancelled_) cancel();
}

struct ClientPool::Impl {
  ~Impl() {
    for (const auto& shard : shards)
      shard->close();
  }
  ClientShard& shard_of(asio::io_context& context);

  PoolOptions options;
  uint64_t number = 0;
  mutable std::mutex mutex;               // guards what follows
  std::optional<Result<TlsContext>> tls;  // loaded with the first shard, then fixed
  std::vector<std::shared_ptr<ClientShard>> shards;
};

ClientShard& ClientPool::Impl::shard_of(asio::io_context& context) {
  auto& shards_there = asio::use_service<ClientShards>(context);
  if (ClientShard* const known = shards_there.find(number)) return *known;
  const std::lock_guard lock(mutex);
  if (!tls) tls = load_client_tls(options.tls);
  auto shard = std::make_shared<ClientShard>(context, number, options, *tls ? **tls : nullptr);
  std::erase_if(shards, [](const auto& other) { return other->closed(); });
  shards.push_back(shard);
  shards_there.add(shard);
  return *shard;
}

// A connection with one exchange on it.
struct ClientStream::Impl {
  enum class Body : uint8_t { complete, length, chunked, until_end };

  asio::awaitable<Result<void>> exchange(const OutgoingRequest& request, std::string_view request_head,
                                         SendReport& report);
  asio::awaitable<Result<void>> read_head(SteadyTime deadline, bool no_body, SendReport& report);
  Result<bool> take_head(bool no_body);
  Result<std::string_view> take_body(bool join);
  // Reads into `input` what is there. False: the peer's bytes are at their end; nullopt: there is nothing, so it has to
  // be waited for.
  std::optional<Result<bool>> read_now(size_t limit);
  void finish();
  Error corrupt(std::string_view what) const {
    return {ErrorCode::corrupt,
            fmt::format("the answer from {} is not valid HTTP/1.1: {}", connection->to().authority(), what)};
  }

  ~Impl() {
    if (cancellation != nullptr) cancellation->set(nullptr);
  }

  std::unique_ptr<ClientPlace> place;  // outlives its connection
  std::unique_ptr<ClientConnection> connection;
  Cancellation* cancellation = nullptr;
  size_t max_header_bytes = 0;
  base::Duration idle_timeout{};
  bool keep = false;        // the pool keeps connections
  bool keep_alive = false;  // the server does too, and the request went out whole
  bool look_first = false;  // bytes may be there that the connection does not tell of
  InputBuffer input;
  HeadScanner scanner;
  HttpResponse head;
  Body body = Body::complete;
  uint64_t left = 0;
  ChunkDecoder chunks{0, 0};
};

std::optional<Result<bool>> ClientStream::Impl::read_now(size_t limit) {
  const InputBuffer::Room room = input.prepare(limit);
  const Progress progress = connection->read(room.at, room.size);
  // Under TLS more may have been received than was asked for.
  look_first = progress.kind == Progress::Kind::done && connection->tls();
  switch (progress.kind) {
    case Progress::Kind::done:
      input.commit(progress.bytes);
      return true;
    case Progress::Kind::ended:
      return false;
    case Progress::Kind::failed:
      return connection->failure("the answer breaks off from", progress.error);
    default:
      return std::nullopt;
  }
}

// True: the head of an answer is there. False: more bytes are wanted.
Result<bool> ClientStream::Impl::take_head(bool no_body) {
  while (true) {
    // What is no HTTP at all is told apart by its first bytes, before it ends.
    const std::string_view seen = input.view().substr(0, 5);
    if (seen != std::string_view("HTTP/").substr(0, seen.size())) return corrupt("it does not begin with HTTP/");
    const auto found = scanner.scan(input.view(), max_header_bytes);
    if (found == HeadScanner::Found::nothing) return false;
    if (found == HeadScanner::Found::bare_line_feed) return corrupt("a line of its head does not end in CR LF");
    if (found == HeadScanner::Found::too_long) {
      return Error(ErrorCode::too_large, fmt::format("the head of the answer from {} is longer than {} bytes",
                                                     connection->to().authority(), max_header_bytes));
    }
    StatusLine line;
    head.headers = Headers();
    const char* fault = read_answer_head(input.view().substr(0, scanner.length()), line, head.headers);
    if (fault != nullptr) return corrupt(fault);
    input.consume(scanner.length());
    scanner.reset();
    if (line.status == 101) return corrupt("it changes the protocol unasked");
    if (line.status < 200) continue;  // interim answers, such as 103
    BodyLength length;
    fault = read_body_length(head.headers, line.http_1_0, length);
    if (fault != nullptr) return corrupt(fault);
    head.status = line.status;
    keep_alive = keep_alive && (line.http_1_0 ? head.headers.has_token("connection", "keep-alive")
                                              : !head.headers.has_token("connection", "close"));
    if (no_body || line.status == 204 || line.status == 304) {
      body = Body::complete;
    } else if (length.kind == BodyLength::Kind::length) {
      left = length.bytes;
      body = left == 0 ? Body::complete : Body::length;
    } else if (length.kind == BodyLength::Kind::chunked) {
      chunks = ChunkDecoder(max_header_bytes, UINT64_MAX);
      body = Body::chunked;
    } else {
      body = Body::until_end;
      keep_alive = false;
    }
    return true;
  }
}

asio::awaitable<Result<void>> ClientStream::Impl::read_head(SteadyTime deadline, bool no_body, SendReport& report) {
  while (true) {
    std::optional<Result<bool>> more;
    while (!more) {
      if (!look_first && !connection->readable()) {
        input.release_if_empty();
        auto readable = co_await connection->wait_readable(deadline);
        if (!readable) co_return std::move(readable).error();
      }
      more = read_now(max_header_bytes + InputBuffer::block_size);
    }
    if (!*more) co_return std::move(*more).error();
    if (!more->value()) {
      co_return Error(ErrorCode::unavailable,
                      fmt::format("no answer from {}: it has closed the connection", connection->to().authority()));
    }
    report.answer_began = true;
    auto taken = take_head(no_body);
    if (!taken) co_return std::move(taken).error();
    if (*taken) co_return Result<void>();
  }
}

asio::awaitable<Result<void>> ClientStream::Impl::exchange(const OutgoingRequest& request,
                                                           std::string_view request_head, SendReport& report) {
  Pieces pieces = {asio::buffer(request_head), asio::buffer(request.body)};
  look_first = connection->tls();
  Result<void> sent;
  if (auto at_once = connection->write_now(pieces, report.request_sent)) {
    sent = *std::move(at_once);
  } else {
    sent = co_await connection->write(pieces, request.timeouts.idle, report.request_sent);
  }
  keep_alive = keep && sent.has_value();
  // A server may refuse a body before it has read it all, so a failed write does not mean that there is no answer.
  const bool gone = !sent && sent.error().code() != ErrorCode::unavailable;
  if (gone) co_return std::move(sent).error();
  look_first = look_first || !sent;
  auto read = co_await read_head(Deadlines::now() + request.timeouts.first_byte, request.method == "HEAD", report);
  if (!read && !sent) co_return std::move(sent).error();
  co_return read;
}

// What `input` holds of the body: empty if that is nothing.
Result<std::string_view> ClientStream::Impl::take_body(bool join) {
  const std::string_view bytes = input.view();
  switch (body) {
    case Body::complete:
      return std::string_view();
    case Body::until_end:
      input.consume(bytes.size());
      return bytes;
    case Body::length: {
      const std::string_view piece = bytes.substr(0, static_cast<size_t>(std::min<uint64_t>(left, bytes.size())));
      input.consume(piece.size());
      left -= piece.size();
      if (left == 0) body = Body::complete;
      return piece;
    }
    case Body::chunked:
      break;
  }
  // The data of one chunk where it lies, or of all that are there, moved together over the framing between them.
  char* const start = input.data();
  size_t first = 0;
  size_t filled = 0;
  size_t used = 0;
  while (used < bytes.size() && chunks.state() == ChunkDecoder::State::more && (join || filled == 0)) {
    const ChunkDecoder::Step step = chunks.next(bytes.substr(used));
    if (filled == 0) {
      first = used + step.offset;
    } else if (step.length != 0) {
      std::memmove(start + first + filled, start + used + step.offset, step.length);
    }
    filled += step.length;
    used += step.taken;
  }
  input.consume(used);
  if (chunks.state() == ChunkDecoder::State::done) body = Body::complete;
  if (filled == 0 && chunks.state() != ChunkDecoder::State::more && body != Body::complete) {
    return corrupt("its chunks are malformed");
  }
  return std::string_view(start + first, filled);
}

// The connection goes to the next request, or ends.
void ClientStream::Impl::finish() {
  if (cancellation != nullptr) std::exchange(cancellation, nullptr)->set(nullptr);
  if (keep_alive && input.empty()) place->keep(std::move(connection));
  connection.reset();
  place.reset();
}

ClientStream::ClientStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ClientStream::ClientStream(ClientStream&&) noexcept = default;
ClientStream& ClientStream::operator=(ClientStream&&) noexcept = default;
ClientStream::~ClientStream() = default;

const HttpResponse& ClientStream::head() const {
  return impl_->head;
}

bool ClientStream::complete() const {
  return impl_->body == Impl::Body::complete;
}

asio::awaitable<Result<std::string_view>> ClientStream::next() {
  return next_piece(true);
}

asio::awaitable<Result<std::string_view>> ClientStream::next_piece(bool join) {
  Impl& impl = *impl_;
  while (impl.body != Impl::Body::complete) {
    auto piece = impl.take_body(join);
    if (!piece) co_return std::move(piece).error();
    if (impl.body == Impl::Body::complete) impl.finish();
    if (!piece->empty() || impl.body == Impl::Body::complete) co_return *piece;
    // As `read_head` does: a coroutine of its own would cost each piece of a stream more than this.
    const SteadyTime deadline = Deadlines::now() + impl.idle_timeout;
    std::optional<Result<bool>> more;
    while (!more) {
      if (!impl.look_first && !impl.connection->readable()) {
        impl.input.release_if_empty();
        auto readable = co_await impl.connection->wait_readable(deadline);
        if (!readable) co_return std::move(readable).error();
      }
      more = impl.read_now(InputBuffer::block_size);
    }
    if (!*more) co_return std::move(*more).error();
    if (more->value()) continue;
    if (impl.body != Impl::Body::until_end) {
      co_return Error(ErrorCode::unavailable, fmt::format("the answer breaks off from {}: it has closed the connection",
                                                          impl.connection->to().authority()));
    }
    impl.body = Impl::Body::complete;
    impl.finish();
  }
  impl.input.release_if_empty();
  co_return std::string_view();
}

asio::awaitable<Result<std::optional<std::string>>> ClientStream::read() {
  auto piece = co_await next_piece(false);
  if (!piece) co_return std::move(piece).error();
  if (piece->empty()) co_return std::optional<std::string>();
  co_return std::optional<std::string>(*piece);
}

ClientPool::ClientPool(PoolOptions options) : impl_(std::make_shared<Impl>()) {
  static std::atomic<uint64_t> pools = 0;
  impl_->options = std::move(options);
  impl_->number = ++pools;
}

size_t ClientPool::idle_connections() const {
  const std::lock_guard lock(impl_->mutex);
  size_t idle = 0;
  for (const auto& shard : impl_->shards)
    idle += shard->idle();
  return idle;
}

asio::awaitable<Result<ClientStream>> ClientPool::open(const OutgoingRequest& request, SendReport* report) {
  SendReport own;
  SendReport& said = report != nullptr ? *report : own;
  said = SendReport();
  const asio::any_io_executor executor = co_await asio::this_coro::executor;
  auto& context = static_cast<asio::io_context&>(asio::query(executor, asio::execution::context));
  ClientShard& shard = impl_->shard_of(context);
  if (request.to->https && !*impl_->tls) co_return impl_->tls->error();
  const PoolOptions& options = shard.options();
  const auto proxy = options.proxies.find(*request.to);
  if (!proxy) co_return proxy.error();
  const Proxy* const asked = request.to->https ? nullptr : *proxy;
  auto head = format_head(request, options.max_idle != 0, asked);
  if (!head) co_return std::move(head).error();

  for (bool again = false;; again = true) {
    auto stream = std::make_unique<ClientStream::Impl>();
    stream->cancellation = request.cancellation;
    stream->max_header_bytes = options.max_header_bytes;
    stream->idle_timeout = request.timeouts.idle;
    stream->keep = options.max_idle != 0;
    const SteadyTime deadline = Deadlines::now() + request.timeouts.connect;
    auto idle = again ? std::nullopt : shard.check_out_now(*request.to, *proxy);
    if (!idle) {
      auto checkout = co_await shard.check_out(*request.to, *proxy, !again, deadline, request.cancellation);
      if (!checkout) co_return std::move(checkout).error();
      idle = *std::move(checkout);
    }
    stream->place = std::move(idle->place);
    stream->connection = std::move(idle->connection);
    said.reused = said.connected = stream->connection != nullptr;
    if (!said.reused) {
      auto made = co_await shard.connect(stream->place->origin(), deadline, request.cancellation);
      if (!made) co_return std::move(made).error();
      stream->connection = *std::move(made);
      said.connected = true;
    } else if (request.cancellation != nullptr) {
      request.cancellation->set([raw = stream->connection.get()] { raw->hang_up(); });
    }
    bool sent_now = false;
    std::swap(sent_now, said.request_sent);
    auto exchanged = co_await stream->exchange(request, *head, said);
    const bool any_sent = said.request_sent;
    said.sends += any_sent ? 1 : 0;
    said.request_sent = said.request_sent || sent_now;
    if (exchanged) {
      if (asked != nullptr && stream->head.status == 407) co_return asked->refusal(stream->head, *request.to);
      if (stream->body == ClientStream::Impl::Body::complete) stream->finish();
      co_return ClientStream(std::move(stream));
    }
    const bool stale = said.reused && !said.answer_began && exchanged.error().code() == ErrorCode::unavailable;
    if (!stale || (any_sent && !request.repeatable)) co_return std::move(exchanged).error();
    said.repeated = true;
  }
}

}  // namespace tidemill::wire
