#include <algorithm>
#include <fcntl.h>
#include <limits>
#include <mutex>
#include <optional>
#include <unistd.h>
#include <utility>

#include <fmt/core.h>

#include "session/refused_writes.hpp"
#include "session/session_store.hpp"
#include "session/sqlite_database.hpp"
#include "session/sqlite_state.hpp"
#include "session/state_checks.hpp"

namespace tidemill::session {

using base::Error;
using base::ErrorCode;
using base::Result;
using Statement = SqliteDatabase::Statement;

namespace {

constexpr int application_id = 0x54494445;  // "TIDE"
constexpr int schema_version = 4;
// What a record takes beside its value, about: its row, its index entry.
constexpr uint64_t row_overhead = 128;
// Of what is written to find out whether anything can be, and whose it is.
constexpr uint64_t least_probe = 4096;
constexpr uint64_t most_probe = uint64_t{1} << 20;
constexpr std::string_view nobody = "\x01nobody";
// How long a file that was found locked is waited for from then on.
constexpr base::Duration glance = std::chrono::milliseconds(100);

// The totals are kept by triggers, so that several processes agree on them. AUTOINCREMENT makes `age` an order of
// arrival.
constexpr const char* record_schema = R"sql(
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

// Keeps callers from waiting one after the other, each as long as it may take, for a file that another process keeps
// locked. Thread-safe.
class LockPause {
 public:
  explicit LockPause(const base::Clock& clock) : clock_(clock) {}

  // unavailable: the file was found locked a moment ago, or somebody is finding out whether it still is.
  Result<void> check() const {
    const std::lock_guard lock(mutex_);
    return until_ && (trying_ || clock_.now() < *until_) ? refused() : Result<void>();
  }
  // The same for the one caller whose turn it is, who says afterwards what it has found. True: the pause is over, and
  // it finds out for all.
  Result<bool> begin() {
    const std::lock_guard lock(mutex_);
    if (until_ && clock_.now() < *until_) return refused();
    return trying_ = until_.has_value();
  }
  // It was found locked, and nobody has found it otherwise since.
  bool begun() const {
    const std::lock_guard lock(mutex_);
    return until_.has_value();
  }
  void end(bool locked) {
    const std::lock_guard lock(mutex_);
    trying_ = false;
    until_.reset();
    if (locked) until_ = clock_.now() + longest_pause;
  }

 private:
  static Error refused() {
    return {ErrorCode::unavailable, "the session store's file is locked by another process; it is tried again soon"};
  }

  const base::Clock& clock_;
  mutable std::mutex mutex_;
  std::optional<base::SteadyTime> until_;  // a pause, which was the end of a call that found it locked
  bool trying_ = false;
};

class SqliteStore final : public Store {
 public:
  SqliteStore(SqliteDatabase database, StoreOptions options, const base::Clock& clock)
      : database_(std::move(database)), options_(std::move(options)), clock_(clock), pause_(clock) {}

  Result<void> prepare_file();
  // From now on what reads goes over this one to the same file, so that it waits for none of those who write.
  void read_by(SqliteDatabase reader) {
    reader_.emplace(std::move(reader));
    state_read_.emplace(*reader_);
  }

  Result<void> check() override;
  Result<void> put(std::string_view tenant, std::span<const Record> records) override;
  Result<bool> put_if(std::string_view tenant, const Guard& guard, std::span<const Record> records) override;
  Result<std::optional<std::string>> get(std::string_view tenant, std::string_view id) override;
  Result<bool> remove(std::string_view tenant, std::string_view id) override;

  Result<std::vector<int64_t>> add(std::span<const CounterAdd> additions) override;
  Result<std::vector<int64_t>> read(std::span<const std::string> keys) override;
  Result<Blob> read_blob(std::string_view key) override;
  Result<std::optional<int64_t>> replace_blob(std::string_view key, int64_t version, std::string_view value) override;
  Result<BucketLevels> take(std::span<const BucketTake> takes, TakeMode mode) override;
  Result<Exchanged> exchange(const Exchange& exchange) override;

