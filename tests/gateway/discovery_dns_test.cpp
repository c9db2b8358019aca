#include "gateway/discovery_dns.hpp"

#include <algorithm>
#include <deque>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <gtest/gtest.h>

namespace tidemill::gateway {
namespace {

using base::Error;
using base::ErrorCode;
using Addresses = std::vector<std::string>;

// Plays the answers of a resolver, one look after the other, without any waiting; then cancels.
std::vector<std::string> play(std::deque<base::Result<Addresses>> answers,
                              std::vector<base::Duration>* pauses = nullptr) {
  asio::io_context io;
  asio::cancellation_signal cancel;
  std::vector<std::string> told;
  Resolve resolve = [&](std::string host) -> asio::awaitable<base::Result<Addresses>> {
    EXPECT_EQ(host, "models.example");
    base::Result<Addresses> next = std::move(answers.front());
    answers.pop_front();
    co_return next;
  };
  Sleep sleep = [&](base::Duration time) -> asio::awaitable<void> {
    if (pauses != nullptr) pauses->push_back(time);
    co_await asio::post(io, asio::use_awaitable);  // as a timer would, it lets others run
    if (answers.empty()) cancel.emit(asio::cancellation_type::terminal);
  };
  OnEndpoints on_endpoints = [&](std::vector<route::Endpoint> endpoints) {
    std::string all;
    for (const route::Endpoint& endpoint : endpoints)
      all += endpoint.address + " ";
    told.push_back(all);
  };
  asio::co_spawn(io, watch_dns({.host = "models.example", .port = 8000}, resolve, sleep, on_endpoints),
                 asio::bind_cancellation_slot(cancel.slot(), asio::detached));
  io.run();
  EXPECT_TRUE(answers.empty());
  return told;
}

TEST(WatchDns, TellsWhatChanges) {
  std::vector<base::Duration> pauses;
  EXPECT_EQ(play({Addresses{"10.0.0.2", "10.0.0.1"}, Addresses{"10.0.0.1", "10.0.0.2", "10.0.0.1"},
                  Addresses{"10.0.0.2", "fd00::1"}, Addresses{"10.0.0.2", "fd00::1"}},
                 &pauses),
            (std::vector<std::string>{"10.0.0.1:8000 10.0.0.2:8000 ", "10.0.0.2:8000 [fd00::1]:8000 "}));
  EXPECT_EQ(pauses, std::vector<base::Duration>(4, std::chrono::seconds(10)));
}

TEST(WatchDns, KeepsWhatIsKnownWhileTheResolverIsAway) {
  EXPECT_EQ(play({Addresses{"10.0.0.1"}, Error(ErrorCode::unavailable, "no answer"),
                  Error(ErrorCode::unavailable, "no answer"), Addresses{"10.0.0.1"}, Addresses{"10.0.0.3"}}),
            (std::vector<std::string>{"10.0.0.1:8000 ", "10.0.0.3:8000 "}));
}

TEST(WatchDns, ANameThatIsGoneHasNoBackends) {
  EXPECT_EQ(play({Error(ErrorCode::not_found, "no such name"), Addresses{"10.0.0.1"},
                  Error(ErrorCode::not_found, "no such name")}),
            (std::vector<std::string>{"", "10.0.0.1:8000 ", ""}));
}

TEST(WatchDns, TheSystemKnowsLocalhost) {
  asio::io_context io;
  base::Result<Addresses> found = Addresses{};
  asio::co_spawn(
      io, [&]() -> asio::awaitable<void> { found = co_await system_resolve(io.get_executor())("localhost"); },
      asio::detached);
  io.run();
  ASSERT_TRUE(found) << found.error().to_string();
  EXPECT_TRUE(std::ranges::find(*found, "127.0.0.1") != found->end() ||
              std::ranges::find(*found, "::1") != found->end());
}

}  // namespace
}  // namespace tidemill::gateway
