#include "wire/drainable.hpp"

#include <atomic>
#include <thread>

#include <gtest/gtest.h>

#include "wire/raw_client.hpp"

namespace tidemill::wire {
namespace {

class Service : public Drainable {};

TEST(Drainable, IsUnusedWhenAllHaveLeft) {
  Service service;
  EXPECT_FALSE(service.draining());
  EXPECT_TRUE(service.wait_until_unused(base::Duration(0)));
  service.enter();
  service.enter();
  service.start_draining();
  service.start_draining();
  EXPECT_TRUE(service.draining());
  service.leave();
  EXPECT_FALSE(service.wait_until_unused(base::Duration(0)));
  service.leave();
  EXPECT_TRUE(service.wait_until_unused(base::Duration(0)));
}

TEST(Drainable, AWaitEndsWithTheLastThatLeaves) {
  Service service;
  std::atomic<int> left = 0;
  for (int i = 0; i < 4; ++i)
    service.enter();
  std::thread handler([&] {
    for (int i = 0; i < 4; ++i) {
      ++left;
      service.leave();
    }
  });
  EXPECT_TRUE(service.wait_until_unused(test::patience));
  EXPECT_EQ(left, 4);
  handler.join();
}

TEST(Drainable, WhoIsHurriedWaitsForNoRequest) {
  Service service;
  service.enter();
  std::thread impatient([&] { service.hurry(); });
  EXPECT_FALSE(service.wait_for_requests(test::patience));
  EXPECT_TRUE(service.hurried());
  impatient.join();
  EXPECT_FALSE(service.wait_for_requests(test::patience));
  service.leave();
  EXPECT_TRUE(service.wait_for_requests(test::patience));
}

}  // namespace
}  // namespace tidemill::wire
