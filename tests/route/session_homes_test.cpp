#include "route/session_homes.hpp"

#include <gtest/gtest.h>

namespace tidemill::route {
namespace {

TEST(SessionHomes, RemembersTheLastHome) {
  SessionHomes homes(10);
  EXPECT_EQ(homes.find(1), std::nullopt);
  homes.set(1, 3);
  homes.set(1, 4);
  EXPECT_EQ(homes.find(1), Backend{4});
  EXPECT_EQ(homes.size(), 1U);
}

TEST(SessionHomes, KeepsWhatIsUsedAndStaysBounded) {
  SessionHomes homes(100);
  for (uint64_t session = 1; session <= 10'000; ++session) {
    homes.set(0, 7);
    homes.set(session, 1);
    ASSERT_LE(homes.size(), 102U);
    ASSERT_EQ(homes.find(0), Backend{7});
    if (session > 40) {
      ASSERT_TRUE(homes.find(session - 40));
    }
  }
  EXPECT_EQ(homes.find(1), std::nullopt);
}

}  // namespace
}  // namespace tidemill::route
