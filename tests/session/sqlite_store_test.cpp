#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "session/session_store.hpp"
#include "session/sqlite_database.hpp"

namespace tidemill::session {
namespace {

namespace fs = std::filesystem;
using base::ErrorCode;

class SqliteStore : public testing::Test {
 protected:
  SqliteStore() : folder_(fs::path(testing::TempDir()) / ("session-" + std::to_string(::getpid()))) {
    fs::remove_all(folder_);
    fs::create_directory(folder_);
  }
  ~SqliteStore() override { fs::remove_all(folder_); }

  std::unique_ptr<Store> open(StoreOptions options = {}) {
    auto store = open_sqlite_store(options, clock_);
    EXPECT_TRUE(store) << store.error().to_string();
    return store ? std::move(*store) : nullptr;
  }
  StoreOptions in_file() { return {.path = (folder_ / "sessions.db").string()}; }

  static void put(SessionStore& store, std::string tenant, std::string id, std::string value) {
    const std::vector<Record> records = {{std::move(id), std::move(value)}};
    const auto done = store.put(tenant, records);
    EXPECT_TRUE(done) << done.error().to_string();
  }
  // "(none)" where there is none.
  static std::string get(SessionStore& store, std::string_view tenant, std::string_view id) {
    auto value = store.get(tenant, id);
    EXPECT_TRUE(value) << value.error().to_string();
    return value ? value->value_or("(none)") : "(error)";
  }

