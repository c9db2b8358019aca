// One SQLite database and its statements, with errors as values.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <sqlite3.h>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace tidemill::session {

// Not thread-safe: one call at a time.
class SqliteDatabase {
 public:
  // Errors: `io`, naming the path.
  static base::Result<SqliteDatabase> open(std::string path, base::Duration lock_wait);

  const std::string& path() const { return path_; }
  // How long calls wait for other processes from now on.
  void set_lock_wait(base::Duration wait);
  base::Result<void> execute(const std::string& sql);
  // The first column of its first row; 0 if there is no row.
  base::Result<int64_t> number(std::string_view sql);
  // What the last call met: `corrupt` for a damaged file, `unavailable` where another process has kept it locked, else
  // `io`; says what to do.
  base::Error error() const;
  // Rows that the last statement changed.
  int changes() const { return sqlite3_changes(handle_.get()); }

  // Runs `work` (which returns a Result) as a whole or not at all, alone among all processes.
  template <typename Work>
  auto transact(const Work& work) -> decltype(work()) {
    TM_CHECK(execute("BEGIN IMMEDIATE"));
    auto done = work();
    if (!done) {
      (void)execute("ROLLBACK");
      return done;
    }
    if (auto kept = execute("COMMIT"); !kept) {
      (void)execute("ROLLBACK");
      return std::move(kept).error();
    }
    return done;
  }

  // A statement with its parameters; ends with its scope. After an error all further calls do nothing.
  class Statement {
   public:
    Statement(SqliteDatabase& database, std::string_view sql);
    Statement& bind(std::string_view text);
    Statement& bind_blob(std::string_view bytes);
    Statement& bind(int64_t number);
    Statement& bind(double number);
    // Whether there is a row.
    base::Result<bool> step();
    base::Result<void> run();
    int64_t number(int column) { return sqlite3_column_int64(statement_.get(), column); }
    double real(int column) { return sqlite3_column_double(statement_.get(), column); }
    std::string bytes(int column);

   private:
    struct Finish {
      void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
    };
    SqliteDatabase& database_;
    std::unique_ptr<sqlite3_stmt, Finish> statement_;
    int next_ = 1;
    int code_ = SQLITE_OK;
  };

 private:
  struct Close {
    void operator()(sqlite3* handle) const { sqlite3_close_v2(handle); }
  };
  SqliteDatabase(std::unique_ptr<sqlite3, Close> handle, std::string path)
      : handle_(std::move(handle)), path_(std::move(path)) {}

  std::unique_ptr<sqlite3, Close> handle_;
  std::string path_;
};

}  // namespace tidemill::session
