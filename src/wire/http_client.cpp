#include "wire/http_client.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <limits>
#include <utility>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>

#include "base/log.hpp"

namespace tidemill::wire {

namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace ssl = boost::asio::ssl;
using asio::ip::tcp;
using base::ErrorCode;
using boost::system::error_code;

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);
constexpr size_t piece_size = size_t{16} << 10;

ErrorCode classify(const error_code& error) {
  if (error == beast::error::timeout) return ErrorCode::timeout;
  if (error == http::error::header_limit || error == http::error::body_limit) return ErrorCode::too_large;
  if (error == http::error::end_of_stream || error == http::error::partial_message) return ErrorCode::unavailable;
  if (error == http::error::unexpected_body ||
      error.category() == http::make_error_code(http::error::bad_value).category()) {
    return ErrorCode::corrupt;
  }
  return ErrorCode::unavailable;
}

base::Error failure(const Url& url, std::string_view doing, const error_code& error) {
  return base::Error(classify(error), fmt::format("{} {}: {}", doing, url.authority(), error.message()));
}

bool breaks_the_head(std::string_view text) {
  return text.find_first_of(std::string_view("\r\n\0", 3)) != text.npos;
}

base::Result<std::string> format_head(const Url& url, const ClientRequest& request) {
  std::string head = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", request.method, url.target, url.authority());
  if (request.method.empty() || request.method.find_first_of(" \r\n") != std::string::npos) {
    return base::Error(ErrorCode::invalid_argument, fmt::format("'{}' is not an HTTP method", request.method));
  }
  for (const auto& [name, value] : request.headers) {
    if (equal_ignoring_case(name, "host") || equal_ignoring_case(name, "content-length") ||
        equal_ignoring_case(name, "transfer-encoding") || equal_ignoring_case(name, "connection")) {
      continue;
    }
    if (name.empty() || breaks_the_head(name) || breaks_the_head(value)) {
      return base::Error(ErrorCode::invalid_argument, fmt::format("the header '{}' holds a line break", name));
    }
    head += fmt::format("{}: {}\r\n", name, value);
  }
  if (!request.body.empty() || (request.method != "GET" && request.method != "HEAD")) {
    head += fmt::format("Content-Length: {}\r\n", request.body.size());
  }
  head += "Connection: close\r\n\r\n";
  return head;
}

}  // namespace

struct HttpClient::Impl {
  explicit Impl(HttpClientOptions given) : options(std::move(given)), tls(ssl::context::tls_client) {
    error_code error;
    tls.set_options(ssl::context::default_workarounds | ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1, error);
    tls.set_verify_mode(ssl::verify_peer, error);
    if (options.ca_file.empty()) {
      tls.set_default_verify_paths(error);
    } else {
      tls.load_verify_file(options.ca_file, error);
    }
    // Without authorities no certificate can be verified: https calls will fail, and say so.
    if (error) base::log::warn("cannot load certificate authorities: {}", error.message());
  }

  HttpClientOptions options;
  ssl::context tls;
};

// A connection with one exchange on it.
struct ClientStream::Impl {
  Impl(const asio::any_io_executor& executor, std::shared_ptr<HttpClient::Impl> shared_client, Url to)
      : client(std::move(shared_client)), url(std::move(to)), stream(executor, client->tls) {}

  beast::tcp_stream& tcp_layer() { return stream.next_layer(); }
  // A deadline for each operation from now on; the stream fails them with beast::error::timeout.
  void allow(base::Duration limit) {
    tcp_layer().expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(limit));
  }
  // Calls `operation` with the layer that carries HTTP.
  template <typename Operation>
  auto on_stream(Operation operation) {
    return url.https ? operation(stream) : operation(stream.next_layer());
  }

  asio::awaitable<base::Result<void>> connect();
  asio::awaitable<error_code> write_all(std::string_view bytes);
  asio::awaitable<base::Result<void>> read_head(bool no_body);

  std::shared_ptr<HttpClient::Impl> client;  // keeps the TLS context alive
  Url url;
  beast::ssl_stream<beast::tcp_stream> stream;  // for plain http only its lower layer is used
  beast::flat_buffer buffer;
  std::optional<http::response_parser<http::buffer_body>> parser;
  HttpResponse head;
  std::array<char, piece_size> piece;
};

