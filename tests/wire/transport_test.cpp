#include "wire/transport.hpp"

#include <chrono>
#include <string>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <gtest/gtest.h>

#include "wire/raw_client.hpp"

namespace tidemill::wire {
namespace {

TEST(Transport, KnowsWhatItsPeerHasNotTaken) {
  asio::io_context io;
  asio::ip::tcp::acceptor acceptor(io, {asio::ip::address_v4::loopback(), 0});
  test::RawClient client(acceptor.local_endpoint().port(), 4096);
  ASSERT_TRUE(client.connected());
  Transport transport(
      SocketEvents::of(io), [](void*) {}, nullptr, acceptor.accept().release());
  transport.prepare();
  const int buffer = 32 << 10;
  ASSERT_EQ(::setsockopt(transport.socket().descriptor(), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer), 0);
  EXPECT_EQ(transport.unacknowledged(), 0);

  const std::string piece(size_t{64} << 10, 'x');
  size_t written = 0;
  while (true) {
    Pieces pieces = {asio::buffer(piece)};
    const Progress progress = transport.write(pieces);
    if (progress.kind != Progress::Kind::done) break;
    written += progress.bytes;
  }
  EXPECT_GT(transport.unacknowledged(), 0) << "of " << written << ", more than the client has room for";

  EXPECT_EQ(client.read_exactly(written).size(), written);
  const auto deadline = std::chrono::steady_clock::now() + test::patience;
  while (transport.unacknowledged() != 0 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::yield();
  EXPECT_EQ(transport.unacknowledged(), 0);
}

// A read ends before urgent data, whatever lies behind it.
TEST(Transport, ReadsOnBehindUrgentData) {
  asio::io_context io;
  asio::ip::tcp::acceptor acceptor(io, {asio::ip::address_v4::loopback(), 0});
  test::RawClient client(acceptor.local_endpoint().port());
  ASSERT_TRUE(client.connected());
  Transport transport(
      SocketEvents::of(io), [](void*) {}, nullptr, acceptor.accept().release());
  transport.prepare();
  ASSERT_TRUE(client.send("before") && client.send_urgent('!') && client.send("behind"));
  ASSERT_FALSE(transport.socket().watch());
  transport.socket().wait_for_events(true);
  std::string received;
  while (received.size() < 12) {
    if (!transport.socket().readable()) {
      ASSERT_EQ(io.run_one_for(test::patience), 1u) << received;
      continue;
    }
    char bytes[64];
    const Progress progress = transport.read(bytes, sizeof bytes);
    received.append(bytes, progress.bytes);
  }
  EXPECT_EQ(received, "beforebehind");
}

}  // namespace
}  // namespace tidemill::wire