  Result<bool> take_lease(const Lease& lease, base::Duration lives) override;
  Result<void> keep_leases(std::span<const Lease> leases, base::Duration lives) override;
  Result<void> end_lease(const Lease& lease) override;

 private:
  // Run `work`, which returns a Result, while nobody else uses the database that it is given. Who reads waits for no
  // other process, nor for those who wait for one to write.
  template <typename Work>
  auto reading(const Work& work) -> decltype(work(std::declval<SqliteDatabase&>(), std::declval<SqliteState&>())) {
    if (!reader_) {
      const std::lock_guard lock(mutex_);
      return work(database_, state_);
    }
    const std::lock_guard lock(reader_mutex_);
    return work(*reader_, *state_read_);
  }
  // `bytes`: of the records that it writes.
  template <typename Work>
  auto writing(const Work& work, uint64_t bytes = 0) -> decltype(work()) {
    TM_CHECK(pause_.check());
    const std::lock_guard lock(mutex_);
    TM_TRY(const bool again, pause_.begin());
    if (again) database_.set_lock_wait(std::min(glance, options_.lock_wait));
    auto done = work();
    if (again) database_.set_lock_wait(options_.lock_wait);
    pause_.end(!done && done.error().code() == ErrorCode::unavailable);
    // The disk is full, or the file cannot grow.
    if (!done && done.error().code() == ErrorCode::io) refused_.note(bytes);
    return done;
  }
  // Makes the tables that are missing: all of them, or those that came after the file was made.
  Result<void> create_schema();
  Result<void> write_probe();
  // What a put does, within its transaction. `bytes`: of all records.
  Result<void> write(std::string_view tenant, std::span<const Record> records, uint64_t bytes);
  Result<void> make_room(int64_t bytes);
  // Whether `guard` holds; within a transaction, too.
  Result<bool> holds(std::string_view tenant, const Guard& guard);
  int64_t now_nanos() const { return base::unix_nanos(clock_.wall_now()); }
  int64_t now() const { return now_nanos() / 1'000'000'000; }

  std::mutex mutex_;
  SqliteDatabase database_;
  SqliteState state_{database_};
  std::mutex reader_mutex_;
  std::optional<SqliteDatabase> reader_;  // none: a database in memory, which has one connection alone
  std::optional<SqliteState> state_read_;
  const StoreOptions options_;
  const base::Clock& clock_;
  LockPause pause_;
  RefusedWrites refused_;
};

Result<void> SqliteStore::create_schema() {
  return database_.transact([&]() -> Result<void> {
    TM_TRY(const int64_t version, database_.number("PRAGMA user_version"));  // another process may have been faster
    if (version < 1) TM_CHECK(database_.execute(record_schema));
    if (version < 2) TM_CHECK(database_.execute(sqlite_state_schema));
    if (version < 3) TM_CHECK(database_.execute(sqlite_state_schema_3));
    if (version < 4) TM_CHECK(database_.execute(sqlite_state_schema_4));
    return database_.execute(
        fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}", application_id, schema_version));
  });
}

Result<void> SqliteStore::prepare_file() {
  TM_TRY(const int64_t version, database_.number("PRAGMA user_version"));
  TM_TRY(const int64_t application, database_.number("PRAGMA application_id"));
  TM_TRY(const int64_t tables, database_.number("SELECT count(*) FROM sqlite_master"));
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
  TM_CHECK(database_.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY"));
  if (fresh) return create_schema();
  {
    Statement check(database_, "PRAGMA quick_check(1)");
    TM_CHECK(check.step());
    if (const std::string found = check.bytes(0); found != "ok") {
      return Error(ErrorCode::corrupt,
                   fmt::format("the session store {} is damaged ({}): move it away, and a new one is "
                               "made",
                               options_.path, found));
    }
  }
  if (version < schema_version) return create_schema();
  return {};
}

Result<void> SqliteStore::make_room(int64_t bytes) {
  TM_CHECK(Statement(database_, "DELETE FROM record WHERE expires <= ?").bind(now()).run());
  const auto limit =
      static_cast<int64_t>(std::min(options_.max_bytes, static_cast<uint64_t>(std::numeric_limits<int64_t>::max())));
  while (true) {
    Statement total(database_, "SELECT bytes FROM total");
    TM_CHECK(total.step());
    if (total.number(0) + bytes <= limit) return {};
    TM_CHECK(Statement(database_, "DELETE FROM record WHERE age = (SELECT min(age) FROM record)").run());
    if (database_.changes() == 0) return {};
  }
}

Result<void> SqliteStore::write(std::string_view tenant, std::span<const Record> records, uint64_t bytes) {
  for (const Record& record : records)
    TM_CHECK(Statement(database_, "DELETE FROM record WHERE tenant = ? AND id = ?").bind(tenant).bind(record.id).run());
  TM_CHECK(make_room(static_cast<int64_t>(bytes)));
  const int64_t expires = now() + std::chrono::duration_cast<std::chrono::seconds>(options_.time_to_live).count();
  for (const Record& record : records) {
    TM_CHECK(Statement(database_, "INSERT INTO record (tenant, id, expires, bytes, value) VALUES (?, ?, ?, ?, ?)")
                 .bind(tenant)
                 .bind(record.id)
                 .bind(expires)
                 .bind(static_cast<int64_t>(record.value.size() + row_overhead))
                 .bind_blob(record.value)
                 .run());
  }
  return {};
}

Result<void> SqliteStore::put(std::string_view tenant, std::span<const Record> records) {
  TM_TRY(const uint64_t bytes, check_size(records, row_overhead, options_.max_bytes, Keeps::response));
  return writing([&] { return database_.transact([&] { return write(tenant, records, bytes); }); }, bytes);
}

Result<std::optional<std::string>> SqliteStore::get(std::string_view tenant, std::string_view id) {
  return reading([&](SqliteDatabase& database, SqliteState&) -> Result<std::optional<std::string>> {
    Statement found(database, "SELECT value FROM record WHERE tenant = ? AND id = ? AND expires > ?");
    TM_TRY(const bool row, found.bind(tenant).bind(id).bind(now()).step());
    if (!row) return std::optional<std::string>();
    return std::optional(found.bytes(0));
  });
}

Result<bool> SqliteStore::holds(std::string_view tenant, const Guard& guard) {
  Statement found(database_,
                  "SELECT 1 FROM record WHERE tenant = ? AND id = ? AND expires > ? AND substr(value, 1, ?) = ?");
  found.bind(tenant).bind(guard.id).bind(now()).bind(static_cast<int64_t>(guard.begins.size()));
  return found.bind_blob(guard.begins).step();
}

Result<bool> SqliteStore::put_if(std::string_view tenant, const Guard& guard, std::span<const Record> records) {
  TM_TRY(const uint64_t bytes, check_size(records, row_overhead, options_.max_bytes, Keeps::conversation));
  const auto work = [&]() -> Result<bool> {
    TM_TRY(const bool unchanged, holds(tenant, guard));
    if (unchanged) TM_CHECK(write(tenant, records, bytes));
    return unchanged;
  };
  return writing([&] { return database_.transact(work); }, bytes);
}

Result<bool> SqliteStore::remove(std::string_view tenant, std::string_view id) {
  return writing([&]() -> Result<bool> {
    Statement removal(database_, "DELETE FROM record WHERE tenant = ? AND id = ? RETURNING expires");
    TM_TRY(const bool row, removal.bind(tenant).bind(id).step());
    const bool lived = row && removal.number(0) > now();
    if (row) TM_CHECK(removal.run());  // to its end, which commits
    return lived;
  });
}

// Writes as much as what could not be written last, or nearly, and takes it away again.
Result<void> SqliteStore::write_probe() {
  const auto size = static_cast<size_t>(refused_.probe_bytes(least_probe, most_probe));
  const Record probe{.id = "probe", .value = std::string(size, '\0')};
  TM_CHECK(database_.transact([&]() -> Result<void> {
    return Statement(database_,
                     "INSERT OR REPLACE INTO record (tenant, id, expires, bytes, value) VALUES (?, ?, 0, 0, ?)")
        .bind(nobody)
        .bind(probe.id)
        .bind_blob(probe.value)
        .run();
  }));
  TM_CHECK(database_.transact([&] {
    return Statement(database_, "DELETE FROM record WHERE tenant = ? AND id = ?").bind(nobody).bind(probe.id).run();
  }));
  refused_.forget();
  return {};
}

Result<void> SqliteStore::check() {
  if (refused_.any()) return writing([&] { return write_probe(); });
  if (pause_.begun()) return writing([&] { return database_.transact([] { return Result<void>(); }); });
  return reading([](SqliteDatabase& database, SqliteState&) -> Result<void> {
    TM_CHECK(database.number("SELECT bytes FROM total"));
    return {};
  });
}

Result<std::vector<int64_t>> SqliteStore::add(std::span<const CounterAdd> additions) {
  return writing([&] { return database_.transact([&] { return state_.add(additions, now_nanos()); }); });
}

Result<std::vector<int64_t>> SqliteStore::read(std::span<const std::string> keys) {
  return reading([&](SqliteDatabase&, SqliteState& state) { return state.read(keys, now_nanos()); });
}

Result<Blob> SqliteStore::read_blob(std::string_view key) {
  return reading([&](SqliteDatabase&, SqliteState& state) { return state.read_blob(key); });
}

Result<std::optional<int64_t>> SqliteStore::replace_blob(std::string_view key, int64_t version,
                                                         std::string_view value) {
  TM_CHECK(check_blob(key, value));
  return writing([&] { return database_.transact([&] { return state_.replace_blob(key, version, value); }); });
}

Result<BucketLevels> SqliteStore::take(std::span<const BucketTake> takes, TakeMode mode) {
  TM_CHECK(check_takes(takes));
  return writing([&] { return database_.transact([&] { return state_.take(takes, mode, now_nanos()); }); });
}

Result<Exchanged> SqliteStore::exchange(const Exchange& exchange) {
  TM_CHECK(check_takes(exchange.takes));
  return writing([&] { return database_.transact([&] { return state_.exchange(exchange, now_nanos()); }); });
}

Result<bool> SqliteStore::take_lease(const Lease& lease, base::Duration lives) {
  return writing([&] { return database_.transact([&] { return state_.take_lease(lease, lives, now_nanos()); }); });
}

Result<void> SqliteStore::keep_leases(std::span<const Lease> leases, base::Duration lives) {
  return writing([&] { return database_.transact([&] { return state_.keep_leases(leases, lives, now_nanos()); }); });
}

Result<void> SqliteStore::end_lease(const Lease& lease) {
  return writing([&] { return database_.transact([&] { return state_.end_lease(lease); }); });
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

Result<std::unique_ptr<Store>> open_sqlite_store(const StoreOptions& options, const base::Clock& clock) {
  if (options.path != ":memory:") TM_CHECK(make_private(options.path));
  TM_TRY(SqliteDatabase database, SqliteDatabase::open(options.path, options.lock_wait));
  auto store = std::make_unique<SqliteStore>(std::move(database), options, clock);
  TM_CHECK(store->prepare_file());
  if (options.path != ":memory:") {
    TM_TRY(SqliteDatabase reader, SqliteDatabase::open(options.path, std::min(glance, options.lock_wait)));
    store->read_by(std::move(reader));
  }
  return std::unique_ptr<Store>(std::move(store));
}

}  // namespace tidemill::session