asio::awaitable<base::Result<void>> ClientStream::Impl::connect() {
  const auto executor = stream.get_executor();
  std::vector<tcp::endpoint> endpoints;
  error_code error;
  const auto address = asio::ip::make_address(url.host, error);
  if (!error) {
    endpoints.emplace_back(address, url.port);
  } else {
    tcp::resolver resolver(executor);
    auto [resolve_error, found] = co_await resolver.async_resolve(url.host, std::to_string(url.port), as_result);
    if (resolve_error) co_return failure(url, "cannot resolve", resolve_error);
    for (const auto& entry : found)
      endpoints.push_back(entry.endpoint());
  }
  allow(client->options.connect_timeout);
  auto [connect_error, endpoint] = co_await tcp_layer().async_connect(endpoints, as_result);
  if (connect_error) co_return failure(url, "cannot connect to", connect_error);
  tcp_layer().socket().set_option(tcp::no_delay(true), error);
  if (!url.https) co_return base::Result<void>();

  stream.set_verify_callback(ssl::host_name_verification(url.host), error);
  const bool is_name = asio::ip::make_address(url.host, error).is_unspecified() && error;
  if (is_name && SSL_set_tlsext_host_name(stream.native_handle(), url.host.c_str()) != 1) {
    co_return base::Error(ErrorCode::invalid_argument, fmt::format("'{}' cannot be a TLS server name", url.host));
  }
  const auto [tls_error] = co_await stream.async_handshake(ssl::stream_base::client, as_result);
  if (tls_error) co_return failure(url, "no trusted TLS connection to", tls_error);
  co_return base::Result<void>();
}

asio::awaitable<error_code> ClientStream::Impl::write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    allow(client->options.idle_timeout);
    const auto [error, written] = co_await on_stream(
        [&](auto& layer) { return layer.async_write_some(asio::buffer(bytes.data(), bytes.size()), as_result); });
    if (error) co_return error;
    bytes.remove_prefix(written);
  }
  co_return error_code();
}

asio::awaitable<base::Result<void>> ClientStream::Impl::read_head(bool no_body) {
  do {
    parser.emplace();
    parser->header_limit(static_cast<std::uint32_t>(std::min(client->options.max_header_bytes, size_t{1} << 30)));
    parser->body_limit(boost::none);
    parser->skip(no_body);
    allow(client->options.idle_timeout);
    const auto [error, count] =
        co_await on_stream([&](auto& layer) { return http::async_read_header(layer, buffer, *parser, as_result); });
    if (error) co_return failure(url, "no answer from", error);
  } while (parser->get().result_int() / 100 == 1);  // interim answers, such as 103
  head.status = static_cast<int>(parser->get().result_int());
  for (const auto& field : parser->get()) {
    const auto name = field.name_string();
    const auto value = field.value();
    head.headers.add(std::string(name.data(), name.size()), std::string(value.data(), value.size()));
  }
  co_return base::Result<void>();
}

ClientStream::ClientStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ClientStream::ClientStream(ClientStream&&) noexcept = default;
ClientStream& ClientStream::operator=(ClientStream&&) noexcept = default;
ClientStream::~ClientStream() = default;

const HttpResponse& ClientStream::head() const {
  return impl_->head;
}

