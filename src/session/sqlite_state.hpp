// Counters, blobs, buckets and leases in SQLite: each call is one transaction, shared by all processes that use the
// file.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "session/bucket.hpp"
#include "session/leases.hpp"
#include "session/shared_state.hpp"
#include "session/sqlite_database.hpp"

namespace tidemill::session {

// The tables that this state needs. They came with the second version of the store's file; what changed with the third,
// and with the fourth.
extern const char* const sqlite_state_schema;
extern const char* const sqlite_state_schema_3;
extern const char* const sqlite_state_schema_4;

// To be called within a transaction. `now` is in nanoseconds since the Unix epoch.
class SqliteState {
 public:
  explicit SqliteState(SqliteDatabase& database) : database_(database) {}

  base::Result<std::vector<int64_t>> add(std::span<const CounterAdd> additions, int64_t now);
  base::Result<std::vector<int64_t>> read(std::span<const std::string> keys, int64_t now);
  base::Result<Blob> read_blob(std::string_view key);
  base::Result<std::optional<int64_t>> replace_blob(std::string_view key, int64_t version, std::string_view value);
  base::Result<BucketLevels> take(std::span<const BucketTake> takes, TakeMode mode, int64_t now);
  base::Result<Exchanged> exchange(const Exchange& exchange, int64_t now);
  base::Result<bool> take_lease(const Lease& lease, base::Duration lives, int64_t now);
  base::Result<void> keep_leases(std::span<const Lease> leases, base::Duration lives, int64_t now);
  base::Result<void> end_lease(const Lease& lease);

 private:
  // Whether it is none that was told before; notes that it is now.
  base::Result<bool> is_fresh(const Exchange& exchange, int64_t now);
  // The counters, with the additions if these are to be done.
  base::Result<std::vector<int64_t>> count(std::span<const CounterAdd> additions, bool adds, int64_t now);
  // The buckets as they are now, and what is taken from them.
  base::Result<std::vector<Bucket>> buckets_at(std::span<const BucketTake> takes, int64_t now);
  base::Result<void> take_from(std::vector<Bucket>& buckets, std::span<const BucketTake> takes);
  base::Result<void> drop_ended(int64_t now);
  // Unless another has it.
  base::Result<void> put_lease(const Lease& lease, int64_t expires);

  SqliteDatabase& database_;
};

}  // namespace tidemill::session