  base::ManualClock clock_;
  fs::path folder_;
};

// Whoever comes while another process keeps it locked must not wait for those who came before.
TEST_F(SqliteStore, ALockedFileIsLeftAloneForAPause) {
  StoreOptions options = in_file();
  options.lock_wait = std::chrono::milliseconds(1);
  auto store = open(options);
  put(*store, "t", "a", "one");
  auto other = SqliteDatabase::open(options.path, options.lock_wait);
  ASSERT_TRUE(other);
  const auto code_of_put = [&store] {
    const std::vector<Record> records = {{"a", "two"}};
    const auto done = store->put("t", records);
    return done ? ErrorCode::internal : done.error().code();
  };
  ASSERT_TRUE(other->execute("BEGIN IMMEDIATE"));
  EXPECT_EQ(code_of_put(), ErrorCode::unavailable);
  ASSERT_TRUE(other->execute("ROLLBACK"));
  EXPECT_EQ(code_of_put(), ErrorCode::unavailable) << "nobody looks within the pause";
  EXPECT_FALSE(store->check());
  EXPECT_EQ(get(*store, "t", "a"), "one") << "readers wait for nobody";
  EXPECT_EQ(code_of_put(), ErrorCode::unavailable) << "and tell nothing of writing";
  clock_.advance(longest_pause);
  put(*store, "t", "a", "two");
  EXPECT_EQ(get(*store, "t", "a"), "two");

  ASSERT_TRUE(other->execute("BEGIN IMMEDIATE"));
  EXPECT_EQ(code_of_put(), ErrorCode::unavailable);
  clock_.advance(longest_pause);
  EXPECT_FALSE(store->check()) << "it is locked still, and the next pause begins";
  ASSERT_TRUE(other->execute("ROLLBACK"));
  EXPECT_EQ(code_of_put(), ErrorCode::unavailable);
  clock_.advance(longest_pause);
  EXPECT_TRUE(store->check());
  put(*store, "t", "a", "three");
}

// Those who read do not stand in line behind one who waits to write.
TEST_F(SqliteStore, ReadersDoNotWaitForAWriterWhoWaits) {
  StoreOptions options = in_file();
  options.lock_wait = std::chrono::minutes(1);
  auto store = open(options);
  put(*store, "t", "a", "one");
  auto other = SqliteDatabase::open(options.path, options.lock_wait);
  ASSERT_TRUE(other);
  ASSERT_TRUE(other->execute("BEGIN IMMEDIATE"));
  std::atomic<bool> waits = false;
  std::atomic<bool> done = false;
  std::thread writer([&] {
    waits = true;
    put(*store, "t", "a", "two");
    done = true;
  });
  while (!waits)
    std::this_thread::yield();
  for (int i = 0; i < 1000; ++i) {  // so that it does wait for some of these
    EXPECT_EQ(get(*store, "t", "a"), "one");
    EXPECT_TRUE(store->read_blob("b"));
    std::this_thread::yield();
  }
  EXPECT_FALSE(done);
  EXPECT_TRUE(other->execute("ROLLBACK"));
  writer.join();
  EXPECT_EQ(get(*store, "t", "a"), "two") << "what was written is read at once";
}

TEST_F(SqliteStore, KeepsReplacesAndRemoves) {
  auto store = open();
  EXPECT_EQ(get(*store, "t", "a"), "(none)");
  const std::string bytes("\0x\xff{", 4);
  put(*store, "t", "a", bytes);
  put(*store, "t", "empty", "");
  EXPECT_EQ(get(*store, "t", "a"), bytes);
  EXPECT_EQ(get(*store, "t", "empty"), "");
  put(*store, "t", "a", "two");
  EXPECT_EQ(get(*store, "t", "a"), "two");
  EXPECT_TRUE(*store->remove("t", "a"));
  EXPECT_FALSE(*store->remove("t", "a"));
  EXPECT_EQ(get(*store, "t", "a"), "(none)");
}

TEST_F(SqliteStore, TenantsSeeTheirOwn) {
  auto store = open();
  put(*store, "one", "a", "1");
  put(*store, "two", "a", "2");
  EXPECT_EQ(get(*store, "one", "a"), "1");
  EXPECT_EQ(get(*store, "two", "a"), "2");
  EXPECT_EQ(get(*store, "", "a"), "(none)");
  EXPECT_FALSE(*store->remove("three", "a"));
  EXPECT_TRUE(*store->remove("one", "a"));
  EXPECT_EQ(get(*store, "two", "a"), "2");
}

TEST_F(SqliteStore, RecordsEnd) {
  auto store = open({.time_to_live = std::chrono::seconds(10)});
  put(*store, "t", "a", "1");
  clock_.advance(std::chrono::seconds(9));
  put(*store, "t", "b", "2");
  EXPECT_EQ(get(*store, "t", "a"), "1");
  clock_.advance(std::chrono::seconds(1));
  EXPECT_EQ(get(*store, "t", "a"), "(none)");
  EXPECT_FALSE(*store->remove("t", "a"));
  EXPECT_EQ(get(*store, "t", "b"), "2");
}

TEST_F(SqliteStore, TheOldestGoWhenItIsFull) {
  auto store = open({.max_bytes = 10'000});
  const std::string value(2'000, 'x');
  for (const char* id : {"a", "b", "c", "d"})
    put(*store, "t", id, value);
  EXPECT_EQ(get(*store, "t", "a"), value);
  put(*store, "t", "a", value);  // which makes it the youngest
  put(*store, "u", "e", value);
  EXPECT_EQ(get(*store, "t", "b"), "(none)");
  EXPECT_EQ(get(*store, "t", "c"), value);
  EXPECT_EQ(get(*store, "t", "a"), value);
  EXPECT_EQ(get(*store, "u", "e"), value);
  const std::vector<Record> large = {{"f", std::string(10'000, 'x')}};
  const auto refused = store->put("t", large);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::too_large);
  EXPECT_EQ(get(*store, "u", "e"), value);
}

TEST_F(SqliteStore, OutlivesTheProcessInAFileOfItsOwner) {
  const StoreOptions options = in_file();
  put(*open(options), "t", "a", "1");
  EXPECT_EQ(fs::status(options.path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  auto one = open(options);
  auto two = open(options);
  EXPECT_EQ(get(*one, "t", "a"), "1");
  put(*two, "t", "b", "2");
  EXPECT_EQ(get(*one, "t", "b"), "2");
}

TEST_F(SqliteStore, RefusesWhatIsNoStore) {
  const StoreOptions options = in_file();
  std::ofstream(options.path) << std::string(8192, 'x');
  const auto foreign = open_sqlite_store(options, clock_);
  ASSERT_FALSE(foreign);
  EXPECT_EQ(foreign.error().code(), ErrorCode::corrupt) << foreign.error().to_string();
  EXPECT_NE(foreign.error().message().find(options.path), std::string::npos);
  const auto nowhere = open_sqlite_store({.path = (folder_ / "no/such/folder.db").string()}, clock_);
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().code(), ErrorCode::io);
}

TEST_F(SqliteStore, RefusesADamagedFile) {
  const StoreOptions options = in_file();
  {
    auto store = open(options);
    for (int i = 0; i < 200; ++i)
      put(*store, "t", std::to_string(i), std::string(1000, 'x'));
  }
  {
    std::fstream file(options.path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096);
    file << std::string(size_t{4096} * 8, '\xAA');
  }
  const auto damaged = open_sqlite_store(options, clock_);
  ASSERT_FALSE(damaged);
  EXPECT_EQ(damaged.error().code(), ErrorCode::corrupt) << damaged.error().to_string();
}

// A limit on the size of files stands for a full disk.
TEST_F(SqliteStore, AFullDiskFailsThatCallAlone) {
  auto store = open(in_file());
  put(*store, "t", "a", "1");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = before;
  small.rlim_cur = 200'000;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::vector<Record> large = {{"b", std::string(1'000'000, 'x')}};
  const auto refused = store->put("t", large);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, ignored);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::io) << refused.error().to_string();
  EXPECT_EQ(get(*store, "t", "a"), "1");
  EXPECT_EQ(get(*store, "t", "b"), "(none)");
  EXPECT_TRUE(store->put("t", large));
}

// A trigger that refuses stands for a disk that is full.
TEST_F(SqliteStore, KnowsThatItTakesNothingUntilAWriteWorks) {
  auto store = open(in_file());
  put(*store, "t", "a", "1");
  auto other = SqliteDatabase::open(in_file().path, std::chrono::seconds(1));
  ASSERT_TRUE(other);
  ASSERT_TRUE(other->execute(
      "CREATE TRIGGER full BEFORE INSERT ON record BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"));
  EXPECT_TRUE(store->check()) << "nobody has tried";
  const std::vector<Record> records = {{"b", "2"}};
  const auto refused = store->put("t", records);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::io) << refused.error().to_string();
  for (int i = 0; i < 3; ++i) {
    const auto checked = store->check();
    ASSERT_FALSE(checked);
    EXPECT_NE(checked.error().to_string().find("full"), std::string::npos) << checked.error().to_string();
  }
  EXPECT_EQ(get(*store, "t", "a"), "1") << "what is there can be read";
  ASSERT_TRUE(other->execute("DROP TRIGGER full"));
  EXPECT_TRUE(store->check());
  EXPECT_TRUE(store->check());
  EXPECT_TRUE(store->put("t", records));
  const auto rows = other->number("SELECT count(*) FROM record");
  ASSERT_TRUE(rows);
  EXPECT_EQ(*rows, 2) << "what was written to find out is gone";
}

// Where there is room for little, a small write tells nothing of the one that failed.
TEST_F(SqliteStore, FindsOutWithAsMuchAsFailed) {
  auto store = open(in_file());
  auto other = SqliteDatabase::open(in_file().path, std::chrono::seconds(1));
  ASSERT_TRUE(other);
  ASSERT_TRUE(
      other->execute("CREATE TRIGGER full BEFORE INSERT ON record WHEN length(new.value) > 100000 BEGIN SELECT "
                     "RAISE(ABORT, 'database or disk is full'); END"));
  const std::vector<Record> large = {{"b", std::string(200'000, 'x')}};
  EXPECT_FALSE(store->put("t", large));
  EXPECT_FALSE(store->check());
  ASSERT_TRUE(other->execute("DROP TRIGGER full"));
  EXPECT_TRUE(store->check());
}

TEST_F(SqliteStore, ManyThreadsMayUseIt) {
  auto store = open(in_file());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 25; ++i) {
        const std::string id = std::to_string(t) + "-" + std::to_string(i);
        put(*store, "t", id, id);
        EXPECT_EQ(get(*store, "t", id), id);
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(get(*store, "t", "3-24"), "3-24");
}

}  // namespace
}  // namespace tidemill::session
