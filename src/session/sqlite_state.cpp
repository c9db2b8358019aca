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
  CREATE TABLE once (key TEXT PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX once_expires ON once (expires);
  CREATE TABLE blob (key TEXT PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL);
)sql";

namespace {

constexpr int64_t once_lives = std::chrono::nanoseconds(std::chrono::hours(1)).count();

}  // namespace

Result<void> SqliteState::drop_ended(int64_t now) {
  for (const char* table : {"counter", "bucket", "once"}) {
    TM_CHECK(Statement(database_, fmt::format("DELETE FROM {} WHERE expires <= ?", table)).bind(now).run());
  }
  return {};
}

Result<bool> SqliteState::done(std::string_view once) {
  if (once.empty()) return false;
  return Statement(database_, "SELECT 1 FROM once WHERE key = ?").bind(once).step();
}

Result<void> SqliteState::note(std::string_view once, int64_t now) {
  if (once.empty()) return {};
  return Statement(database_, "INSERT INTO once (key, expires) VALUES (?, ?)").bind(once).bind(now + once_lives).run();
}

Result<std::vector<int64_t>> SqliteState::add(std::span<const CounterAdd> additions, std::string_view once,
                                              int64_t now) {
  TM_CHECK(drop_ended(now));
  TM_TRY(const bool repeated, done(once));
  if (!repeated) TM_CHECK(note(once, now));
  std::vector<int64_t> values;
  for (const CounterAdd& addition : additions) {
    if (!repeated) {
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

Result<BucketLevels> SqliteState::take(std::span<const BucketTake> takes, TakeMode mode, std::string_view once,
                                       int64_t now) {
  TM_CHECK(drop_ended(now));
  TM_TRY(const bool repeated, done(once));
  std::vector<Bucket> buckets;
  for (const BucketTake& take : takes) {
    Statement found(database_, "SELECT level, filled FROM bucket WHERE key = ?");
    TM_TRY(const bool row, found.bind(take.key).step());
    const Bucket bucket = row ? Bucket{found.real(0), found.number(1)} : Bucket{take.capacity, now};
    buckets.push_back(filled(bucket, take.capacity, take.per_second, now));
  }
  const bool takes_now = !repeated && (mode == TakeMode::in_debt || enough(buckets, takes));
  if (takes_now) TM_CHECK(note(once, now));
  BucketLevels outcome{takes_now || repeated, {}};
  for (size_t i = 0; i < takes.size(); ++i) {
    const BucketTake& take = takes[i];
    Bucket& bucket = buckets[i];
    if (takes_now) {
      bucket = taken(bucket, take.capacity, take.amount);
      TM_CHECK(Statement(database_, "INSERT OR REPLACE INTO bucket (key, expires, level, filled) VALUES (?, ?, ?, ?)")
                   .bind(take.key)
                   .bind(bucket.filled + nanos_to_full(bucket, take.capacity, take.per_second))
                   .bind(bucket.level)
                   .bind(bucket.filled)
                   .run());
    }
    outcome.levels.push_back(bucket.level);
  }
  return outcome;
}

}  // namespace tidemill::session
