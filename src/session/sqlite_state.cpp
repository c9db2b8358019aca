#include "session/sqlite_state.hpp"

#include <algorithm>
#include <chrono>

#include <fmt/core.h>

#include "session/bucket.hpp"

namespace tidemill::session {

using base::Result;
using Statement = SqliteDatabase::Statement;

const char* const sqlite_state_schema = R"sql(
  CREATE TABLE counter (key TEXT PRIMARY KEY, expires INTEGER NOT NULL, value INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX counter_expires ON counter (expires);
  CREATE TABLE bucket (key TEXT PRIMARY KEY, expires INTEGER NOT NULL, level REAL NOT NULL, filled INTEGER NOT NULL)
    WITHOUT ROWID;
  CREATE INDEX bucket_expires ON bucket (expires);
  CREATE TABLE blob (key TEXT PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL);
)sql";

const char* const sqlite_state_schema_3 = R"sql(
  DROP TABLE IF EXISTS once;
  CREATE TABLE exchange (gateway TEXT PRIMARY KEY, expires INTEGER NOT NULL, number INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX exchange_expires ON exchange (expires);
)sql";

const char* const sqlite_state_schema_4 = R"sql(
  CREATE TABLE lease (key TEXT PRIMARY KEY, holder TEXT NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX lease_expires ON lease (expires);
)sql";

namespace {

constexpr int64_t exchanges_remembered = std::chrono::nanoseconds(std::chrono::hours(24 * 7)).count();

}  // namespace

Result<void> SqliteState::drop_ended(int64_t now) {
  for (const char* table : {"counter", "bucket", "exchange"}) {
    TM_CHECK(Statement(database_, fmt::format("DELETE FROM {} WHERE expires <= ?", table)).bind(now).run());
  }
  return {};
}

Result<bool> SqliteState::is_fresh(const Exchange& exchange, int64_t now) {
  TM_CHECK(
      Statement(database_,
                "INSERT INTO exchange (gateway, expires, number) VALUES (?1, ?2, ?3) ON CONFLICT (gateway) DO UPDATE "
                "SET expires = ?2, number = ?3 WHERE number < ?3")
          .bind(exchange.gateway)
          .bind(now + exchanges_remembered)
          .bind(exchange.number)
          .run());
  return database_.changes() > 0;
}

Result<std::vector<int64_t>> SqliteState::count(std::span<const CounterAdd> additions, bool adds, int64_t now) {
  std::vector<int64_t> values;
  for (const CounterAdd& addition : additions) {
    if (adds) {
      TM_CHECK(Statement(database_,
                         "INSERT INTO counter (key, expires, value) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE "
                         "SET expires = ?2, value = value + ?3")
                   .bind(addition.key)
                   .bind(now + addition.lives.count())
                   .bind(addition.amount)
                   .run());
    }
    Statement value(database_, "SELECT value FROM counter WHERE key = ?");
    TM_TRY(const bool row, value.bind(addition.key).step());
    values.push_back(row ? value.number(0) : 0);
  }
  return values;
}

Result<std::vector<int64_t>> SqliteState::add(std::span<const CounterAdd> additions, int64_t now) {
  TM_CHECK(drop_ended(now));
  return count(additions, true, now);
}

Result<std::vector<int64_t>> SqliteState::read(std::span<const std::string> keys, int64_t now) {
  std::vector<int64_t> values;
  for (const std::string& key : keys) {
    Statement value(database_, "SELECT value FROM counter WHERE key = ? AND expires > ?");
    TM_TRY(const bool row, value.bind(key).bind(now).step());
    values.push_back(row ? value.number(0) : 0);
  }
  return values;
}

Result<Blob> SqliteState::read_blob(std::string_view key) {
  Statement found(database_, "SELECT version, value FROM blob WHERE key = ?");
  TM_TRY(const bool row, found.bind(key).step());
  if (!row) return Blob();
  return Blob{found.number(0), found.bytes(1)};
}

Result<std::optional<int64_t>> SqliteState::replace_blob(std::string_view key, int64_t version,
                                                         std::string_view value) {
  if (version == 0) {
    TM_CHECK(Statement(database_, "INSERT OR IGNORE INTO blob (key, version, value) VALUES (?, 1, ?)")
                 .bind(key)
                 .bind_blob(value)
                 .run());
  } else {
    TM_CHECK(Statement(database_, "UPDATE blob SET version = version + 1, value = ? WHERE key = ? AND version = ?")
                 .bind_blob(value)
                 .bind(key)
                 .bind(version)
                 .run());
  }
  if (database_.changes() == 0) return std::optional<int64_t>();
  return std::optional(version + 1);
}

Result<std::vector<Bucket>> SqliteState::buckets_at(std::span<const BucketTake> takes, int64_t now) {
  std::vector<Bucket> buckets;
  for (const BucketTake& take : takes) {
    Statement found(database_, "SELECT level, filled FROM bucket WHERE key = ?");
    TM_TRY(const bool row, found.bind(take.key).step());
    const Bucket bucket = row ? Bucket{found.real(0), found.number(1)} : Bucket{take.capacity, now};
    buckets.push_back(filled(bucket, take.capacity, take.per_second, now));
  }
  return buckets;
}

Result<void> SqliteState::take_from(std::vector<Bucket>& buckets, std::span<const BucketTake> takes) {
  for (size_t i = 0; i < takes.size(); ++i) {
    const BucketTake& take = takes[i];
    Bucket& bucket = buckets[i];
    bucket = taken(bucket, take.capacity, take.amount);
    TM_CHECK(Statement(database_, "INSERT OR REPLACE INTO bucket (key, expires, level, filled) VALUES (?, ?, ?, ?)")
                 .bind(take.key)
                 .bind(bucket.filled + nanos_to_full(bucket, take.capacity, take.per_second))
                 .bind(bucket.level)
                 .bind(bucket.filled)
                 .run());
  }
  return {};
}

namespace {

std::vector<double> levels_of(const std::vector<Bucket>& buckets) {
  std::vector<double> levels;
  levels.reserve(buckets.size());
  for (const Bucket& bucket : buckets)
    levels.push_back(bucket.level);
  return levels;
}

}  // namespace

Result<BucketLevels> SqliteState::take(std::span<const BucketTake> takes, TakeMode mode, int64_t now) {
  TM_CHECK(drop_ended(now));
  TM_TRY(std::vector<Bucket> buckets, buckets_at(takes, now));
  const bool takes_now = mode == TakeMode::in_debt || enough(buckets, takes);
  if (takes_now) TM_CHECK(take_from(buckets, takes));
  return BucketLevels{takes_now, levels_of(buckets)};
}

Result<Exchanged> SqliteState::exchange(const Exchange& exchange, int64_t now) {
  TM_CHECK(drop_ended(now));
  TM_TRY(const bool fresh, is_fresh(exchange, now));
  Exchanged exchanged;
  TM_TRY(exchanged.counters, count(exchange.additions, fresh, now));
  TM_TRY(std::vector<Bucket> buckets, buckets_at(exchange.takes, now));
  if (fresh) TM_CHECK(take_from(buckets, exchange.takes));
  exchanged.levels = levels_of(buckets);
  return exchanged;
}

Result<void> SqliteState::put_lease(const Lease& lease, int64_t expires) {
  return Statement(database_,
                   "INSERT INTO lease (key, holder, expires) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET "
                   "expires = ?3 WHERE holder = ?2")
      .bind(lease.key)
      .bind(lease.holder)
      .bind(expires)
      .run();
}

// No lease lives for longer than one does from now on: where the clock was set back by more than that, what it says is
// not believed. By less, as when a clock is corrected, those that are held are not to be lost.
Result<bool> SqliteState::take_lease(const Lease& lease, base::Duration lives, int64_t now) {
  TM_CHECK(Statement(database_, "DELETE FROM lease WHERE expires <= ?1 OR (key = ?2 AND expires > ?3)")
               .bind(now)
               .bind(lease.key)
               .bind(now + 2 * lives.count())
               .run());
  TM_CHECK(put_lease(lease, now + lives.count()));
  return database_.changes() > 0;
}

Result<void> SqliteState::keep_leases(std::span<const Lease> leases, base::Duration lives, int64_t now) {
  TM_CHECK(Statement(database_, "DELETE FROM lease WHERE expires <= ?").bind(now).run());
  for (const Lease& lease : leases)
    TM_CHECK(put_lease(lease, now + lives.count()));
  return {};
}

Result<void> SqliteState::end_lease(const Lease& lease) {
  return Statement(database_, "DELETE FROM lease WHERE key = ? AND holder = ?")
      .bind(lease.key)
      .bind(lease.holder)
      .run();
}

}  // namespace tidemill::session
