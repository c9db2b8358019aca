// Counters, blobs and buckets in SQLite: each call is one transaction, shared by all processes that use the file.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "session/shared_state.hpp"
#include "session/sqlite_database.hpp"

namespace tidemill::session {

// The tables that this state needs. They came with the second version of the store's file.
extern const char* const sqlite_state_schema;

// To be called within a transaction. `now` is in nanoseconds since the Unix epoch.
class SqliteState {
 public:
  explicit SqliteState(SqliteDatabase& database) : database_(database) {}

  base::Result<std::vector<int64_t>> add(std::span<const CounterAdd> additions, std::string_view once, int64_t now);
  base::Result<std::vector<int64_t>> read(std::span<const std::string> keys, int64_t now);
  base::Result<Blob> read_blob(std::string_view key);
  base::Result<std::optional<int64_t>> replace_blob(std::string_view key, int64_t version, std::string_view value);
  base::Result<BucketLevels> take(std::span<const BucketTake> takes, TakeMode mode, std::string_view once, int64_t now);

 private:
  // Whether a call of that name has had its effect, and that it has.
  base::Result<bool> done(std::string_view once);
  base::Result<void> note(std::string_view once, int64_t now);
  base::Result<void> drop_ended(int64_t now);

  SqliteDatabase& database_;
};

}  // namespace tidemill::session
