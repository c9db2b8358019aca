// What the hop through a gateway costs in wire alone: a stub that answers at once, a proxy that does nothing but relay
// (HttpServer in front, ClientPool behind), and a load that is paced rather than as fast as it can be. scripts/hop.sh
// runs them beside nginx, which the same load measures.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
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
  size_t prompt = 900;  // bytes
  std::string key = "sk-0123456789abcdef0123";
  int prompts = 1;     // different ones
  bool first = false;  // ask for streams, and measure to their first tokens
  // Of a stub that has a capacity.
  int slots = 0;
  double prefill = 1e6;   // bytes of a request's body a second
  double decode_ms = 40;  // from the first token to the last
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

wire::PoolOptions many_connections() {
  wire::PoolOptions options;
  options.max_connections = 100'000;
  options.max_idle = 100'000;
  return options;
}

// ---- the stub

// About a kilobyte, as much as the request has.
std::string completion() {
  return R"({"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"stub","choices":[{"index":0,)"
         R"("message":{"role":"assistant","content":")" +
         std::string(768, 'x') +
         R"("},"finish_reason":"stop"}],"usage":{"prompt_tokens":256,"completion_tokens":192,"total_tokens":448}})";
}

std::string chat_chunk(std::string_view content, std::string_view finish) {
  return wire::sse_event(fmt::format(R"({{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,)"
                                     R"("model":"stub","choices":[{{"index":0,"delta":{{"content":"{}"}},)"
                                     R"("finish_reason":{}}}]}})",
                                     content, finish));
}

// A stream as Tidemill's servers send it, with marks for a gateway that asks for them (gateway/sse_marks.hpp).
class ChatStream {
 public:
  explicit ChatStream(Exchange& exchange)
      : exchange_(exchange), marked_(exchange.request().headers.has("x-tidemill-resumable")) {}

  asio::awaitable<bool> begin() {
    wire::Headers headers{{"Content-Type", std::string(wire::sse_content_type)}};
    if (!co_await exchange_.begin_stream(200, headers)) co_return false;
    if (!marked_) co_return true;
    const bool told = (co_await exchange_.write(": tidemill {\"open\":{\"model\":\"stub\"}}\n\n")).has_value();
    co_return told;
  }
  asio::awaitable<bool> token(std::string_view content) {
    std::string event = chat_chunk(content, "null");
    if (marked_) event += ": tidemill {\"tokens\":[1000]}\n\n";
    const bool told = (co_await exchange_.write(event)).has_value();
    co_return told;
  }
  asio::awaitable<void> end() {
    std::string event = chat_chunk("", "\"stop\"") + wire::sse_event("[DONE]");
    if (marked_) event += ": tidemill {\"end\":true}\n\n";
    if (co_await exchange_.write(event)) (void)co_await exchange_.end();
  }

 private:
  Exchange& exchange_;
  bool marked_;
};

// Tokens that carry the time at which they were written, `count` of them (in the query), one every `us` microseconds.
asio::awaitable<void> tokens(Exchange& exchange, long count) {
  const auto interval =
      std::chrono::microseconds(std::stol(std::string(exchange.request().query_param("us").value_or("1000"))));
  ChatStream stream(exchange);
  if (!co_await stream.begin()) co_return;
  asio::steady_timer timer(exchange.executor());
  auto next = Clock::now();
  for (long i = 0; i < count; ++i) {
    next += interval;
    timer.expires_at(next);
    (void)co_await timer.async_wait(as_result);
    if (!co_await stream.token(std::to_string(now_ns()))) co_return;
  }
  co_await stream.end();
}

// One token, and then nothing until the client goes.
asio::awaitable<void> silence(Exchange& exchange) {
  ChatStream stream(exchange);
  if (!co_await stream.begin() || !co_await stream.token("open")) co_return;
  while (co_await exchange.wait() != wire::Wake::disconnected) {
  }
}

// What backends have: so many slots, each of which answers one request at a time; others wait in order.
class Capacity {
 public:
  explicit Capacity(const Settings& settings) : settings_(settings), free_(settings.slots) {}

  asio::awaitable<void> serve(Exchange& exchange) {
    asio::steady_timer turn(exchange.executor(), Clock::time_point::max());
    if (free_ == 0) {
      waiting_.push_back(&turn);
      (void)co_await turn.async_wait(as_result);  // whoever ends gives the slot on
    } else {
      --free_;
    }
    co_await answer(exchange);
    if (waiting_.empty()) {
      ++free_;
    } else {
      waiting_.front()->cancel();
      waiting_.pop_front();
    }
  }

