// Where conversations are kept between requests: the state that outlives a role. Values are opaque here.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace tidemill::session {

struct Record {
  std::string id;
  std::string value;
};

// Records by tenant and id. A tenant sees its own alone. Thread-safe; calls may block on a disk, so they belong neither
// on the engine's thread nor on a connection's. Errors: io (the disk is full, or refuses), corrupt (the file is
// damaged), too_large (a record over the store's whole size); each concerns the one call.
class SessionStore {
 public:
  virtual ~SessionStore() = default;

  // All of them or none. Replaces those of the same ids. The oldest records of any tenant go where the store is full.
  virtual base::Result<void> put(std::string_view tenant, std::span<const Record> records) = 0;
  // nullopt: there is none, or its time is over.
  virtual base::Result<std::optional<std::string>> get(std::string_view tenant, std::string_view id) = 0;
  // Whether there was one.
  virtual base::Result<bool> remove(std::string_view tenant, std::string_view id) = 0;
};

struct StoreOptions {
  std::string path = ":memory:";  // a file, made where there is none; or memory, which ends with the process
  base::Duration time_to_live = std::chrono::hours(24 * 30);
  uint64_t max_bytes = uint64_t{256} << 20;  // of all records
};

// A store in SQLite: one file (with its -wal and -shm beside it), readable by its owner alone, which several processes
// may share. Errors: `corrupt` for a file that is damaged or no such store, `unsupported` for one that a newer version
// wrote, `io`; each names the file and what to do.
base::Result<std::unique_ptr<SessionStore>> open_sqlite_store(const StoreOptions& options,
                                                              const base::Clock& clock = base::SystemClock::instance());

}  // namespace tidemill::session
