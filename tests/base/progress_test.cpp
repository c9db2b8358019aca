#include "base/progress.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::base {
namespace {

using namespace std::chrono_literals;

class ProgressBar : public ::testing::Test {
 protected:
  Progress::Sink sink() {
    return [this](std::string_view text) { writes.emplace_back(text); };
  }
  ManualClock clock;
  std::vector<std::string> writes;
};

TEST_F(ProgressBar, ShowsShareRateAndTimeLeft) {
  Progress bar("Loading", 1000, Progress::Unit::items, sink(), clock);
  clock.advance(10s);
  bar.set(250);
  ASSERT_EQ(writes.size(), 1);
  EXPECT_EQ(writes[0], "\r\x1b[KLoading [######------------------]  25%  25/s  ETA 0:30");
  clock.advance(30s);
  bar.advance(2000);  // never past the total
  bar.finish();
  EXPECT_EQ(writes[2], "\r\x1b[KLoading [########################] 100%  25/s  in 0:40");
  EXPECT_EQ(writes.back(), "\n");
  const size_t count = writes.size();
  bar.finish();
  bar.advance(1);
  EXPECT_EQ(writes.size(), count);
}

TEST_F(ProgressBar, WhatWasDoneBeforeIsNoneOfTheRate) {
  Progress bar("Fetching", 1000, Progress::Unit::items, sink(), clock);
  bar.start_at(500);
  clock.advance(10s);
  bar.set(750);
  ASSERT_EQ(writes.size(), 1);
  EXPECT_EQ(writes[0], "\r\x1b[KFetching [##################------]  75%  25/s  ETA 0:10");
  clock.advance(10s);
  bar.set(400);  // begun anew
  EXPECT_EQ(writes[1], "\r\x1b[KFetching [#########---------------]  40%");
}

TEST_F(ProgressBar, RedrawsAreRateLimited) {
  Progress bar("x", 100'000, Progress::Unit::items, sink(), clock);
  for (int i = 0; i < 100'000; ++i) {
    clock.advance(10us);  // one second in all
    bar.advance(1);
  }
  EXPECT_EQ(writes.size(), 10);
}

TEST_F(ProgressBar, UnknownTotalAndBytes) {
  Progress bar("Hashing", 0, Progress::Unit::bytes, sink(), clock);
  clock.advance(2s);
  bar.advance(3 << 20);
  EXPECT_EQ(writes.at(0), "\r\x1b[KHashing 3.00 MiB  1.50 MiB/s");
}

TEST_F(ProgressBar, FailedWorkWipesTheLine) {
  { Progress(std::string("unused"), 10, Progress::Unit::items, sink(), clock); }
  EXPECT_TRUE(writes.empty());
  {
    Progress bar("x", 10, Progress::Unit::items, sink(), clock);
    clock.advance(1s);
    bar.advance(1);
  }
  EXPECT_EQ(writes.back(), "\r\x1b[K");
}

TEST_F(ProgressBar, ShortWorkShowsNothing) {
  {
    Progress bar("x", 10, Progress::Unit::items, sink(), clock);
    clock.advance(99ms);
    bar.advance(10);
    bar.finish();
  }
  EXPECT_TRUE(writes.empty());
}

TEST_F(ProgressBar, LabelsCannotMoveTheCursorAndLinesFit) {
  Progress bar("a\n\x1b[2J\xff\xc3\xa9 and a very long name that does not fit", 10, Progress::Unit::items, sink(),
               clock, 55);
  Progress narrow("label", 10, Progress::Unit::items, sink(), clock, 0);
  clock.advance(1s);
  bar.advance(1);
  EXPECT_EQ(writes.at(0), "\r\x1b[Ka??[2J\xef\xbf\xbd\xc3\xa9 [##----------------------]  10%  1/s  ETA 0:09");
  narrow.advance(1);
  EXPECT_EQ(writes.at(1), "\r\x1b[K");
}

TEST_F(ProgressBar, SilentWithoutASink) {
  EXPECT_FALSE(Progress::terminal(false));
  Progress bar("x", 10, Progress::Unit::items, {}, clock);
  bar.advance(5);
  bar.finish();
}

TEST_F(ProgressBar, WorkThatReportsMakesItsBar) {
  ReportedProgress bar("Packing", Progress::Unit::items, sink(), clock);
  clock.advance(5s);  // of something else
  const auto report = bar.reporter();
  report(200, 1000);
  EXPECT_TRUE(writes.empty());
  clock.advance(10s);
  report(700, 1000);
  ASSERT_EQ(writes.size(), 1);
  EXPECT_EQ(writes[0], "\r\x1b[KPacking [################--------]  70%  50/s  ETA 0:06");
  clock.advance(10s);
  report(1000, 1000);
  bar.finish();
  EXPECT_EQ(writes.at(2), "\r\x1b[KPacking [########################] 100%  40/s  in 0:20");
  EXPECT_EQ(writes.back(), "\n");
  const size_t count = writes.size();
  bar.finish();
  EXPECT_EQ(writes.size(), count);
}

TEST_F(ProgressBar, EveryPartOfTheWorkHasABarOfItsOwn) {
  {
    ReportedProgress bar("x", Progress::Unit::items, sink(), clock);
    for (const uint64_t total : {uint64_t{4}, uint64_t{10}}) {
      bar.report(0, total);
      clock.advance(1s);
      bar.report(2, total);
      bar.wipe();
      EXPECT_EQ(writes.back(), "\r\x1b[K");
    }
    EXPECT_EQ(writes.at(0), "\r\x1b[Kx [############------------]  50%  2/s  ETA 0:01");
    EXPECT_EQ(writes.at(2), "\r\x1b[Kx [####--------------------]  20%  2/s  ETA 0:04");
    bar.report(0, 10);
    clock.advance(1s);
    bar.report(1, 10);
    EXPECT_NE(writes.back(), "\r\x1b[K");
  }
  EXPECT_EQ(writes.back(), "\r\x1b[K") << "the work failed";
}

}  // namespace
}  // namespace tidemill::base
