#include "wire/connection.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <exception>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/eight_bytes.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "wire/error_body.hpp"
#include "wire/http_head.hpp"

namespace tidemill::wire {

namespace {

using boost::system::error_code;

// To a request that no handler is there for.
HttpResponse unanswered(const HttpRequest& request, const Router::Match& match, const std::string& id,
                        std::string& message) {
  const ErrorStyle style = error_style(request.path);
  HttpResponse response;
  if (match.route.empty()) {
    message = fmt::format("no such URL: {} {}", request.method, request.path);
    response = error_response(base::Error(base::ErrorCode::not_found, message), 1, style, id);
  } else {
    const std::string allow = match.allow();
    message = fmt::format("{} does not answer {}, only {}", match.route, request.method, allow);
    response = error_response(405, message, "invalid_request_error", "method_not_allowed", style, id);
    response.headers.set("Allow", allow);
  }
  set_request_id(response.headers, id, style);
  return response;
}

// The method of a head that has not come whole; empty where its end has not come either, or it is none.
std::string_view begun_method(std::string_view head) {
  const std::string_view method = head.substr(0, std::min(head.find(' '), head.size()));
  const auto is_token = [](char c) { return is_token_character(static_cast<unsigned char>(c)); };
  const bool ended = method.size() < head.size();
  return ended && std::all_of(method.begin(), method.end(), is_token) ? method : std::string_view();
}

// The target of a head that has not come whole; empty where its end has not come either.
std::string_view begun_target(std::string_view head) {
  const std::string_view line = head.substr(0, head.find('\r'));
  const size_t first = line.find(' ');
  const size_t last = first == std::string_view::npos ? first : line.find(' ', first + 1);
  return last == std::string_view::npos ? std::string_view() : line.substr(first + 1, last - first - 1);
}

// "Sun, 06 Nov 1994 08:49:37 GMT"
std::string http_date(base::WallTime time) {
  const std::time_t seconds =
      std::chrono::system_clock::to_time_t(std::chrono::time_point_cast<std::chrono::system_clock::duration>(time));
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  static constexpr std::string_view days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::string_view months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", days[parts.tm_wday], parts.tm_mday, months[parts.tm_mon],
                     parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

// The date now as HTTP writes it, made once a second and thread. Not inlined into coroutines: see input_buffer.cpp.
[[gnu::noinline]] std::string_view date_at(base::WallTime time) {
  static thread_local std::string text;
  static thread_local int64_t of = INT64_MIN;
  const int64_t second = std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
  if (std::exchange(of, second) != second) text = http_date(time);
  return text;
}

// The server's own to set, whatever the handler says.
bool is_own(std::string_view name) {
  return is_framing(name) || (name.size() == 4 && equal_ignoring_case(name, "date"));
}

// Control characters in a value would let it forge further headers.
void append_field(std::string& head, std::string_view name, std::string_view value) {
  const size_t start = head.size();
  head.append(name).append(": ").append(value);
  const auto control = [](uint64_t eight) { return base::eight_bytes::below(eight, ' '); };
  if (base::any_of_bytes(std::string_view(head).substr(start), control)) {
    for (size_t i = start; i < head.size(); ++i) {
      if (static_cast<unsigned char>(head[i]) < ' ' && head[i] != '\t') head[i] = ' ';
    }
  }
  head += "\r\n";
}

// Bytes that the kernel takes of an answer beyond those that the client has room for; when half of them has gone it
// asks for more. By itself it takes some megabytes: so much would be computed for a client that does not read.
constexpr int most_unsent_bytes = 128 << 10;

// Requests of one connection that are there already, until others of its thread have their turn.
constexpr int most_at_once = 16;

constexpr std::string_view speaks_tls =
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 52\r\n"
    "Connection: close\r\n\r\nThis port speaks TLS: use https:// instead of http:\n";

// "127.0.0.1:4711", "[::1]:4711"; empty where the system does not say.
std::string peer_of(const asio::ip::tcp::socket& socket) {
  error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  if (error) return {};
  const std::string address = endpoint.address().to_string();
  return endpoint.address().is_v6() ? fmt::format("[{}]:{}", address, endpoint.port())
                                    : fmt::format("{}:{}", address, endpoint.port());
}

// Asio watches no longer over it.
int release(asio::ip::tcp::socket& socket) {
  error_code error;
  const int descriptor = socket.release(error);
  return error ? -1 : descriptor;
}

bool has_no_body(int status) {
  return status == 204 || status == 304;
}

}  // namespace

// Shared with the functions that `waker` gave out, which outlive the exchange. The mutex guards `connection`, which is
// null once the exchange has ended; while it is not, the connection and its executor are alive.
struct Connection::WakerState {
  std::mutex mutex;
  Connection* connection = nullptr;
  bool posted = false;  // a wake is under way: further ones are the same
};

Connection::Connection(asio::ip::tcp::socket socket, asio::io_context& io, ServerContext& context)
    : peer_(peer_of(socket)),
      io_(io),
      transport_(
          SocketEvents::of(io), [](void* self) { static_cast<Connection*>(self)->told(); }, this, release(socket)),
      context_(context),
      input_capacity_(std::max(context.options.max_header_bytes, size_t{64} << 10)),
      input_event_(Deadlines::of(io)),
      socket_event_(Deadlines::of(io)),
      write_deadline_(
          Deadlines::of(io), [](void* self) { static_cast<Connection*>(self)->write_deadline_passed(); }, this),
      wake_event_(Deadlines::of(io)) {
  transport_.prepare();
  (void)::setsockopt(transport_.socket().descriptor(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &most_unsent_bytes,
                     sizeof most_unsent_bytes);
}

Connection::~Connection() {
  detach_waker();
}

// ---- input

// False: the system does not tell of the socket, so that it is of no use.
bool Connection::watch() {
  const error_code error = transport_.socket().watch();
  if (error) base::log::warn("cannot serve {}: {}", peer_, error.message());
  if (!error) transport_.socket().wait_for_events(true);
  return !error;
}

// Idle connections hold no buffers: there is something to take first.
void Connection::told() {
  const auto self = shared_from_this();
  const bool expected = waits_to_read_ ? transport_.socket().readable() : transport_.socket().writable();
  if (expected) socket_event_.notify();
  if (taking_input_ && transport_.socket().readable() && input_.size() < input_capacity_) take_input();
}

void Connection::take_input() {
  if (end_of_input_) return;
  // Under TLS all has to be taken out: what OpenSSL holds does not make the socket readable.
  Progress progress;
  do {
    const InputBuffer::Room room = input_.prepare(input_capacity_);
    if (room.size == 0) break;  // `consume_input` goes on
    progress = transport_.read(room.at, room.size);
    input_.commit(progress.bytes);
  } while (progress.kind == Progress::Kind::done && (transport_.tls() || transport_.socket().readable()));
  if (progress.kind == Progress::Kind::ended || progress.kind == Progress::Kind::failed) {
    end_of_input_ = true;
    broken_ = broken_ || progress.kind == Progress::Kind::failed;
    input_.release_if_empty();
    return client_gone();
  }
  input_event_.notify_now();
}

// The request may have come with the end of the handshake.
void Connection::begin_input() {
  taking_input_ = true;
  if (transport_.tls() || transport_.socket().readable()) take_input();
}

void Connection::consume_input(size_t bytes) {
  if (bytes == 0) return;
  const bool was_full = input_.size() >= input_capacity_;
  input_.consume(bytes);
  input_.release_if_empty();
  if (was_full) take_input();
}

void Connection::client_gone() {
  input_event_.notify();
  socket_event_.notify();
  wake_event_.notify();
  if (auto callback = std::exchange(on_disconnect_, nullptr)) callback();
}

void Connection::cut() {
  if (broken_) return;
  broken_ = true;
  end_of_input_ = true;
  transport_.socket().reset();
  client_gone();
}

// Why nothing can be said to the client any more.
base::Error Connection::absence() const {
  if (!stalled_) return {base::ErrorCode::cancelled, "the client has closed the connection"};
  return {base::ErrorCode::cancelled, fmt::format("the client took nothing of its answer for {:g} s and was cut off",
                                                  base::seconds(context_.options.write_timeout))};
}

void Connection::close() {
  transport_.socket().close();
  broken_ = true;
  end_of_input_ = true;
}

// ---- requests

asio::awaitable<void> Connection::run() {
  const auto self = shared_from_this();
  if (watch() && co_await shake_hands()) {
    begin_input();
    int at_once = 0;
    while (co_await serve_one()) {
      at_once = input_.empty() ? 0 : at_once + 1;
      if (at_once % most_at_once == most_at_once - 1) co_await asio::post(executor(), asio::use_awaitable);
    }
  }
  close();
}

asio::awaitable<void> Connection::refuse_for_load() {
  const auto self = shared_from_this();
  if (watch() && co_await shake_hands()) {
    begin_input();
    HttpResponse response = error_response(
        base::Error(base::ErrorCode::unavailable,
                    fmt::format("the server already has {} connections, its limit", context_.options.max_connections)));
    (void)co_await respond(std::move(response));
    co_await linger();
  }
  close();
}

// TLS, if the server speaks it. False: the connection is to be closed.
asio::awaitable<bool> Connection::shake_hands() {
  const TlsContext tls = context_.tls();
  if (!tls) co_return true;
  const base::SteadyTime deadline = Deadlines::now() + context_.options.header_timeout;
  bool began = false;
  while (!broken_) {
    Progress progress = {Progress::Kind::want_read, 0, {}};
    if (!began) {
      char first = 0;
      progress = transport_.peek(&first);
      if (progress.kind == Progress::Kind::done && first != '\x16') {  // no TLS record
        Pieces pieces = {asio::buffer(speaks_tls)};
        (void)write_now(pieces);
        begin_input();
        co_await linger();
        co_return false;
      }
      began = progress.kind == Progress::Kind::done;
      if (began && !transport_.start_tls(tls.get(), {})) co_return false;
    }
    if (began) progress = transport_.handshake();
    if (progress.kind == Progress::Kind::done) co_return true;
    if (progress.kind == Progress::Kind::ended || progress.kind == Progress::Kind::failed) {
      if (began) base::log::debug("{}: no TLS: {}", peer_, transport_.tls_failure());
      co_return false;
    }
    write_deadline_.set(deadline);
    co_await wait_for(progress);
    write_deadline_.clear();
  }
  co_return false;
}

// Until what a try to read or write asked for, or the connection's end.
asio::awaitable<void> Connection::wait_for(const Progress& progress) {
  waits_to_read_ = progress.kind == Progress::Kind::want_read;
  const Socket& socket = transport_.socket();
  const bool ready = waits_to_read_ ? socket.readable() : socket.writable();
  if (!ready && !broken_) (void)co_await socket_event_.wait_until(base::SteadyTime::max());
}

// One request and its answer. False: the connection is to be closed.
asio::awaitable<bool> Connection::serve_one() {
  const base::SteadyTime idle_until = Deadlines::now() + context_.options.idle_timeout;
  while (input_.empty()) {
    if (end_of_input_ || context_.draining) co_return false;
    if (!co_await input_event_.wait_until(idle_until)) co_return false;
  }
  answer_ = Answer::none;
  answer_taken_ = false;
  unfinished_ = false;
  status_ = 0;
  body_bytes_ = 0;
  keep_alive_ = false;
  own_ = OwnAnswer();
  handled_ = false;
  const base::SteadyTime received = context_.clock.now();
  const base::WallTime received_wall = context_.clock.wall_now();

  bool complete = false;
  std::optional<RequestParser::Refusal> refusal;
  {
    RequestParser parser({context_.options.max_header_bytes, context_.options.max_body_bytes});
    complete = co_await read_request(parser);
    keep_alive_ = complete && parser.keep_alive();
    request_ = parser.take();
    refusal = parser.refusal();
  }
  request_.received = received;
  request_.received_wall = received_wall;
  request_.peer = peer_;
  if (complete) {
    co_await run_exchange();
  } else if (refusal) {
    co_await refuse(refusal->status, refusal->message);
  } else if (!broken_) {
    if (end_of_input_) {
      co_await refuse(400, "the request ends before it is complete");
    } else if (context_.hurrying) {
      context_.hurry_cut_some = true;
      co_await refuse(503, "the server has stopped before the request was complete");
    } else {
      co_await refuse(408, "the request did not arrive within the time allowed for it");
    }
  }
  if (context_.options.on_exchange && (complete || status_ != 0)) {
    context_.options.on_exchange({.method = handled_ ? std::string_view(request_.method) : own_.method,
                                  .route = request_.route,
                                  .status = status_,
                                  .body_bytes = body_bytes_,
                                  .duration = context_.clock.now() - received,
                                  .unfinished = unfinished_,
                                  .handled = handled_,
                                  .request_id = own_.id,
                                  .path = own_.path,
                                  .error = own_.error,
                                  .peer = peer_,
                                  .received = received_wall,
                                  .request_bytes = request_.body.size()});
  }
  request_ = HttpRequest();
  if (broken_) co_return false;
  if (!keep_alive_) co_await linger();
  co_return keep_alive_;
}

// Feeds the parser until the request is complete. False: refused, timed out or ended; which one, the caller can see.
asio::awaitable<bool> Connection::read_request(RequestParser& parser) {
  const HttpServerOptions& options = context_.options;
  base::SteadyTime deadline = Deadlines::now() + options.header_timeout;
  base::SteadyTime body_began{};
  uint64_t body_taken = 0;
  bool continued = false;
  while (true) {
    const bool head_was_done = parser.head_done();
    const size_t taken = parser.feed(input_.view());
    const size_t left = input_.size() - taken;
    consume_input(taken);  // which may let more in at once
    if (parser.done()) co_return true;
    if (parser.refusal()) co_return false;
    if (end_of_input_) co_return false;
    if (parser.head_done() && (taken != 0 || !head_was_done)) {
      const base::SteadyTime now = Deadlines::now();
      if (!head_was_done) body_began = now;
      if (head_was_done) body_taken += taken;
      deadline = now + options.body_timeout;
      if (options.min_body_rate != 0) {
        const base::Duration due = std::chrono::milliseconds(body_taken * 1000 / options.min_body_rate);
        deadline = std::min(deadline, body_began + options.body_timeout + due);
      }
    }
    if (parser.head_done() && parser.expects_continue() && !std::exchange(continued, true)) {
      static constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
      Pieces pieces = {asio::buffer(go_on)};
      if (!write_now(pieces) && !co_await write_rest(pieces)) co_return false;
    }
    while (input_.size() == left && !end_of_input_) {
      if (context_.hurrying || !co_await input_event_.wait_until(deadline)) co_return false;
    }
  }
}

asio::awaitable<void> Connection::run_exchange() {
  Exchange exchange(*this);
  in_exchange_ = true;
  woken_ = false;
  std::string failure;
  try {
    const Router::Match match = context_.router.find(request_.method, request_.path);
    request_.route = match.route;
    request_.path_rest = match.rest;
    handled_ = match.handler != nullptr;
    if (handled_) {
      co_await (*match.handler)(exchange);
    } else {
      note_own_answer({});
      HttpResponse answer =
          request_.method == "OPTIONS" ? preflight(match.allow()) : unanswered(request_, match, own_.id, own_.error);
      (void)co_await respond(std::move(answer));
    }
  } catch (const std::exception& error) {
    failure = error.what();
  } catch (...) {
    failure = "an exception of unknown type";
  }
  in_exchange_ = false;
  unfinished_ = end_of_input_ && !answer_taken_;
  on_disconnect_ = nullptr;
  detach_waker();
  const bool lacks_answer = answer_ == Answer::none && !end_of_input_;
  if (lacks_answer) own_.id = request_id(request_);
  if (!failure.empty()) {
    base::log::error("{} {}: the handler threw: {} id={}", request_.method, request_.route, failure, own_.id);
  } else if (lacks_answer) {
    base::log::error("{} {}: the handler gave no answer id={}", request_.method, request_.route, own_.id);
  }
  if (answer_ == Answer::none) {
    if (lacks_answer) {
      const ErrorStyle style = error_style(request_.path);
      const base::Error error(base::ErrorCode::internal, "the server failed to answer this request");
      HttpResponse response = error_response(error, 1, style, own_.id);
      set_request_id(response.headers, own_.id, style);
      (void)co_await respond(std::move(response));
    } else {
      keep_alive_ = false;
    }
  } else if (answer_ == Answer::stream) {
    cut();
  }
}

// Answers a request that could not be read, after which the connection has to close.
asio::awaitable<void> Connection::refuse(int status, std::string message) {
  keep_alive_ = false;
  const std::string_view type = status == 503 ? "server_error" : "invalid_request_error";
  const std::string_view code = status == 413   ? "request_too_large"
                                : status == 503 ? "unavailable"
                                : status == 408 ? "timeout"
                                : status == 415 ? "unsupported_content_encoding"
                                : status == 431 ? "headers_too_large"
                                                : "bad_request";
  const ErrorStyle style = error_style(asked_path());
  note_own_answer(message);
  HttpResponse response = error_response(status, message, type, code, style, own_.id);
  set_request_id(response.headers, own_.id, style);
  if (status == 415) response.headers.set("Accept-Encoding", "identity");  // RFC 9110, section 12.5.3
  (void)co_await respond(std::move(response));
}

// A head that is not complete is still among the input.
void Connection::note_own_answer(std::string_view error) {
  own_.id = request_id(request_);
  const bool begun = request_.method.empty();
  own_.method = begun ? begun_method(input_.view()) : request_.method;
  const std::string_view target = begun ? begun_target(input_.view()) : request_.target;
  own_.path = target.substr(0, target.find('?'));
  own_.error = error;
}

// Of a request that could not be read whole: what decides in whose words it is refused. A head that is not complete is
// still among the input.
std::string Connection::asked_path() const {
  if (!request_.path.empty()) return request_.path;
  std::string_view target = request_.target;
  if (target.empty()) target = begun_target(input_.view());
  target = target.substr(0, target.find('?'));
  return percent_decode(target).value_or(std::string(target));
}

// Closing a socket with input unread makes the kernel send a reset, which can destroy an answer that the client has not
// read yet. So: end our side, then read on until the client ends its own.
asio::awaitable<void> Connection::linger() {
  transport_.finish_tls();
  transport_.socket().shutdown_send();
  const base::SteadyTime deadline = Deadlines::now() + context_.options.linger_timeout;
  while (!end_of_input_ && !context_.hurrying) {
    consume_input(input_.size());
    if (!co_await input_event_.wait_until(deadline)) co_return;
    if (Deadlines::now() >= deadline) co_return;  // a client that never stops sending
  }
}

void Connection::add_cors(Headers& headers) const {
  const auto& allowed = context_.options.cors_origins;
  const auto origin = request_.headers.find("origin");
  if (allowed.empty() || !origin) return;
  const bool any = std::find(allowed.begin(), allowed.end(), "*") != allowed.end();
  if (!any && std::find(allowed.begin(), allowed.end(), *origin) == allowed.end()) return;
  headers.set("Access-Control-Allow-Origin", any ? "*" : std::string(*origin));
  if (!any) headers.add("Vary", "Origin");
}

HttpResponse Connection::preflight(std::string allow) const {
  HttpResponse response;
  response.status = 204;
  if (allow.empty()) allow = "GET, HEAD, POST, OPTIONS";
  if (request_.headers.has("access-control-request-method")) {
    response.headers.set("Access-Control-Allow-Methods", allow);
    if (const auto asked = request_.headers.find("access-control-request-headers")) {
      response.headers.set("Access-Control-Allow-Headers", std::string(*asked));
    }
    response.headers.set("Access-Control-Max-Age", "600");
  }
  response.headers.set("Allow", std::move(allow));
  return response;
}

// ---- answers

// Without `content_length`: a stream.
std::string Connection::format_head(int status, const Headers& headers, std::optional<size_t> content_length) {
  if (context_.draining) keep_alive_ = false;
  chunked_ = !content_length && !request_.http_1_0;
  if (!content_length && !chunked_) keep_alive_ = false;
  std::string head;
  head.reserve(320);
  head.append("HTTP/1.1 ").append(std::to_string(status)).append(" ").append(reason_phrase(status)).append("\r\n");
  for (const auto& [name, value] : headers) {
    if (!is_own(name)) append_field(head, name, value);
  }
  if (!context_.options.cors_origins.empty()) {
    Headers cors;
    add_cors(cors);
    for (const auto& [name, value] : cors)
      append_field(head, name, value);
  }
  append_field(head, "Date", date_at(context_.clock.wall_now()));
  if (content_length && !has_no_body(status)) {
    head.append("Content-Length: ").append(std::to_string(*content_length)).append("\r\n");
  }
  if (chunked_) head += "Transfer-Encoding: chunked\r\n";
  if (!keep_alive_) {
    head += "Connection: close\r\n";
  } else if (request_.http_1_0) {
    head += "Connection: keep-alive\r\n";
  }
  head += "\r\n";
  return head;
}

bool Connection::write_now(Pieces& pieces) {
  while (!broken_ && asio::buffer_size(pieces) != 0) {
    if (transport_.write(pieces).kind != Progress::Kind::done) return false;
  }
  return !broken_;
}

asio::awaitable<bool> Connection::write_rest(Pieces pieces) {
  while (!broken_) {
    if (asio::buffer_size(pieces) == 0) co_return true;
    const Progress progress = transport_.write(pieces);
    if (progress.kind == Progress::Kind::done) continue;
    if (progress.kind == Progress::Kind::failed || progress.kind == Progress::Kind::ended) {
      cut();
      break;
    }
    untaken_ = untaken();
    write_deadline_.set(Deadlines::now() + context_.options.write_timeout);
    co_await wait_for(progress);
    write_deadline_.clear();
  }
  co_return false;
}

std::optional<int64_t> Connection::untaken() {
  if (context_.options.untaken) return context_.options.untaken(transport_.socket().descriptor());
  return transport_.unacknowledged();
}

// A client that reads slowly takes its time until half of `most_unsent_bytes` has gone. It is cut only if it has taken
// nothing at all since it was last looked at.
void Connection::write_deadline_passed() {
  const std::optional<int64_t> before = untaken_;
  const std::optional<int64_t> left = before ? untaken() : std::nullopt;
  if (before && left && *left < *before) {
    untaken_ = left;
    return write_deadline_.set(Deadlines::now() + context_.options.write_timeout);
  }
  stalled_ = true;
  cut();
}

asio::awaitable<base::Result<void>> Connection::respond(HttpResponse response) {
  if (answer_ != Answer::none) co_return base::Error(base::ErrorCode::internal, "the request was answered twice");
  answer_ = Answer::whole;
  status_ = response.status;
  const bool send_body = request_.method != "HEAD" && !has_no_body(response.status);
  const std::string head = format_head(response.status, response.headers, response.body.size());
  if (!send_body) response.body.clear();
  body_bytes_ = response.body.size();
  Pieces pieces = {asio::buffer(head), asio::buffer(response.body)};
  if (!write_now(pieces) && !co_await write_rest(pieces)) co_return absence();
  answer_taken_ = true;
  co_return base::Result<void>();
}

asio::awaitable<base::Result<void>> Connection::begin_stream(int status, Headers headers) {
  if (answer_ != Answer::none) co_return base::Error(base::ErrorCode::internal, "the request was answered twice");
  if (end_of_input_) {
    answer_ = Answer::stream;
    co_return absence();
  }
  answer_ = Answer::stream;
  status_ = status;
  const std::string head = format_head(status, headers, std::nullopt);
  Pieces pieces = {asio::buffer(head)};
  if (!write_now(pieces) && !co_await write_rest(pieces)) co_return absence();
  co_return base::Result<void>();
}

asio::awaitable<base::Result<void>> Connection::write(std::string_view chunk) {
  auto done = begin_write(chunk);
  if (done) co_return std::move(*done);
  co_return co_await finish_write();
}

std::optional<base::Result<void>> Connection::begin_write(std::string_view chunk) {
  if (answer_ != Answer::stream) return base::Error(base::ErrorCode::internal, "no stream is open for this write");
  if (end_of_input_) return absence();
  if (chunk.empty() || request_.method == "HEAD") return base::Result<void>();
  body_bytes_ += chunk.size();
  unwritten_ = {};
  if (chunked_) {
    char* end = std::to_chars(size_line_.data(), size_line_.data() + 20, chunk.size(), 16).ptr;
    *end++ = '\r';
    *end++ = '\n';
    unwritten_[0] = asio::buffer(size_line_.data(), static_cast<size_t>(end - size_line_.data()));
    unwritten_[2] = asio::buffer("\r\n", 2);
  }
  unwritten_[1] = asio::buffer(chunk.data(), chunk.size());
  if (!write_now(unwritten_)) return std::nullopt;
  return base::Result<void>();
}

asio::awaitable<base::Result<void>> Connection::finish_write() {
  const Pieces rest = std::exchange(unwritten_, Pieces());  // a further call sends nothing again
  const bool taken = co_await write_rest(rest);
  if (!taken) co_return absence();
  co_return base::Result<void>();
}

asio::awaitable<base::Result<void>> Connection::end_stream() {
  if (answer_ != Answer::stream) co_return base::Error(base::ErrorCode::internal, "no stream is open to be ended");
  if (end_of_input_) co_return absence();
  answer_ = Answer::stream_ended;
  Pieces pieces = {};
  if (chunked_ && request_.method != "HEAD") pieces[0] = asio::buffer("0\r\n\r\n", 5);
  if (!write_now(pieces) && !co_await write_rest(pieces)) co_return absence();
  answer_taken_ = true;
  co_return base::Result<void>();
}

// ---- waking

asio::awaitable<Wake> Connection::wait(std::optional<base::Duration> at_most) {
  const base::SteadyTime deadline = at_most ? Deadlines::now() + *at_most : base::SteadyTime::max();
  while (true) {
    if (end_of_input_) co_return Wake::disconnected;
    if (std::exchange(woken_, false)) co_return Wake::woken;
    if (!co_await wake_event_.wait_until(deadline) && !woken_ && !end_of_input_) co_return Wake::timed_out;
  }
}

std::function<void()> Connection::waker() {
  if (!waker_state_) {
    waker_state_ = std::make_shared<WakerState>();
    waker_state_->connection = this;
  }
  return [state = waker_state_] {
    const std::lock_guard lock(state->mutex);
    if (state->connection == nullptr || std::exchange(state->posted, true)) return;
    asio::post(state->connection->executor(), [state] {
      Connection* connection = nullptr;
      {
        const std::lock_guard inner(state->mutex);
        state->posted = false;
        connection = state->connection;  // set to null only on this thread, so it stays good below
      }
      if (connection == nullptr) return;
      connection->woken_ = true;
      connection->wake_event_.notify_now();
    });
  };
}

void Connection::detach_waker() {
  if (!waker_state_) return;
  {
    const std::lock_guard lock(waker_state_->mutex);
    waker_state_->connection = nullptr;
  }
  waker_state_.reset();
}

// ---- the exchange hands everything on

HttpRequest& Exchange::request() {
  return connection_.request_;
}
asio::awaitable<base::Result<void>> Exchange::respond(HttpResponse response) {
  return connection_.respond(std::move(response));
}
asio::awaitable<base::Result<void>> Exchange::begin_stream(int status, Headers headers) {
  return connection_.begin_stream(status, std::move(headers));
}
asio::awaitable<base::Result<void>> Exchange::write(std::string_view chunk) {
  return connection_.write(chunk);
}
std::optional<base::Result<void>> Exchange::write_now(std::string_view chunk) {
  return connection_.begin_write(chunk);
}
asio::awaitable<base::Result<void>> Exchange::write_rest() {
  return connection_.finish_write();
}
asio::awaitable<base::Result<void>> Exchange::end() {
  return connection_.end_stream();
}
bool Exchange::answered() const {
  return connection_.answer_ != Connection::Answer::none;
}
bool Exchange::disconnected() const {
  return connection_.end_of_input_;
}
bool Exchange::stalled() const {
  return connection_.stalled_;
}
std::function<void()> Exchange::waker() {
  return connection_.waker();
}
asio::awaitable<Wake> Exchange::wait(std::optional<base::Duration> at_most) {
  return connection_.wait(at_most);
}
asio::any_io_executor Exchange::executor() {
  return connection_.executor();
}

void Exchange::on_disconnect(std::function<void()> callback) {
  if (connection_.end_of_input_) {
    if (callback) callback();
    return;
  }
  connection_.on_disconnect_ = std::move(callback);
}

}  // namespace tidemill::wire
