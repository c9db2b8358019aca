#include "wire/transport.hpp"

#include <chrono>
#include <string>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "wire/raw_client.hpp"

namespace tidemill::wire {
namespace {

TEST(Transport, KnowsWhatItsPeerHasNotTaken) {
  asio::io_context io;
  asio::ip::tcp::acceptor acceptor(io, {asio::ip::address_v4::loopback(), 0});
  test::RawClient client(acceptor.local_endpoint().port(), 4096);
  ASSERT_TRUE(client.connected());
  Transport transport(acceptor.accept());
  transport.prepare();
  transport.socket().set_option(asio::socket_base::send_buffer_size(32 << 10));
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

}  // namespace
}  // namespace tidemill::wire