asio::awaitable<base::Result<std::optional<std::string>>> ClientStream::read() {
  auto& parser = *impl_->parser;
  auto& body = parser.get().body();
  while (!parser.is_done()) {
    body.data = impl_->piece.data();
    body.size = impl_->piece.size();
    impl_->allow(impl_->client->options.idle_timeout);
    auto [error, count] = co_await impl_->on_stream(
        [&](auto& layer) { return http::async_read_some(layer, impl_->buffer, parser, as_result); });
    if (error == http::error::need_buffer) error = {};
    const size_t got = impl_->piece.size() - body.size;
    // What came before an error is handed out first; the error comes again with the next call.
    if (got != 0) co_return std::optional<std::string>(std::string(impl_->piece.data(), got));
    if (error) co_return failure(impl_->url, "the answer breaks off from", error);
  }
  co_return std::optional<std::string>();
}

HttpClient::HttpClient(HttpClientOptions options) : impl_(std::make_shared<Impl>(std::move(options))) {}
HttpClient::~HttpClient() = default;

asio::awaitable<base::Result<ClientStream>> HttpClient::open(ClientRequest request) {
  auto url = Url::parse(request.url);
  if (!url) co_return std::move(url).error();
  auto head = format_head(*url, request);
  if (!head) co_return std::move(head).error();
  const auto executor = co_await asio::this_coro::executor;
  auto stream = std::make_unique<ClientStream::Impl>(executor, impl_, *std::move(url));
  if (auto connected = co_await stream->connect(); !connected) co_return std::move(connected).error();
  error_code sent = co_await stream->write_all(*head);
  if (!sent) sent = co_await stream->write_all(request.body);
  // A server may refuse a body before it has read it all, so a failed write does not mean that there is no answer.
  if (auto read = co_await stream->read_head(request.method == "HEAD"); !read) {
    if (sent) co_return failure(stream->url, "cannot send the request to", sent);
    co_return std::move(read).error();
  }
  co_return ClientStream(std::move(stream));
}

asio::awaitable<base::Result<HttpResponse>> HttpClient::send(ClientRequest request) {
  const size_t limit = impl_->options.max_body_bytes;
  auto stream = co_await open(std::move(request));
  if (!stream) co_return std::move(stream).error();
  HttpResponse response = stream->head();
  while (true) {
    auto piece = co_await stream->read();
    if (!piece) co_return std::move(piece).error();
    if (!piece->has_value()) co_return response;
    if (response.body.size() + (*piece)->size() > limit) {
      co_return base::Error(ErrorCode::too_large,
                            fmt::format("the answer is larger than the limit of {} bytes", limit));
    }
    response.body += **piece;
  }
}

namespace {

// Runs a coroutine to its end on this thread.
base::Result<HttpResponse> run_here(asio::awaitable<base::Result<HttpResponse>> work) {
  asio::io_context context(1);
  std::optional<base::Result<HttpResponse>> outcome;
  const auto keep = [&outcome](asio::awaitable<base::Result<HttpResponse>> inner) -> asio::awaitable<void> {
    outcome.emplace(co_await std::move(inner));
  };
  std::exception_ptr thrown;
  asio::co_spawn(context, keep(std::move(work)), [&thrown](std::exception_ptr error) { thrown = std::move(error); });
  context.run();
  if (thrown || !outcome) return base::Error(ErrorCode::internal, "the HTTP client ended by an exception");
  return *std::move(outcome);
}

asio::awaitable<base::Result<HttpResponse>> relay(HttpClient& client, ClientRequest request,
                                                  HttpClient::OnChunk& on_chunk) {
  auto stream = co_await client.open(std::move(request));
  if (!stream) co_return std::move(stream).error();
  while (true) {
    auto piece = co_await stream->read();
    if (!piece) co_return std::move(piece).error();
    if (!piece->has_value()) co_return stream->head();
    if (auto taken = on_chunk(**piece); !taken) co_return std::move(taken).error();
  }
}

}  // namespace

base::Result<HttpResponse> HttpClient::fetch(ClientRequest request) {
  return run_here(send(std::move(request)));
}

base::Result<HttpResponse> HttpClient::fetch(ClientRequest request, OnChunk on_chunk) {
  return run_here(relay(*this, std::move(request), on_chunk));
}

}  // namespace tidemill::wire
