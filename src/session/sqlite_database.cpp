#include "session/sqlite_database.hpp"

#include <fmt/core.h>

namespace tidemill::session {

using base::Error;
using base::ErrorCode;
using base::Result;

Result<SqliteDatabase> SqliteDatabase::open(std::string path, base::Duration lock_wait) {
  sqlite3* raw = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int code = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
  std::unique_ptr<sqlite3, Close> handle(raw);
  if (code != SQLITE_OK) {
    return Error(ErrorCode::io, fmt::format("the session store {} cannot be opened: {}", path, sqlite3_errstr(code)));
  }
  sqlite3_extended_result_codes(raw, 0);
  SqliteDatabase database(std::move(handle), std::move(path));
  database.set_lock_wait(lock_wait);
  return database;
}

void SqliteDatabase::set_lock_wait(base::Duration wait) {
  const auto whole = std::chrono::duration_cast<std::chrono::milliseconds>(wait);
  sqlite3_busy_timeout(handle_.get(), static_cast<int>(whole.count()));
}

Error SqliteDatabase::error() const {
  const int code = sqlite3_errcode(handle_.get());
  const std::string what = fmt::format("the session store {}: {}", path_, sqlite3_errmsg(handle_.get()));
  if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB) {
    return {ErrorCode::corrupt,
            fmt::format("{}; the file is damaged or is no session store: move it away, and a new one is made", what)};
  }
  if (code == SQLITE_FULL) return {ErrorCode::io, what + "; free space on its disk"};
  if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
    return {ErrorCode::unavailable, what + "; another process keeps it locked"};
  }
  return {ErrorCode::io, what};
}

Result<void> SqliteDatabase::execute(const std::string& sql) {
  if (sqlite3_exec(handle_.get(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) return error();
  return {};
}

Result<int64_t> SqliteDatabase::number(std::string_view sql) {
  Statement statement(*this, sql);
  TM_TRY(const bool row, statement.step());
  return row ? statement.number(0) : 0;
}

SqliteDatabase::Statement::Statement(SqliteDatabase& database, std::string_view sql) : database_(database) {
  sqlite3_stmt* raw = nullptr;
  code_ = sqlite3_prepare_v2(database_.handle_.get(), sql.data(), static_cast<int>(sql.size()), &raw, nullptr);
  statement_.reset(raw);
}

SqliteDatabase::Statement& SqliteDatabase::Statement::bind(std::string_view text) {
  if (code_ == SQLITE_OK) {
    code_ = sqlite3_bind_text64(statement_.get(), next_++, text.data(), text.size(), SQLITE_STATIC, SQLITE_UTF8);
  }
  return *this;
}

SqliteDatabase::Statement& SqliteDatabase::Statement::bind_blob(std::string_view bytes) {
  if (code_ == SQLITE_OK) {
    code_ = sqlite3_bind_blob64(statement_.get(), next_++, bytes.data(), bytes.size(), SQLITE_STATIC);
  }
  return *this;
}

SqliteDatabase::Statement& SqliteDatabase::Statement::bind(int64_t number) {
  if (code_ == SQLITE_OK) code_ = sqlite3_bind_int64(statement_.get(), next_++, number);
  return *this;
}

SqliteDatabase::Statement& SqliteDatabase::Statement::bind(double number) {
  if (code_ == SQLITE_OK) code_ = sqlite3_bind_double(statement_.get(), next_++, number);
  return *this;
}

Result<bool> SqliteDatabase::Statement::step() {
  if (code_ == SQLITE_OK) code_ = sqlite3_step(statement_.get());
  if (code_ == SQLITE_ROW) {
    code_ = SQLITE_OK;
    return true;
  }
  if (code_ == SQLITE_DONE) return false;
  return database_.error();
}

Result<void> SqliteDatabase::Statement::run() {
  auto stepped = step();
  if (!stepped) return std::move(stepped).error();
  return {};
}

std::string SqliteDatabase::Statement::bytes(int column) {
  const void* data = sqlite3_column_blob(statement_.get(), column);
  const auto size = static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column));
  return size == 0 ? std::string() : std::string(static_cast<const char*>(data), size);
}

}  // namespace tidemill::session
