#include "wire/http_client.hpp"

#include <cstdint>
#include <exception>
#include <fcntl.h>
#include <optional>
#include <unistd.h>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

namespace tidemill::wire {

namespace {

using base::ErrorCode;

PoolOptions pool_options(const HttpClientOptions& options) {
  PoolOptions pool;
  pool.max_connections = SIZE_MAX;
  pool.max_idle = options.max_idle;
  pool.max_header_bytes = options.max_header_bytes;
  pool.tls.ca = options.ca_file;
  pool.proxies = options.proxies;
  return pool;
}

}  // namespace

HttpClient::HttpClient(HttpClientOptions options) : options_(std::move(options)), pool_(pool_options(options_)) {}

asio::awaitable<base::Result<ClientStream>> HttpClient::open(ClientRequest request) {
  auto url = Url::parse(request.url);
  if (!url) co_return std::move(url).error();
  // The URL says who is asked.
  request.headers.remove("host");
  const OutgoingRequest outgoing{
      .to = &*url,
      .method = request.method,
      .target = {},
      .headers = &request.headers,
      .body = request.body,
      .repeatable = request.repeatable,
      .timeouts = {.connect = options_.connect_timeout,
                   .first_byte = options_.first_byte_timeout > base::Duration(0) ? options_.first_byte_timeout
                                                                                 : options_.idle_timeout,
                   .idle = options_.idle_timeout},
      .cancellation = request.cancellation};
  co_return co_await pool_.open(outgoing);
}

asio::awaitable<base::Result<HttpResponse>> HttpClient::send(ClientRequest request) {
  const size_t limit = options_.max_body_bytes;
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

// Runs a coroutine to its end on this thread. `cancellation` is called for once the descriptor `stop` is readable.
base::Result<HttpResponse> run_here(asio::awaitable<base::Result<HttpResponse>> work, int stop = -1,
                                    Cancellation* cancellation = nullptr) {
  asio::io_context context(1);
  asio::posix::stream_descriptor watched(context);
  if (stop >= 0) {
    boost::system::error_code fault;
    const int own = ::fcntl(stop, F_DUPFD_CLOEXEC, 0);
    if (own >= 0) watched.assign(own, fault);  // which closes it
    if (own < 0 || fault) {
      if (own >= 0) ::close(own);
      return base::Error(ErrorCode::io, "cannot watch the descriptor that ends a request");
    }
    watched.async_wait(asio::posix::stream_descriptor::wait_read, [cancellation](boost::system::error_code error) {
      if (!error) cancellation->cancel();
    });
  }
  std::optional<base::Result<HttpResponse>> outcome;
  const auto keep = [&](asio::awaitable<base::Result<HttpResponse>> inner) -> asio::awaitable<void> {
    outcome.emplace(co_await std::move(inner));
    context.stop();  // timers of ours may still be set
  };
  std::exception_ptr thrown;
  asio::co_spawn(context, keep(std::move(work)), [&thrown](std::exception_ptr error) { thrown = std::move(error); });
  context.run();
  if (thrown || !outcome) return base::Error(ErrorCode::internal, "the HTTP client ended by an exception");
  return *std::move(outcome);
}

asio::awaitable<base::Result<HttpResponse>> relay(HttpClient& client, ClientRequest request,
                                                  const HttpClient::Receiver& receiver) {
  auto stream = co_await client.open(std::move(request));
  if (!stream) co_return std::move(stream).error();
  if (receiver.on_head) {
    if (auto wanted = receiver.on_head(stream->head()); !wanted) co_return std::move(wanted).error();
  }
  while (true) {
    auto piece = co_await stream->read();
    if (!piece) co_return std::move(piece).error();
    if (!piece->has_value()) co_return stream->head();
    if (auto taken = receiver.on_chunk(**piece); !taken) co_return std::move(taken).error();
  }
}

}  // namespace

base::Result<HttpResponse> HttpClient::fetch(ClientRequest request) {
  return run_here(send(std::move(request)));
}

base::Result<HttpResponse> HttpClient::fetch(ClientRequest request, OnChunk on_chunk) {
  const Receiver receiver{.on_head = {}, .on_chunk = std::move(on_chunk), .stop = -1};
  return run_here(relay(*this, std::move(request), receiver));
}

base::Result<HttpResponse> HttpClient::fetch(ClientRequest request, const Receiver& receiver) {
  Cancellation cancellation;
  request.cancellation = &cancellation;
  return run_here(relay(*this, std::move(request), receiver), receiver.stop, &cancellation);
}

}  // namespace tidemill::wire
