// Starting, draining, stopping, and running out of connections or file descriptors.
#include <algorithm>
#include <atomic>
#include <sys/resource.h>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <gtest/gtest.h>

#include "wire/server_fixture.hpp"

namespace tidemill::test {
namespace {

using LifecycleTest = ServerTest;

constexpr std::string_view get_when_told = "GET /when-told HTTP/1.1\r\nHost: h\r\n\r\n";

TEST_F(LifecycleTest, AddressesThatCannotBeUsed) {
  start();
  EXPECT_NE(server_->port(), 0);
  EXPECT_EQ(server_->url(), "http://127.0.0.1:" + std::to_string(server_->port()));
  wire::HttpServerOptions taken;
  taken.port = server_->port();
  const auto second = wire::HttpServer::start(taken, wire::Router());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), base::ErrorCode::unavailable);
  EXPECT_NE(second.error().message().find(std::to_string(taken.port)), std::string::npos);
  wire::HttpServerOptions nonsense;
  nonsense.address = "not an address";
  EXPECT_EQ(wire::HttpServer::start(nonsense, wire::Router()).error().code(), base::ErrorCode::invalid_argument);
  wire::HttpServerOptions elsewhere;
  elsewhere.address = "192.0.2.1";  // TEST-NET-1: no machine's own
  EXPECT_FALSE(wire::HttpServer::start(elsewhere, wire::Router()));
}

TEST_F(LifecycleTest, DrainClosesIdleConnectionsAndFinishesWhatRuns) {
  start();
  RawClient idle = connect();
  ASSERT_TRUE(idle.send(get_hello));
  ASSERT_TRUE(idle.read_answer().ends_with("hello"));
  RawClient silent = connect();
  wait_for_connections(2);
  RawClient busy = connect();
  ASSERT_TRUE(busy.send(get_when_told));
  const auto wake = waker_.get();

  server_->drain();
  server_->drain();
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_EQ(silent.read_all(), "");
  wait_for_connections(1);
  EXPECT_FALSE(client_gone_.is_set());
  wake();
  const std::string answer = busy.read_all();
  EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos);
  EXPECT_TRUE(answer.ends_with("\r\n\r\nwoken"));
  busy.close();
  EXPECT_TRUE(server_->stop(patience));
  EXPECT_FALSE(RawClient(server_->port()).connected());
}

