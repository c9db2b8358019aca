// What the hop through a gateway costs in wire alone: a stub that answers at once, a proxy that does nothing but relay
// (HttpServer in front, ClientPool behind), and a load that is paced rather than as fast as it can be. scripts/hop.sh
// runs them beside nginx, which the same load measures.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <thread>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "wire/client_pool.hpp"
#include "wire/http_server.hpp"
#include "wire/sse.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;
using wire::ClientPool;
using wire::Exchange;

namespace {

constexpr auto as_result = asio::as_tuple(asio::use_awaitable);

int64_t now_ns() {
  return Clock::now().time_since_epoch().count();
}

struct Settings {
  uint16_t port = 0;
  std::string to;
  int threads = 1;
  double seconds = 5;
  // Of the load.
  int connections = 8;
  double rate = 5000;  // requests or tokens a second, all connections together
  bool stream = false;
};

// Until SIGINT or SIGTERM.
void wait_for_end() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  int number = 0;
  sigwait(&signals, &number);
}

void block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

int serve(const Settings& settings, wire::Router router) {
  wire::HttpServerOptions options;
  options.port = settings.port;
  options.io_threads = settings.threads;
  options.max_connections = 100'000;
  auto server = wire::HttpServer::start(options, std::move(router));
  if (!server) {
    fmt::print(stderr, "bench_proxy: {}\n", server.error().to_string());
    return 1;
  }
  fmt::print("{}\n", (*server)->url());
  std::fflush(stdout);
  wait_for_end();
  (*server)->stop(base::Duration(0));
  return 0;
}

// ---- the stub

// An answer of the size of a short completion.
std::string completion() {
  return R"({"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"stub","choices":[{"index":0,)"
         R"("message":{"role":"assistant","content":")" +
         std::string(256, 'x') +
         R"("},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":64,"total_tokens":74}})";
}

// Tokens that carry the time at which they were written, one every `interval` (in the query, microseconds), `count` of
// them; then it stays open until the client goes.
asio::awaitable<void> tokens(Exchange& exchange) {
  const auto interval =
      std::chrono::microseconds(std::stol(std::string(exchange.request().query_param("us").value_or("1000"))));
  const long count = std::stol(std::string(exchange.request().query_param("count").value_or("10")));
  wire::Headers headers{{"Content-Type", std::string(wire::sse_content_type)}};
  if (!co_await exchange.begin_stream(200, headers)) co_return;
  asio::steady_timer timer(exchange.executor());
  auto next = Clock::now();
  for (long i = 0; i < count; ++i) {
    next += interval;
    timer.expires_at(next);
    (void)co_await timer.async_wait(as_result);
    const std::string event = wire::sse_event(std::to_string(now_ns()));
    if (!co_await exchange.write(event)) co_return;
  }
  (void)co_await exchange.end();
}

asio::awaitable<void> silence(Exchange& exchange) {
  wire::Headers headers{{"Content-Type", std::string(wire::sse_content_type)}};
  if (!co_await exchange.begin_stream(200, headers)) co_return;
  const std::string event = wire::sse_event("open");
  if (!co_await exchange.write(event)) co_return;
  while (co_await exchange.wait() != wire::Wake::disconnected) {
  }
}

int stub(const Settings& settings) {
  wire::Router router;
  const auto answer = [body = completion()](Exchange& exchange) -> asio::awaitable<void> {
    wire::HttpResponse response = wire::HttpResponse::json(200, body);
    (void)co_await exchange.respond(std::move(response));
  };
  router.add("POST", "/v1/chat/completions", answer);
  router.add("GET", "/tokens", tokens);
  router.add("GET", "/silence", silence);
  return serve(settings, std::move(router));
}

// ---- the proxy

bool is_of_one_hop(std::string_view name) {
  for (const std::string_view one : {"connection", "keep-alive", "transfer-encoding", "content-length", "date"}) {
    if (wire::equal_ignoring_case(name, one)) return true;
  }
  return false;
}