 private:
  asio::awaitable<void> answer(Exchange& exchange) {
    const auto wait = [&exchange](double seconds) -> asio::awaitable<void> {
      asio::steady_timer timer(exchange.executor());
      timer.expires_after(std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
      (void)co_await timer.async_wait(as_result);
    };
    co_await wait(static_cast<double>(exchange.request().body.size()) / settings_.prefill);
    ChatStream stream(exchange);
    const bool begun = co_await stream.begin() && co_await stream.token("first");
    if (begun) co_await wait(settings_.decode_ms / 1e3);
    if (begun) co_await stream.end();
  }

  const Settings& settings_;
  int free_;
  std::deque<asio::steady_timer*> waiting_;
};

int stub(const Settings& settings) {
  wire::Router router;
  Capacity capacity(settings);
  const auto plain = [](std::string type, std::string body) {
    return [type, body](Exchange& exchange) -> asio::awaitable<void> {
      wire::HttpResponse response = wire::HttpResponse::text(200, body, type);
      (void)co_await exchange.respond(std::move(response));
    };
  };
  const auto chat = [&capacity, &settings, whole = plain("application/json", completion())](Exchange& exchange) {
    if (settings.slots > 0) return capacity.serve(exchange);
    if (const auto count = exchange.request().query_param("count")) {
      return tokens(exchange, std::stol(std::string(*count)));
    }
    if (exchange.request().query_param("silence")) return silence(exchange);
    const bool stream = exchange.request().body.find("\"stream\":true") != std::string::npos;
    return stream ? tokens(exchange, 16) : whole(exchange);
  };
  router.add("POST", "/v1/chat/completions", chat);
  // What a gateway looks at.
  router.add("GET", "/ready", plain("text/plain", "ready\n"));
  router.add("GET", "/metrics", plain("text/plain", "\n"));
  router.add("GET", "/v1/models", plain("application/json", R"({"object":"list","data":[{"id":"stub"}]})"));
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
  ClientPool pool(many_connections());
  wire::Router router;
  const auto handler = [&pool, url = *to](Exchange& exchange) { return relay(exchange, pool, url); };
  router.add("GET", "/*", handler);
  router.add("POST", "/*", handler);
  return serve(settings, std::move(router));
}

// ---- the load

std::string prompt(const std::string& beginning, size_t bytes, bool stream) {
  return fmt::format(R"({{"model":"stub","stream":{},"messages":[{{"role":"user","content":"{}{}"}}]}})", stream,
                     beginning, std::string(bytes, 'p'));
}

// A request to chat, as often as it is wanted.
struct Question {
  explicit Question(const Settings& settings, bool stream, const std::string& query = {},
                    const std::string& beginning = {})
      : to(*wire::Url::parse(settings.to + "/v1/chat/completions" + query)),
        headers{{"Content-Type", "application/json"},
                {"Authorization", "Bearer " + settings.key},
                {"User-Agent", "bench/1"},
                {"Accept", "*/*"}},
        body(prompt(beginning, settings.prompt, stream)) {
    request.to = &to;
    request.method = "POST";
    request.headers = &headers;
    request.body = body;
    request.timeouts.idle = std::chrono::hours(1);
  }
  Question(const Question&) = delete;
  Question& operator=(const Question&) = delete;

