#include <fcntl.h>
#include <limits>
#include <mutex>
#include <sqlite3.h>
#include <unistd.h>
#include <utility>

#include <fmt/core.h>

#include "session/session_store.hpp"

namespace tidemill::session {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr int application_id = 0x54494445;  // "TIDE"
constexpr int schema_version = 1;
constexpr int busy_timeout_ms = 5000;
// What a record takes beside its value, about: its row, its index entry.
constexpr int64_t row_overhead = 128;

// The totals are kept by triggers, so that several processes agree on them. AUTOINCREMENT makes `age` an order of
// arrival.
constexpr const char* schema = R"sql(
  CREATE TABLE record (
    age INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    expires INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (tenant, id));
  CREATE INDEX record_expires ON record (expires);
  CREATE TABLE total (bytes INTEGER NOT NULL);
  INSERT INTO total VALUES (0);
  CREATE TRIGGER record_added AFTER INSERT ON record BEGIN UPDATE total SET bytes = bytes + new.bytes; END;
  CREATE TRIGGER record_removed AFTER DELETE ON record BEGIN UPDATE total SET bytes = bytes - old.bytes; END;
)sql";

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
struct FinishStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Database = std::unique_ptr<sqlite3, CloseDatabase>;

class SqliteStore final : public SessionStore {
 public:
  SqliteStore(Database database, StoreOptions options, const base::Clock& clock)
      : database_(std::move(database)), options_(std::move(options)), clock_(clock) {}

  Result<void> prepare_file();

  Result<void> put(std::string_view tenant, std::span<const Record> records) override;
  Result<std::optional<std::string>> get(std::string_view tenant, std::string_view id) override;
  Result<bool> remove(std::string_view tenant, std::string_view id) override;

 private:
  // A statement with its parameters; ends with its scope. After an error all further calls do nothing.
  class Statement {
   public:
    Statement(SqliteStore& store, std::string_view sql) : store_(store) {
      sqlite3_stmt* raw = nullptr;
      code_ = sqlite3_prepare_v2(store.database_.get(), sql.data(), static_cast<int>(sql.size()), &raw, nullptr);
      statement_.reset(raw);
    }
    Statement& bind(std::string_view text) {
      if (code_ == SQLITE_OK) {
        code_ = sqlite3_bind_text64(statement_.get(), next_++, text.data(), text.size(), SQLITE_STATIC, SQLITE_UTF8);
      }
      return *this;
    }
    Statement& bind_blob(std::string_view bytes) {
      if (code_ == SQLITE_OK) {
        code_ = sqlite3_bind_blob64(statement_.get(), next_++, bytes.data(), bytes.size(), SQLITE_STATIC);
      }
      return *this;
    }
    Statement& bind(int64_t number) {
      if (code_ == SQLITE_OK) code_ = sqlite3_bind_int64(statement_.get(), next_++, number);
      return *this;
    }
    // Whether there is a row.
    Result<bool> step() {
      if (code_ == SQLITE_OK) code_ = sqlite3_step(statement_.get());
      if (code_ == SQLITE_ROW) {
        code_ = SQLITE_OK;
        return true;
      }
      if (code_ == SQLITE_DONE) return false;
      return store_.error();
    }
    Result<void> run() {
      auto stepped = step();
      if (!stepped) return std::move(stepped).error();
      return {};
    }
    int64_t number(int column) { return sqlite3_column_int64(statement_.get(), column); }
    std::string bytes(int column) {
      const void* data = sqlite3_column_blob(statement_.get(), column);
      const auto size = static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column));
      return size == 0 ? std::string() : std::string(static_cast<const char*>(data), size);
    }

   private:
    SqliteStore& store_;
    std::unique_ptr<sqlite3_stmt, FinishStatement> statement_;
    int next_ = 1;
    int code_ = SQLITE_OK;
  };

  Error error() const;
  Result<void> execute(const char* sql);
  Result<int64_t> pragma(std::string_view name);
  Result<void> create_schema();
  // What a put does, within its transaction.
  Result<void> write(std::string_view tenant, std::span<const Record> records);
  Result<void> make_room(int64_t bytes);
  int64_t now() const { return base::unix_nanos(clock_.wall_now()) / 1'000'000'000; }

  std::mutex mutex_;
  Database database_;
  const StoreOptions options_;
  const base::Clock& clock_;
};

Error SqliteStore::error() const {
  const int code = sqlite3_errcode(database_.get());
  const std::string what = fmt::format("the session store {}: {}", options_.path, sqlite3_errmsg(database_.get()));
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
    return {ErrorCode::corrupt,
            fmt::format("{}; the file is damaged or is no session store: move it away, and a new one is made", what)};
  }
  if (code == SQLITE_FULL) return {ErrorCode::io, what + "; free space on its disk"};
  return {ErrorCode::io, what};
}

Result<void> SqliteStore::execute(const char* sql) {
  if (sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) return error();
  return {};
}

Result<int64_t> SqliteStore::pragma(std::string_view name) {
  Statement statement(*this, fmt::format("PRAGMA {}", name));
  TM_TRY(const bool row, statement.step());
  return row ? statement.number(0) : 0;
}

Result<void> SqliteStore::create_schema() {
  TM_CHECK(execute("BEGIN IMMEDIATE"));
  TM_TRY(const int64_t version, pragma("user_version"));
  if (version == 0) {  // another process may have been faster
    auto made = execute(schema);
    if (made) {
      made = execute(
          fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}", application_id, schema_version).c_str());
    }
    if (!made) {
      (void)execute("ROLLBACK");
      return made;
    }
  }
  return execute("COMMIT");
}

