#include <atomic>
#include <memory>
#include <sqlite3.h>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "session/session_store.hpp"
#include "session/shared_state_cases.hpp"
#include "temporary_folder.hpp"

namespace tidemill::session {
namespace {

class SqliteState : public testing::Test {
 protected:
  std::unique_ptr<Store> open(const StoreOptions& options = {}) {
    auto store = open_sqlite_store(options, clock_);
    EXPECT_TRUE(store) << store.error().to_string();
    return store ? std::move(*store) : nullptr;
  }
  StoreOptions in_file() { return {.path = (folder_.path() / "sessions.db").string()}; }

  base::ManualClock clock_;
  test::TemporaryFolder folder_;
};

TEST_F(SqliteState, CountersAddUp) {
  cases::counters_add_up(*open());
}
TEST_F(SqliteState, AnExchangeCountsOnce) {
  cases::an_exchange_counts_once(*open());
}
TEST_F(SqliteState, BlobsChangeFromTheVersionTheyHad) {
  cases::blobs_change_from_the_version_they_had(*open());
}
TEST_F(SqliteState, AllBucketsOrNone) {
  cases::all_buckets_or_none(*open());
}

TEST_F(SqliteState, IsAtomicAcrossProcesses) {
  auto one = open(in_file());
  auto two = open(in_file());
  cases::is_atomic({one.get(), two.get(), one.get(), two.get()});
}

TEST_F(SqliteState, ALeaseIsOneHolders) {
  auto one = open(in_file());
  auto two = open(in_file());
  cases::a_lease_is_one_holders(*one, *two);
  cases::a_lease_is_never_two_holders({one.get(), two.get(), one.get(), two.get()});
}

// As of a process that was killed.
TEST_F(SqliteState, ALeaseThatIsNotKeptEnds) {
  auto store = open();
  const std::vector<Lease> mine = {{"l", "a"}};
  EXPECT_TRUE(cases::take_lease(*store, "l", "a", std::chrono::seconds(10)));
  clock_.advance(std::chrono::seconds(9));
  EXPECT_TRUE(store->keep_leases(mine, std::chrono::seconds(10)));
  clock_.advance(std::chrono::seconds(9));
  EXPECT_FALSE(cases::take_lease(*store, "l", "b", std::chrono::seconds(10)));
  clock_.advance(std::chrono::seconds(1));
  EXPECT_TRUE(store->keep_leases(mine, std::chrono::seconds(10))) << "late, but nobody has come in between";
  EXPECT_FALSE(cases::take_lease(*store, "l", "b", std::chrono::seconds(10)));
  clock_.advance(std::chrono::seconds(10));
  EXPECT_TRUE(cases::take_lease(*store, "l", "b", std::chrono::seconds(10)));
  EXPECT_TRUE(store->keep_leases(mine, std::chrono::seconds(10))) << "too late, and no error";
  EXPECT_FALSE(cases::take_lease(*store, "l", "a", std::chrono::seconds(10)));
}

// A clock that is set back makes no lease live for longer than one does.
TEST_F(SqliteState, ALeaseFromTheFutureIsNoLease) {
  auto store = open();
  EXPECT_TRUE(cases::take_lease(*store, "l", "a", std::chrono::hours(1)));
  EXPECT_FALSE(cases::take_lease(*store, "l", "b", std::chrono::hours(1)));
  EXPECT_TRUE(cases::take_lease(*store, "l", "b", std::chrono::seconds(10)));
}

// Nor does one that is set back by less end those that are held.
TEST_F(SqliteState, ALeaseOutlivesAClockThatIsCorrected) {
  auto store = open();
  EXPECT_TRUE(cases::take_lease(*store, "l", "a", std::chrono::seconds(10)));
  clock_.advance(-std::chrono::seconds(9));
  EXPECT_FALSE(cases::take_lease(*store, "l", "b", std::chrono::seconds(10)));
  clock_.advance(-std::chrono::seconds(2));
  EXPECT_TRUE(cases::take_lease(*store, "l", "b", std::chrono::seconds(10)));
}

TEST_F(SqliteState, CountersEnd) {
  auto store = open();
  cases::add(*store, "c", 5, std::chrono::seconds(10));
  clock_.advance(std::chrono::seconds(9));
  EXPECT_EQ(cases::add(*store, "c", 1, std::chrono::seconds(10)), 6);
  clock_.advance(std::chrono::seconds(9));
  EXPECT_EQ(cases::read(*store, "c"), 6);
  clock_.advance(std::chrono::seconds(1));
  EXPECT_EQ(cases::read(*store, "c"), 0);
  EXPECT_EQ(cases::add(*store, "c", 1), 1);
}

TEST_F(SqliteState, BucketsFillAtTheirRate) {
  auto store = open();
  const std::vector<BucketTake> all = {{"b", 10, 2, 10}};
  EXPECT_TRUE(cases::take(*store, all, TakeMode::if_enough).taken);
  clock_.advance(std::chrono::milliseconds(1500));
  const std::vector<BucketTake> three = {{"b", 10, 2, 3}};
  const std::vector<BucketTake> four = {{"b", 10, 2, 4}};
  EXPECT_FALSE(cases::take(*store, four, TakeMode::if_enough).taken);
  EXPECT_TRUE(cases::take(*store, three, TakeMode::if_enough).taken);
  clock_.advance(std::chrono::hours(1));
  const std::vector<BucketTake> none = {{"b", 10, 2, 0}};
  EXPECT_DOUBLE_EQ(cases::take(*store, none, TakeMode::if_enough).levels[0], 10);
}

TEST_F(SqliteState, OutlivesTheProcess) {
  cases::add(*open(in_file()), "c", 5);
  auto again = open(in_file());
  EXPECT_EQ(cases::read(*again, "c"), 5);
  EXPECT_TRUE(again->check());
}

// A file of the first version had conversations alone.
TEST_F(SqliteState, TakesAFileOfTheFirstVersion) {
  const StoreOptions options = in_file();
  const std::vector<Record> records = {{"a", "1"}};
  ASSERT_TRUE(open(options)->put("t", records));
  sqlite3* file = nullptr;
  ASSERT_EQ(sqlite3_open(options.path.c_str(), &file), SQLITE_OK);
  ASSERT_EQ(
      sqlite3_exec(file,
                   "DROP TABLE counter; DROP TABLE bucket; DROP TABLE exchange; DROP TABLE blob; DROP TABLE lease; "
                   "PRAGMA user_version = 1",
                   nullptr, nullptr, nullptr),
      SQLITE_OK);
  sqlite3_close(file);
  auto store = open(options);
  EXPECT_EQ(store->get("t", "a").value(), "1");
  EXPECT_EQ(cases::add(*store, "c", 5), 5);
}

// The second told repetitions by a table of names.
TEST_F(SqliteState, TakesAFileOfTheSecondVersion) {
  const StoreOptions options = in_file();
  EXPECT_EQ(cases::add(*open(options), "o", 1), 1);
  sqlite3* file = nullptr;
  ASSERT_EQ(sqlite3_open(options.path.c_str(), &file), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(file,
                         "DROP TABLE exchange; DROP TABLE lease; "
                         "CREATE TABLE once (key TEXT PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID; "
                         "INSERT INTO once VALUES ('a', 1); PRAGMA user_version = 2",
                         nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(file);
  EXPECT_EQ(cases::exchange(*open(options), "a", 1).counters.at(0), 6);
  EXPECT_EQ(cases::exchange(*open(options), "a", 1).counters.at(0), 6);
}

// The third had no leases.
TEST_F(SqliteState, TakesAFileOfTheThirdVersion) {
  const StoreOptions options = in_file();
  EXPECT_EQ(cases::add(*open(options), "c", 5), 5);
  sqlite3* file = nullptr;
  ASSERT_EQ(sqlite3_open(options.path.c_str(), &file), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(file, "DROP TABLE lease; PRAGMA user_version = 3", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(file);
  auto store = open(options);
  EXPECT_EQ(cases::read(*store, "c"), 5);
  EXPECT_TRUE(cases::take_lease(*store, "l", "a"));
}

TEST_F(SqliteState, ForgetsGatewaysThatAreGoneForLong) {
  auto store = open();
  EXPECT_EQ(cases::exchange(*store, "a", 7).counters.at(0), 5);
  clock_.advance(std::chrono::hours(24 * 7) - std::chrono::seconds(1));
  EXPECT_EQ(cases::exchange(*store, "a", 7).counters.at(0), 0);  // the counter is over, and the exchange is known
  clock_.advance(std::chrono::seconds(1));
  EXPECT_EQ(cases::exchange(*store, "a", 7).counters.at(0), 5);
}

}  // namespace
}  // namespace tidemill::session