  const wire::Url to;
  const wire::Headers headers;
  const std::string body;
  wire::OutgoingRequest request;
};

struct Seen {
  std::vector<double> micros;  // of what was answered well
  uint64_t failures = 0;
  uint64_t refused = 0;  // 429 with the time after which to come again
  std::vector<double> refused_micros;
};

double percentile(std::vector<double>& sorted, double share) {
  std::sort(sorted.begin(), sorted.end());
  if (sorted.empty()) return 0;
  return sorted[std::min(sorted.size() - 1, static_cast<size_t>(share * static_cast<double>(sorted.size())))];
}

void print_seen(Seen& seen, double seconds) {
  const auto at = [&](double share) { return percentile(seen.micros, share); };
  fmt::print(
      "{} in {:.1f} s ({:.1f} a second), {} failed; microseconds: median {:.1f}, p90 {:.1f}, p99 {:.1f}, most {:.1f}",
      seen.micros.size(), seconds, static_cast<double>(seen.micros.size()) / seconds, seen.failures, at(0.5), at(0.9),
      at(0.99), at(1));
  if (seen.refused != 0) {
    fmt::print("; {} refused (429 with Retry-After), median {:.1f}, p99 {:.1f}", seen.refused,
               percentile(seen.refused_micros, 0.5), percentile(seen.refused_micros, 0.99));
  }
  fmt::print("\n");
}

// One request, and the time from when it was due to its last byte, or to its first (`to_first`).
asio::awaitable<void> ask(ClientPool& pool, const Question& question, Clock::time_point due, bool to_first,
                          Seen& seen) {
  const auto micros = [due] { return static_cast<double>((Clock::now() - due).count()) / 1e3; };
  auto stream = co_await pool.open(question.request);
  const bool refused = stream && stream->head().status == 429 && stream->head().headers.has("retry-after");
  bool good = stream && stream->head().status == 200;
  double took = 0;
  while (good || refused) {
    const auto piece = co_await stream->next();
    if (took == 0 || !to_first) took = micros();
    good = good && piece.has_value();
    if (!piece || piece->empty() || stream->complete()) break;
  }
  if (good) seen.micros.push_back(took);
  if (refused) seen.refused_micros.push_back(took);
  seen.refused += refused ? 1 : 0;
  seen.failures += good || refused ? 0 : 1;
}

// Requests at fixed times, whatever became of those before; their prompts take turns.
asio::awaitable<void> paced(ClientPool& pool, const Settings& settings, Clock::time_point end, Seen& seen, int& left) {
  std::deque<Question> questions;
  for (int i = 0; i < settings.prompts; ++i)
    questions.emplace_back(settings, settings.first, std::string(), std::to_string(i));
  size_t next = 0;
  const auto interval = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(1 / settings.rate));
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor);
  for (auto due = Clock::now(); due < end; due += interval) {
    timer.expires_at(due);
    if (due > Clock::now()) (void)co_await timer.async_wait(as_result);
    ++left;
    next = (next + 1) % questions.size();
    asio::co_spawn(executor, ask(pool, questions[next], due, settings.first, seen),
                   [&left](std::exception_ptr) { --left; });
  }
  while (left > 1) {
    timer.expires_after(std::chrono::milliseconds(1));
    (void)co_await timer.async_wait(as_result);
  }
}

// A stream whose tokens say when they were sent. The streams begin one after the other, so that their tokens do too.
asio::awaitable<void> listen(ClientPool& pool, const Settings& settings, int number, Seen& seen) {
  const double interval = 1e6 * settings.connections / settings.rate;
  asio::steady_timer timer(co_await asio::this_coro::executor);
  timer.expires_after(std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double, std::micro>(interval * number / settings.connections)));
  (void)co_await timer.async_wait(as_result);
  const auto count = static_cast<long>(settings.seconds * 1e6 / interval);
  const Question question(settings, true, fmt::format("?us={}&count={}", static_cast<long>(interval), count));
  auto stream = co_await pool.open(question.request);
  wire::SseParser parser;
  while (stream) {
    const auto piece = co_await stream->next();
    if (!piece) ++seen.failures;
    if (!piece || piece->empty()) co_return;
    const int64_t arrived = now_ns();
    const auto events = parser.feed(*piece);
    if (!events) co_return;
    for (const wire::SseEvent& event : *events) {
      static constexpr std::string_view before = "\"content\":\"";
      const size_t at = event.data.find(before);
      const char* const digits = event.data.c_str() + at + before.size();
      if (at == std::string::npos || *digits == '"') continue;
      seen.micros.push_back(static_cast<double>(arrived - std::strtoll(digits, nullptr, 10)) / 1e3);
    }
  }
  ++seen.failures;
}

int load(const Settings& settings) {
  asio::io_context io(1);
  ClientPool pool(many_connections());
  Seen seen;
  int left = settings.stream ? settings.connections : 1;
  const auto began = Clock::now();
  const auto end = began + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(settings.seconds));
  for (int i = left; i > 0; --i) {
    asio::co_spawn(io, settings.stream ? listen(pool, settings, i, seen) : paced(pool, settings, end, seen, left),
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
  ClientPool pool(many_connections());
  const Question question(settings, true, "?silence=1");
  int open = 0;
  int failed = 0;
  const auto one = [&]() -> asio::awaitable<void> {
    auto stream = co_await pool.open(question.request);
    const bool good = stream && stream->head().status == 200 && (co_await stream->next()).has_value();
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
  load_mode->add_flag("--first", settings.first, "send paced requests for streams, and measure to their first tokens");
  load_mode->add_option("--prompt", settings.prompt, "bytes of a prompt")->capture_default_str();
  load_mode->add_option("--prompts", settings.prompts, "different prompts, by turns")->capture_default_str();
  load_mode->add_option("--key", settings.key, "API key to send");
  stub_mode->add_option("--slots", settings.slots, "requests that are answered at one time; 0: all, at once");
  stub_mode->add_option("--prefill", settings.prefill, "bytes a second of a request, with slots")
      ->capture_default_str();
  stub_mode->add_option("--decode-ms", settings.decode_ms, "from the first token to the last, with slots")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (*stub_mode) return stub(settings);
  if (*proxy_mode) return proxy(settings);
  if (*load_mode) return load(settings);
  return hold(settings);
}
