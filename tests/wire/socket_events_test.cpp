#include "wire/socket_events.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <boost/asio/error.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <gtest/gtest.h>

namespace tidemill::wire {
namespace {

// One end of a pair of connected sockets, with what was told of it; the other end is the test's.
struct Watched {
  explicit Watched(SocketEvents& events) {
    int pair[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    peer = pair[1];
    socket.emplace(
        events, [](void* self) { static_cast<Watched*>(self)->note(); }, this, pair[0]);
    EXPECT_FALSE(socket->watch());
    socket->wait_for_events(true);
  }
  ~Watched() {
    if (peer >= 0) ::close(peer);
  }
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;

  void note() {
    ++told;
    if (then) then();
  }
  void send(const std::string& bytes) const {
    ASSERT_EQ(::send(peer, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  std::string receive(size_t most) {
    std::string bytes(most, '\0');
    const ssize_t got = ::recv(socket->descriptor(), bytes.data(), bytes.size(), 0);
    if (got < 0) socket->note_drained();
    if (got > 0 && got < static_cast<ssize_t>(most)) socket->note_short();
    bytes.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
    return bytes;
  }

  std::optional<Socket> socket;
  int peer = -1;
  int told = 0;
  std::function<void()> then;
};

class SocketEventsTest : public testing::Test {
 protected:
  asio::io_context io_;
  SocketEvents& events_ = SocketEvents::of(io_);
  // Until `done`; the context may run out of nothing else.
  void run_until(const std::function<bool()>& done) {
    while (!done())
      ASSERT_EQ(io_.run_one(), 1u);
  }
};

TEST_F(SocketEventsTest, TellsOfBytesOnceAndOfThoseThatAreLeftByItsFlag) {
  Watched one(events_);
  run_until([&] { return one.told == 1; });  // that there is room
  EXPECT_TRUE(one.socket->writable());
  EXPECT_FALSE(one.socket->readable());

  one.send("abcdef");
  run_until([&] { return one.told == 2; });
  EXPECT_EQ(one.receive(4), "abcd");
  EXPECT_TRUE(one.socket->readable()) << "two bytes are left";
  EXPECT_EQ(one.receive(4), "ef");
  EXPECT_FALSE(one.socket->readable());

  one.send("g");
  run_until([&] { return one.told == 3; });
  EXPECT_TRUE(one.socket->readable());
}

TEST_F(SocketEventsTest, AnEndThatCameWithTheLastBytesStaysToBeRead) {
  Watched one(events_);
  run_until([&] { return one.told == 1; });
  one.send("last");
  ::close(std::exchange(one.peer, -1));
  run_until([&] { return one.socket->readable(); });
  EXPECT_EQ(one.receive(100), "last");
  EXPECT_TRUE(one.socket->readable());
  EXPECT_EQ(one.receive(100), "");
}

TEST_F(SocketEventsTest, TellsOfRoomWhenThereIsSomeAgain) {
  Watched one(events_);
  run_until([&] { return one.told == 1; });
  const std::string piece(4096, 'x');
  size_t sent = 0;
  while (true) {
    const ssize_t put = ::send(one.socket->descriptor(), piece.data(), piece.size(), MSG_NOSIGNAL);
    if (put < 0) break;
    sent += static_cast<size_t>(put);
  }
  one.socket->note_full();
  EXPECT_FALSE(one.socket->writable());
  std::string taken(sent, '\0');
  for (size_t got = 0; got < sent;)
    got += static_cast<size_t>(::recv(one.peer, taken.data(), taken.size(), 0));
  run_until([&] { return one.socket->writable(); });
}

TEST_F(SocketEventsTest, WhatOneEndsIsNotToldOfInTheSameTurn) {
  std::vector<std::unique_ptr<Watched>> all;
  all.reserve(8);
  for (int i = 0; i < 8; ++i)
    all.push_back(std::make_unique<Watched>(events_));
  int told = 0;
  for (auto& one : all) {
    one->then = [&, self = one.get()] {
      ++told;
      for (auto& other : all) {
        if (other.get() != self) other.reset();
      }
    };
  }
  run_until([&] { return told != 0; });
  EXPECT_EQ(told, 1);
  EXPECT_EQ(std::count(all.begin(), all.end(), nullptr), 7);
}

TEST_F(SocketEventsTest, MoreThanATurnHoldsAreAllTold) {
  std::vector<std::unique_ptr<Watched>> all;
  all.reserve(200);
  for (int i = 0; i < 200; ++i)
    all.push_back(std::make_unique<Watched>(events_));
  run_until([&] { return std::all_of(all.begin(), all.end(), [](const auto& one) { return one->told == 1; }); });
}

TEST_F(SocketEventsTest, TheContextRunsAsLongAsSomebodyWaits) {
  Watched one(events_);
  run_until([&] { return one.told == 1; });
  one.socket->wait_for_events(false);
  io_.run();  // returns
  io_.restart();

  one.send("x");  // while nobody waits
  one.socket->wait_for_events(true);
  one.then = [&] { one.socket->wait_for_events(false); };
  io_.run();
  EXPECT_EQ(one.told, 2);
  EXPECT_TRUE(one.socket->readable());
  io_.restart();

  one.socket->wait_for_events(true);
  one.then = [&] { one.socket.reset(); };
  one.send("y");
  io_.run();
  EXPECT_EQ(one.told, 3);
}

TEST_F(SocketEventsTest, ConnectsAndSaysWhyNot) {
  asio::ip::tcp::acceptor acceptor(io_, {asio::ip::address_v4::loopback(), 0});
  const asio::ip::tcp::endpoint there = acceptor.local_endpoint();
  bool told = false;
  Socket socket(
      events_, [](void* flag) { *static_cast<bool*>(flag) = true; }, &told);
  ASSERT_FALSE(socket.connect(there));
  socket.wait_for_events(true);
  run_until([&] { return told && socket.writable(); });
  EXPECT_FALSE(socket.connected());

  acceptor.close();
  told = false;
  auto error = socket.connect(there);
  if (!error) {
    socket.wait_for_events(true);
    run_until([&] { return told && socket.writable(); });
    error = socket.connected();
  }
  EXPECT_EQ(error, asio::error::connection_refused);
}

TEST_F(SocketEventsTest, WithoutADescriptorLeftTheNextOneTriesAgain) {
  int pair[2] = {-1, -1};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
  Socket socket(
      events_, [](void*) {}, nullptr, pair[0]);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto refused = socket.watch();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(refused, asio::error::no_descriptors);
  EXPECT_FALSE(socket.watch());
  ::close(pair[1]);
}

}  // namespace
}  // namespace tidemill::wire