Result<void> SqliteStore::prepare_file() {
  sqlite3_busy_timeout(database_.get(), busy_timeout_ms);
  sqlite3_extended_result_codes(database_.get(), 0);
  TM_TRY(const int64_t version, pragma("user_version"));
  TM_TRY(const int64_t application, pragma("application_id"));
  TM_TRY(const int64_t tables, [&]() -> Result<int64_t> {
    Statement count(*this, "SELECT count(*) FROM sqlite_master");
    TM_CHECK(count.step());
    return count.number(0);
  }());
  const bool fresh = version == 0 && application == 0 && tables == 0;
  if (!fresh && application != application_id) {
    return Error(ErrorCode::corrupt,
                 fmt::format("{} is a database, but no session store: name another file", options_.path));
  }
  if (version > schema_version) {
    return Error(ErrorCode::unsupported,
                 fmt::format("the session store {} has format {}, of a newer version; this one reads format {}",
                             options_.path, version, schema_version));
  }
  // A write-ahead log: readers do not wait for writers, and a crash loses at most what was not yet synchronised.
  TM_CHECK(execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY"));
  if (fresh) return create_schema();
  Statement check(*this, "PRAGMA quick_check(1)");
  TM_CHECK(check.step());
  if (const std::string found = check.bytes(0); found != "ok") {
    return Error(ErrorCode::corrupt, fmt::format("the session store {} is damaged ({}): move it away, and a new one is "
                                                 "made",
                                                 options_.path, found));
  }
  return {};
}

Result<void> SqliteStore::make_room(int64_t bytes) {
  TM_CHECK(Statement(*this, "DELETE FROM record WHERE expires <= ?").bind(now()).run());
  const auto limit =
      static_cast<int64_t>(std::min(options_.max_bytes, static_cast<uint64_t>(std::numeric_limits<int64_t>::max())));
  while (true) {
    Statement total(*this, "SELECT bytes FROM total");
    TM_CHECK(total.step());
    if (total.number(0) + bytes <= limit) return {};
    TM_CHECK(Statement(*this, "DELETE FROM record WHERE age = (SELECT min(age) FROM record)").run());
    if (sqlite3_changes(database_.get()) == 0) return {};
  }
}

Result<void> SqliteStore::write(std::string_view tenant, std::span<const Record> records) {
  int64_t bytes = 0;
  for (const Record& record : records) {
    TM_CHECK(Statement(*this, "DELETE FROM record WHERE tenant = ? AND id = ?").bind(tenant).bind(record.id).run());
    bytes += static_cast<int64_t>(record.value.size()) + row_overhead;
  }
  TM_CHECK(make_room(bytes));
  const int64_t expires = now() + std::chrono::duration_cast<std::chrono::seconds>(options_.time_to_live).count();
  for (const Record& record : records) {
    TM_CHECK(Statement(*this, "INSERT INTO record (tenant, id, expires, bytes, value) VALUES (?, ?, ?, ?, ?)")
                 .bind(tenant)
                 .bind(record.id)
                 .bind(expires)
                 .bind(static_cast<int64_t>(record.value.size()) + row_overhead)
                 .bind_blob(record.value)
                 .run());
  }
  return {};
}

Result<void> SqliteStore::put(std::string_view tenant, std::span<const Record> records) {
  uint64_t bytes = 0;
  for (const Record& record : records)
    bytes += record.value.size() + row_overhead;
  if (bytes > options_.max_bytes) {
    return Error(ErrorCode::too_large,
                 fmt::format("the conversation takes {} bytes, the session store {} at most: set session.max_size, or "
                             "send 'store': false",
                             bytes, options_.max_bytes));
  }
  const std::lock_guard lock(mutex_);
  TM_CHECK(execute("BEGIN IMMEDIATE"));
  auto done = write(tenant, records);
  if (done) done = execute("COMMIT");
  if (!done) (void)execute("ROLLBACK");
  return done;
}

Result<std::optional<std::string>> SqliteStore::get(std::string_view tenant, std::string_view id) {
  const std::lock_guard lock(mutex_);
  Statement found(*this, "SELECT value FROM record WHERE tenant = ? AND id = ? AND expires > ?");
  TM_TRY(const bool row, found.bind(tenant).bind(id).bind(now()).step());
  if (!row) return std::optional<std::string>();
  return std::optional(found.bytes(0));
}

Result<bool> SqliteStore::remove(std::string_view tenant, std::string_view id) {
  const std::lock_guard lock(mutex_);
  Statement removal(*this, "DELETE FROM record WHERE tenant = ? AND id = ? RETURNING expires");
  TM_TRY(const bool row, removal.bind(tenant).bind(id).step());
  const bool lived = row && removal.number(0) > now();
  if (row) TM_CHECK(removal.run());  // to its end, which commits
  return lived;
}

// The conversations are their owner's alone; SQLite gives its other files the same mode.
Result<void> make_private(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) {
    return Error(ErrorCode::io, fmt::format("the session store {} cannot be opened for writing: {}", path,
                                            std::generic_category().message(errno)));
  }
  ::close(file);
  return {};
}

}  // namespace

Result<std::unique_ptr<SessionStore>> open_sqlite_store(const StoreOptions& options, const base::Clock& clock) {
  if (options.path != ":memory:") TM_CHECK(make_private(options.path));
  sqlite3* raw = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int code = sqlite3_open_v2(options.path.c_str(), &raw, flags, nullptr);
  Database database(raw);
  if (code != SQLITE_OK) {
    return Error(ErrorCode::io,
                 fmt::format("the session store {} cannot be opened: {}", options.path, sqlite3_errstr(code)));
  }
  auto store = std::make_unique<SqliteStore>(std::move(database), options, clock);
  TM_CHECK(store->prepare_file());
  return std::unique_ptr<SessionStore>(std::move(store));
}

}  // namespace tidemill::session
