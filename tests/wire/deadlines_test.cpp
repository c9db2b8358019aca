#include "wire/deadlines.hpp"

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

namespace tidemill::wire {
namespace {

using std::chrono::milliseconds;

base::SteadyTime now() {
  return base::SystemClock::instance().now();
}

struct Witness {
  static void fire(void* self) {
    auto& witness = *static_cast<Witness*>(self);
    ++witness.fired;
    witness.at = now();
    if (witness.then) witness.entry->set(std::exchange(witness.then, std::nullopt).value());
  }
  explicit Witness(Deadlines& wheel) : entry(std::make_unique<Deadlines::Entry>(wheel, fire, this)) {}

  std::unique_ptr<Deadlines::Entry> entry;
  int fired = 0;
  base::SteadyTime at;
  std::optional<base::SteadyTime> then;  // set again from within
};

TEST(Deadlines, FireOnceEachAndNeverEarly) {
  boost::asio::io_context io(1);
  Deadlines& wheel = Deadlines::of(io);
  const base::SteadyTime start = now();
  std::vector<std::unique_ptr<Witness>> witnesses;
  for (int i = 0; i < 50; ++i) {
    witnesses.push_back(std::make_unique<Witness>(wheel));
    witnesses.back()->entry->set(start + milliseconds(i));
  }
  io.run();  // returns when nothing is left in the wheel
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(witnesses[i]->fired, 1) << i;
    EXPECT_GE(witnesses[i]->at, start + milliseconds(i)) << i;
  }
}

TEST(Deadlines, MoveBothWaysAndCanBeCleared) {
  boost::asio::io_context io(1);
  Deadlines& wheel = Deadlines::of(io);
  const base::SteadyTime start = now();
  Witness later(wheel);
  later.entry->set(start);
  later.entry->set(start + milliseconds(40));
  Witness sooner(wheel);
  sooner.entry->set(start + std::chrono::hours(1));
  sooner.entry->set(start + milliseconds(10));
  Witness cleared(wheel);
  cleared.entry->set(start + milliseconds(5));
  cleared.entry->clear();
  io.run();
  EXPECT_EQ(later.fired, 1);
  EXPECT_GE(later.at, start + milliseconds(40));
  EXPECT_EQ(sooner.fired, 1);
  EXPECT_LE(sooner.at, later.at);
  EXPECT_EQ(cleared.fired, 0);
}

TEST(Deadlines, CanBeSetAgainFromWithinAndGoAnyTime) {
  boost::asio::io_context io(1);
  Deadlines& wheel = Deadlines::of(io);
  const base::SteadyTime start = now();
  Witness again(wheel);
  again.then = start;  // in the past: comes with the next slot, not at once for ever
  again.entry->set(start);
  auto gone = std::make_unique<Witness>(wheel);
  gone->entry->set(start + std::chrono::hours(1));
  gone.reset();
  io.run();
  EXPECT_EQ(again.fired, 2);
}

TEST(Deadlines, EntriesThatGoLeaveTheContextWithoutWork) {
  boost::asio::io_context io(1);
  Deadlines& wheel = Deadlines::of(io);
  std::array<std::optional<Witness>, 3> witnesses;
  for (auto& witness : witnesses) {
    witness.emplace(wheel);
    witness->entry->set(now() + std::chrono::hours(1));
  }
  for (auto& witness : witnesses)
    witness.reset();
  io.run();  // would take an hour
}

}  // namespace
}  // namespace tidemill::wire
