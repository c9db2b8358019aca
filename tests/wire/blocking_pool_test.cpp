#include "wire/blocking_pool.hpp"

#include <new>
#include <optional>
#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "wire/server_fixture.hpp"

namespace tidemill::wire {
namespace {

TEST(BlockingPool, WorksElsewhereAndGoesOnHere) {
  asio::io_context io;
  BlockingPool pool(2, "closed");
  std::thread::id worked;
  std::thread::id resumed;
  base::Result<int> got = 0;
  const auto ask = [&]() -> asio::awaitable<void> {
    auto work = [&]() -> base::Result<int> {
      worked = std::this_thread::get_id();
      return 7;
    };
    got = co_await pool.run(work);
    resumed = std::this_thread::get_id();
  };
  asio::co_spawn(io, ask, asio::detached);
  io.run();
  EXPECT_EQ(got.value(), 7);
  EXPECT_NE(worked, std::this_thread::get_id());
  EXPECT_EQ(resumed, std::this_thread::get_id());
}

TEST(BlockingPool, ClosesWhenWhatRunsHasGoneOn) {
  asio::io_context io;
  BlockingPool pool(1, "closed for today");
  test::Flag begun;
  test::Flag may_end;
  bool went_on = false;
  const auto ask = [&]() -> asio::awaitable<void> {
    auto work = [&]() -> base::Result<void> {
      begun.set();
      may_end.wait();
      return {};
    };
    (void)co_await pool.run(work);
    went_on = true;
  };
  asio::co_spawn(io, ask, asio::detached);
  std::thread runs([&] { io.run(); });
  ASSERT_TRUE(begun.wait());
  std::thread closes([&] { pool.close(); });
  may_end.set();
  closes.join();
  runs.join();
  EXPECT_TRUE(went_on);
  std::optional<base::Result<int>> late;
  const auto ask_late = [&]() -> asio::awaitable<void> {
    auto work = []() -> base::Result<int> { return 1; };
    late = co_await pool.run(work);
  };
  io.restart();
  asio::co_spawn(io, ask_late, asio::detached);
  io.run();
  ASSERT_TRUE(late && !*late);
  EXPECT_EQ(late->error().code(), base::ErrorCode::unavailable);
  EXPECT_EQ(late->error().message(), "closed for today");
}

// What is done goes on at once, though other work waits for the thread, and even needs it to have gone on.
TEST(BlockingPool, HoldsNothingUpThatIsDone) {
  asio::io_context io;
  BlockingPool pool(1, "closed");
  test::Flag all_wait;
  test::Flag went_on;
  bool seen = false;
  const auto first = [&]() -> asio::awaitable<void> {
    auto work = [&]() -> base::Result<bool> { return all_wait.wait(); };
    (void)co_await pool.run(work);
    went_on.set();
  };
  const auto second = [&]() -> asio::awaitable<void> {
    auto work = [&]() -> base::Result<bool> { return went_on.wait(); };
    const auto waited = co_await pool.run(work);
    seen = waited && *waited;
  };
  const auto release = [&]() -> asio::awaitable<void> {
    all_wait.set();
    co_return;
  };
  asio::co_spawn(io, first, asio::detached);
  asio::co_spawn(io, second, asio::detached);
  asio::co_spawn(io, release, asio::detached);
  io.run();
  EXPECT_TRUE(seen);
}

TEST(BlockingPool, HandsOnWhatIsThrown) {
  asio::io_context io;
  BlockingPool pool(1, "closed");
  bool caught = false;
  const auto ask = [&]() -> asio::awaitable<void> {
    auto work = []() -> base::Result<int> { throw std::bad_alloc(); };
    try {
      (void)co_await pool.run(work);
    } catch (const std::bad_alloc&) {
      caught = true;
    }
  };
  asio::co_spawn(io, ask, asio::detached);
  io.run();
  EXPECT_TRUE(caught);
  pool.close();  // and does not wait for it
}

}  // namespace
}  // namespace tidemill::wire
