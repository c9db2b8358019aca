#include "gateway/turn_lock.hpp"

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "session/session_store.hpp"
#include "temporary_folder.hpp"

namespace tidemill::test {
namespace {

using gateway::HeldLeases;
using gateway::TurnLock;

// Leases of which only one can be held, in a store that fails and waits as it is told to.
class FailingLeases final : public session::Leases {
 public:
  base::Result<bool> take_lease(const session::Lease& lease, base::Duration) override {
    if (holder.empty()) holder = lease.holder;
    if (fails) return lost();  // and what it did is not told
    return holder == lease.holder;
  }
  base::Result<void> keep_leases(std::span<const session::Lease> leases, base::Duration) override {
    if (while_kept) while_kept();
    for (const session::Lease& lease : leases)
      if (holder.empty()) holder = lease.holder;
    kept += static_cast<int>(leases.size());
    return {};
  }
  base::Result<void> end_lease(const session::Lease& lease) override {
    ++ends;
    if (fails) return lost();
    if (holder == lease.holder) holder.clear();
    return {};
  }

  std::string holder;
  bool fails = false;
  std::atomic<int> ends = 0;
  int kept = 0;
  std::function<void()> while_kept;

 private:
  static base::Error lost() { return {base::ErrorCode::timeout, "the store does not answer"}; }
};

// What was taken by a gateway that is no more is nobody's in the end, and what one still holds is not.
TEST(TurnLock, ATurnOfAGatewayThatDiedIsOver) {
  base::ManualClock clock;
  TemporaryFolder folder;
  session::StoreOptions in_file;
  in_file.path = (folder.path() / "sessions.db").string();
  auto store = session::open_store(in_file, clock);
  ASSERT_TRUE(store) << store.error().to_string();
  HeldLeases held(clock);
  HeldLeases others(clock);
  {
    TurnLock died(**store, held);
    ASSERT_TRUE(died.take("t", "conv_1"));
  }
  TurnLock next(**store, others);
  const auto refused = next.take("t", "conv_1");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), base::ErrorCode::exhausted);
  EXPECT_TRUE(next.take("t", "conv_2")) << "another conversation";
  next.end();
  EXPECT_TRUE(next.take("u", "conv_1")) << "another tenant's";
  next.end();
  clock.advance(HeldLeases::lives);
  held.renew(**store);  // which no longer knows it
  ASSERT_TRUE(next.take("t", "conv_1"));
  for (int i = 0; i < 20; ++i) {
    clock.advance(HeldLeases::renewed_every);
    others.renew(**store);
  }
  TurnLock third(**store, held);
  EXPECT_FALSE(third.take("t", "conv_1")) << "it still runs";
  next.end();
  next.end();
  EXPECT_TRUE(third.take("t", "conv_1"));
  third.end();
}

// A store that has just failed may refuse that a turn ends, too; it hears of it again.
TEST(TurnLock, ATurnWhoseEndIsNotHeardOfEndsWithTheNextRenewal) {
  base::ManualClock clock;
  FailingLeases store;
  HeldLeases held(clock);
  TurnLock first(store, held);
  store.fails = true;
  EXPECT_FALSE(first.take("t", "conv_1"));
  EXPECT_FALSE(store.holder.empty()) << "it was taken, but who took it did not hear of it";
  held.renew(store);
  EXPECT_FALSE(store.holder.empty());
  store.fails = false;
  held.renew(store);
  EXPECT_TRUE(store.holder.empty());
  EXPECT_EQ(store.kept, 0) << "what has ended is not renewed";
  EXPECT_EQ(store.ends, 3);
  held.renew(store);
  EXPECT_EQ(store.ends, 3) << "once it is known to have ended it is not ended again";

  ASSERT_TRUE(first.take("t", "conv_1"));
  store.fails = true;
  first.end();
  store.fails = false;
  held.renew(store);
  EXPECT_TRUE(store.holder.empty());
  {
    TurnLock dropped(store, held);
    ASSERT_TRUE(dropped.take("t", "conv_1"));
  }
  held.renew(store);
  EXPECT_TRUE(store.holder.empty()) << "nor is one forgotten whose handler has gone";

  TurnLock last(store, held);
  ASSERT_TRUE(last.take("t", "conv_1"));
  store.fails = true;
  last.end();
  store.ends = 0;
  clock.advance(HeldLeases::lives - HeldLeases::renewed_every);
  held.renew(store);
  EXPECT_EQ(store.ends, 1);
  clock.advance(HeldLeases::renewed_every);
  held.renew(store);
  EXPECT_EQ(store.ends, 1) << "it has lapsed by then";
}

TEST(TurnLock, ATurnEndsWhateverComesOfItsWork) {
  base::ManualClock clock;
  FailingLeases store;
  HeldLeases held(clock);
  TurnLock turn(store, held);
  ASSERT_TRUE(turn.take("t", "conv_1"));
  const auto work = []() -> base::Result<int> { throw std::runtime_error("no room"); };
  EXPECT_THROW((void)turn.end_after(work), std::runtime_error);
  EXPECT_TRUE(store.holder.empty());
  ASSERT_TRUE(turn.take("t", "conv_1"));
  EXPECT_EQ(turn.end_after([]() -> base::Result<int> { return 5; }).value(), 5);
  EXPECT_TRUE(store.holder.empty());
}

// A renewal that is under way has seen the turn before it ended.
TEST(TurnLock, ATurnThatHasEndedIsNotRenewed) {
  base::ManualClock clock;
  FailingLeases store;
  HeldLeases held(clock);
  TurnLock turn(store, held);
  ASSERT_TRUE(turn.take("t", "conv_1"));
  std::thread ending;
  store.while_kept = [&] {
    store.holder.clear();  // it was lost, so that the renewal takes it again
    ending = std::thread([&turn] { turn.end(); });
    for (int i = 0; i < 1000; ++i)
      std::this_thread::yield();
    EXPECT_EQ(store.ends, 0);
  };
  held.renew(store);
  ending.join();
  EXPECT_EQ(store.ends, 1);
  EXPECT_TRUE(store.holder.empty());
}

}  // namespace
}  // namespace tidemill::test