asio::awaitable<void> relay(Exchange& exchange, ClientPool& pool, const wire::Url& to) {
  wire::HttpRequest& request = exchange.request();
  wire::Cancellation cancellation;
  exchange.on_disconnect([&cancellation] { cancellation.cancel(); });
  wire::OutgoingRequest outgoing;
  outgoing.to = &to;
  outgoing.method = request.method;
  outgoing.target = request.target;
  outgoing.headers = &request.headers;
  outgoing.body = request.body;
  outgoing.repeatable = true;
  outgoing.cancellation = &cancellation;
  auto stream = co_await pool.open(outgoing);
  if (!stream) {
    wire::HttpResponse response = wire::HttpResponse::text(502, stream.error().to_string() + "\n");
    (void)co_await exchange.respond(std::move(response));
    co_return;
  }
  wire::HttpResponse response;
  response.status = stream->head().status;
  for (const auto& [name, value] : stream->head().headers) {
    if (!is_of_one_hop(name)) response.headers.add(name, value);
  }
  const bool whole = stream->head().headers.has("content-length");
  if (!whole && !co_await exchange.begin_stream(response.status, std::move(response.headers))) co_return;
  while (true) {
    const auto piece = co_await stream->next();
    if (!piece) co_return;  // cuts the answer off
    if (piece->empty()) break;
    if (whole) {
      response.body += *piece;
    } else if (!co_await exchange.write(*piece)) {
      co_return;
    }
    if (stream->complete()) break;
  }
  if (whole) {
    (void)co_await exchange.respond(std::move(response));
  } else {
    (void)co_await exchange.end();
  }
}

int proxy(const Settings& settings) {
  const auto to = wire::Url::parse(settings.to);
  if (!to) {
    fmt::print(stderr, "bench_proxy: {}\n", to.error().to_string());
    return 1;
  }
  wire::PoolOptions options;
  options.max_connections = 100'000;
  ClientPool pool(options);
  wire::Router router;
  const auto handler = [&pool, url = *to](Exchange& exchange) { return relay(exchange, pool, url); };
  router.add("GET", "/*", handler);
  router.add("POST", "/*", handler);
  return serve(settings, std::move(router));
}

// ---- the load

struct Seen {
  std::vector<double> micros;
  uint64_t failures = 0;
};

void print_seen(Seen& seen, double seconds) {
  std::sort(seen.micros.begin(), seen.micros.end());
  const auto at = [&](double share) {
    if (seen.micros.empty()) return 0.0;
    return seen
        .micros[std::min(seen.micros.size() - 1, static_cast<size_t>(share * static_cast<double>(seen.micros.size())))];
  };
  fmt::print("{} in {:.1f} s, {} failed; microseconds: median {:.1f}, p90 {:.1f}, p99 {:.1f}, most {:.1f}\n",
             seen.micros.size(), seconds, seen.failures, at(0.5), at(0.9), at(0.99), at(1));
}

std::string prompt() {
  return R"({"model":"stub","messages":[{"role":"user","content":")" + std::string(512, 'p') + R"("}]})";
}

// Requests at fixed times; the time of each counts from when it was due.
asio::awaitable<void> paced(ClientPool& pool, const Settings& settings, Clock::time_point first, Clock::time_point end,
                            Seen& seen) {
  const auto interval =
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(settings.connections / settings.rate));
  const wire::Url to = *wire::Url::parse(settings.to);
  const std::string body = prompt();
  const wire::Headers headers{{"Content-Type", "application/json"},
                              {"Authorization", "Bearer sk-0123456789abcdef0123"},
                              {"User-Agent", "bench/1"},
                              {"Accept", "*/*"}};
  wire::OutgoingRequest request;
  request.to = &to;
  request.method = "POST";
  request.headers = &headers;
  request.body = body;
  asio::steady_timer timer(co_await asio::this_coro::executor);
  for (auto due = first; due < end; due += interval) {
    timer.expires_at(due);
    if (due > Clock::now()) (void)co_await timer.async_wait(as_result);
    auto stream = co_await pool.open(request);
    bool good = stream && stream->head().status == 200;
    while (good) {
      const auto piece = co_await stream->next();
      good = piece.has_value();
      if (!piece || piece->empty() || stream->complete()) break;
    }
    seen.failures += good ? 0 : 1;
    seen.micros.push_back(static_cast<double>((Clock::now() - due).count()) / 1e3);
  }
}