TEST_F(LifecycleTest, AHurryEndsWhatHasNotComeWhole) {
  options_.header_timeout = options_.body_timeout = std::chrono::hours(1);
  start();
  RawClient head = connect();
  ASSERT_TRUE(head.send("POST /echo HTTP/1.1\r\nHost: h\r\n"));
  RawClient body = connect();
  ASSERT_TRUE(body.send("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
  ASSERT_NE(body.read_through("\r\n\r\n").find(" 100 "), std::string::npos);
  ASSERT_TRUE(body.send("ab"));
  RawClient busy = connect();
  ASSERT_TRUE(busy.send(get_when_told));
  const auto wake = waker_.get();
  wait_for_connections(3);

  server_->hurry();
  for (RawClient* half : {&head, &body}) {
    const std::string answer = half->read_all();
    if (half == &head && answer.empty()) continue;  // what it has sent had not arrived
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 503 ")) << answer;
  }
  wait_for_connections(1);
  EXPECT_FALSE(client_gone_.is_set()) << "a request that has come goes on";
  wake();
  EXPECT_TRUE(busy.read_all().ends_with("woken"));
  busy.close();
  EXPECT_FALSE(server_->stop(patience)) << "requests were cut";
}

TEST_F(LifecycleTest, StopCutsWhatDoesNotEnd) {
  start();
  RawClient busy = connect();
  ASSERT_TRUE(busy.send(get_when_told));
  (void)waker_.get();
  EXPECT_FALSE(server_->stop(std::chrono::milliseconds(20)));
  EXPECT_TRUE(client_gone_.is_set());
  busy.read_all();
  EXPECT_TRUE(busy.was_reset());
  EXPECT_TRUE(server_->stop(base::Duration(0)));  // again: nothing to do
}

TEST_F(LifecycleTest, HandlersThatNeverReturnDoNotHoldUpTheEnd) {
  struct Witness {
    Flag* gone;
    ~Witness() { gone->set(); }
  };
  Flag entered;
  Flag destroyed;
  router_.add("GET", "/stuck", [&](Exchange& exchange) -> awaitable<void> {
    const Witness witness{&destroyed};
    entered.set();
    boost::asio::steady_timer never(exchange.executor(), std::chrono::steady_clock::time_point::max());
    co_await never.async_wait(boost::asio::use_awaitable);
  });
  start();
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /stuck HTTP/1.1\r\nHost: h\r\n\r\n"));
  ASSERT_TRUE(entered.wait());
  EXPECT_FALSE(server_->stop(base::Duration(0)));
  EXPECT_TRUE(destroyed.is_set());
}

TEST_F(LifecycleTest, WakersOutliveTheServer) {
  start();
  RawClient busy = connect();
  ASSERT_TRUE(busy.send(get_when_told));
  const auto wake = waker_.get();
  server_.reset();
  wake();
}

// Whatever of a handler has not returned is destroyed with its event loop, which takes no lock any more: nobody may
// post to it then. ThreadSanitizer sees who does, since nothing here but the server's own locks orders the two threads.
TEST_F(LifecycleTest, WakersMayBeCalledWhileTheServerEnds) {
  constexpr auto relaxed = std::memory_order_relaxed;
  std::atomic<bool> ends = false;
  std::atomic<bool> called = false;
  struct WithTheHandler {
    std::atomic<bool>& ends;
    std::atomic<bool>& called;
    ~WithTheHandler() {
      ends.store(true, relaxed);
      while (!called.load(relaxed))
        std::this_thread::yield();
    }
  };
  router_.add("GET", "/stuck", [&](Exchange& exchange) -> awaitable<void> {
    namespace asio = boost::asio;
    const WithTheHandler last{ends, called};
    waker_.publish(exchange.waker());
    const auto executor = exchange.executor();
    const auto& context = static_cast<asio::io_context&>(asio::query(executor, asio::execution::context));
    while (!context.stopped())
      std::this_thread::yield();
    co_await asio::post(executor, asio::use_awaitable);  // never: it is destroyed with the loop's queue
  });
  options_.io_threads = 2;
  start();
  const RawClient other = connect();  // the other thread's, which accepts
  wait_for_connections(1);
  RawClient client = connect();
  ASSERT_TRUE(client.send("GET /stuck HTTP/1.1\r\nHost: h\r\n\r\n"));
  std::thread caller([&, wake = waker_.get()] {
    while (!ends.load(relaxed))
      std::this_thread::yield();
    wake();
    called.store(true, relaxed);
  });
  EXPECT_FALSE(server_->stop(base::Duration(0)));
  caller.join();
}

TEST_F(LifecycleTest, ConnectionsOverTheLimitAreTold503) {
  options_.max_connections = 2;
  start();
  RawClient first = connect();
  RawClient second = connect();
  wait_for_connections(2);
  RawClient third = connect();
  third.send(get_hello);
  const std::string answer = third.read_all();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n")) << answer;
  EXPECT_NE(answer.find("Retry-After: 1\r\n"), std::string::npos);
  third.close();
  first.close();
  wait_for_connections(1);
  RawClient fourth = connect();
  ASSERT_TRUE(fourth.send(get_hello));
  EXPECT_TRUE(fourth.read_answer().ends_with("hello"));
}

TEST_F(LifecycleTest, AThousandIdleConnections) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  rlimit wider = limit;
  wider.rlim_cur = std::min<rlim_t>(limit.rlim_max, 4096);
  ::setrlimit(RLIMIT_NOFILE, &wider);
  if (wider.rlim_cur < 2200) GTEST_SKIP() << "needs 2,200 file descriptors";
  start();
  std::vector<RawClient> idle;
  for (int i = 0; i < 1000; ++i) {
    idle.push_back(connect());
    ASSERT_TRUE(idle.back().connected());
  }
  wait_for_connections(1000);
  for (const size_t i : {size_t{0}, size_t{500}, size_t{999}}) {
    ASSERT_TRUE(idle[i].send(get_hello));
    EXPECT_TRUE(idle[i].read_answer().ends_with("hello"));
  }
  server_->drain();
  wait_for_connections(0);
  EXPECT_TRUE(server_->stop(patience));
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

TEST_F(LifecycleTest, OutOfFileDescriptors) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "UndefinedBehaviorSanitizer makes a pipe to see whether an object can be read, and takes it for "
                  "damaged where there is no descriptor left";
#endif
  // accept() reserves a descriptor before it looks whether anyone waits, so the count below holds only while the server
  // does not try. With one thread an answer to `before`, asked for once `waiting` was let in, shows that it is done
  // trying.
  options_.io_threads = 1;
  start();
  RawClient before = connect();
  wait_for_connections(1);
  // A client whose connection the kernel completes but for which the server has no descriptor left.
  RawClient waiting = connect();
  wait_for_connections(2);
  ASSERT_TRUE(before.send(get_hello));
  ASSERT_TRUE(before.read_answer().ends_with("hello"));
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const int lowest_free = ::dup(0);
  ASSERT_GE(lowest_free, 0);
  ::close(lowest_free);
  rlimit narrow = limit;
  narrow.rlim_cur = static_cast<rlim_t>(lowest_free) + 1;  // one more descriptor: the client's own
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &narrow), 0);
  RawClient starved = connect();
  EXPECT_TRUE(starved.connected());
  ASSERT_TRUE(starved.send(get_hello));
  // Those that are connected are served meanwhile.
  ASSERT_TRUE(before.send(get_hello));
  EXPECT_TRUE(before.read_answer().ends_with("hello"));
  EXPECT_EQ(server_->connections(), 2U);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_TRUE(starved.read_answer().ends_with("hello"));
}

}  // namespace
}  // namespace tidemill::test