// Streams whose tokens say when they were sent.
asio::awaitable<void> listen(ClientPool& pool, const Settings& settings, Seen& seen) {
  const double interval = 1e6 * settings.connections / settings.rate;
  const auto count = static_cast<long>(settings.seconds * 1e6 / interval);
  const wire::Url to =
      *wire::Url::parse(fmt::format("{}?us={}&count={}", settings.to, static_cast<long>(interval), count));
  wire::OutgoingRequest request;
  request.to = &to;
  auto stream = co_await pool.open(request);
  wire::SseParser parser;
  while (stream) {
    const auto piece = co_await stream->next();
    if (!piece) ++seen.failures;
    if (!piece || piece->empty()) co_return;
    const int64_t arrived = now_ns();
    const auto events = parser.feed(*piece);
    if (!events) co_return;
    for (const wire::SseEvent& event : *events)
      seen.micros.push_back(static_cast<double>(arrived - std::stoll(event.data)) / 1e3);
  }
  ++seen.failures;
}

int load(const Settings& settings) {
  asio::io_context io(1);
  wire::PoolOptions options;
  options.max_connections = 100'000;
  ClientPool pool(options);
  Seen seen;
  int left = settings.connections;
  const auto began = Clock::now();
  const auto end = began + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(settings.seconds));
  for (int i = 0; i < settings.connections; ++i) {
    const auto first = began + std::chrono::nanoseconds(static_cast<int64_t>(1e9 * i / settings.rate));
    asio::co_spawn(io, settings.stream ? listen(pool, settings, seen) : paced(pool, settings, first, end, seen),
                   [&](std::exception_ptr) {
                     if (--left == 0) io.stop();
                   });
  }
  io.run();
  print_seen(seen, std::chrono::duration<double>(Clock::now() - began).count());
  return seen.failures == 0 ? 0 : 1;
}

// Opens so many streams that say nothing, waits for a first event on each, says so, and holds them until it is told to
// end.
int hold(const Settings& settings) {
  asio::io_context io(1);
  wire::PoolOptions options;
  options.max_connections = 100'000;
  ClientPool pool(options);
  const wire::Url to = *wire::Url::parse(settings.to);
  wire::OutgoingRequest request;
  request.to = &to;
  request.timeouts.idle = std::chrono::hours(1);
  int open = 0;
  int failed = 0;
  const auto one = [&]() -> asio::awaitable<void> {
    auto stream = co_await pool.open(request);
    const bool good = stream && (co_await stream->next()).has_value();
    ++(good ? open : failed);
    if (open + failed == settings.connections) {
      fmt::print("{} streams open, {} failed\n", open, failed);
      std::fflush(stdout);
    }
    if (good) (void)co_await stream->next();
  };
  // Some hundred at a time: a backlog of thousands would be refused.
  const auto opener = [&]() -> asio::awaitable<void> {
    asio::steady_timer timer(io);
    for (int i = 0; i < settings.connections; ++i) {
      asio::co_spawn(io, one(), [](std::exception_ptr) {});
      while (i - open - failed > 200) {
        timer.expires_after(std::chrono::milliseconds(1));
        (void)co_await timer.async_wait(as_result);
      }
    }
  };
  asio::co_spawn(io, opener(), [](std::exception_ptr) {});
  std::thread ender([&io] {
    wait_for_end();
    io.stop();
  });
  io.run();
  ender.join();
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  block_signals();
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);

  CLI::App app("The hop through a proxy, measured: stub, proxy and load");
  Settings settings;
  app.require_subcommand(1);
  auto* stub_mode = app.add_subcommand("stub", "Answer at once");
  auto* proxy_mode = app.add_subcommand("proxy", "Relay everything to --to");
  auto* load_mode = app.add_subcommand("load", "Send paced requests to --to, or listen to streams of tokens");
  auto* hold_mode = app.add_subcommand("hold", "Hold many silent streams of --to open");
  for (auto* mode : {stub_mode, proxy_mode}) {
    mode->add_option("--port", settings.port, "where to listen (0: any)");
    mode->add_option("--threads", settings.threads, "threads for connections")->capture_default_str();
  }
  for (auto* mode : {proxy_mode, load_mode, hold_mode})
    mode->add_option("--to", settings.to, "URL")->required();
  for (auto* mode : {load_mode, hold_mode})
    mode->add_option("--connections", settings.connections, "connections or streams")->capture_default_str();
  load_mode->add_option("--rate", settings.rate, "requests or tokens a second in all")->capture_default_str();
  load_mode->add_option("--seconds", settings.seconds, "how long")->capture_default_str();
  load_mode->add_flag("--stream", settings.stream, "listen to tokens, and measure each from when it was sent");
  CLI11_PARSE(app, argc, argv);
  if (*stub_mode) return stub(settings);
  if (*proxy_mode) return proxy(settings);
  if (*load_mode) return load(settings);
  return hold(settings);
}
