// Where conversations are kept between requests, and what gateways share: the state that outlives a role. Values are
// opaque here.
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
#include "session/leases.hpp"
#include "session/shared_state.hpp"

namespace tidemill::session {

struct Record {
  std::string id;
  std::string value;
};

// What a record must still be for a change to be made: that of this id, beginning so.
struct Guard {
  std::string_view id;
  std::string_view begins;  // not empty
};

// Records by tenant and id. A tenant sees its own alone. Thread-safe; calls may block on a disk or the network, so they
// belong neither on the engine's thread nor on a connection's. Errors, each of which concerns the one call: io (the
// disk is full, or refuses), corrupt (the file is damaged), too_large (records over the store's whole size), and of a
// Redis unavailable (it is down or does not answer; a put may yet be done, whole), exhausted (it is full).
class SessionStore {
 public:
  virtual ~SessionStore() = default;

  // All of them or none. Replaces those of the same ids. The oldest records of any tenant go where the store is full;
  // a Redis follows its own maxmemory-policy.
  virtual base::Result<void> put(std::string_view tenant, std::span<const Record> records) = 0;
  // As put, if `guard` holds when it is done, which nobody can change in between; false: it does not, and nothing was
  // done. Not sent again where a Redis's answer is lost: `timeout`, and it may have been done.
  virtual base::Result<bool> put_if(std::string_view tenant, const Guard& guard, std::span<const Record> records) = 0;
  // nullopt: there is none, or its time is over.
  virtual base::Result<std::optional<std::string>> get(std::string_view tenant, std::string_view id) = 0;
  // Whether there was one.
  virtual base::Result<bool> remove(std::string_view tenant, std::string_view id) = 0;
};

// All kinds of state in one place.
class Store : public SessionStore, public SharedState, public Leases {
 public:
  // Whether it answers, for start-up and health checks. Where a write has failed as the store takes none (it is
  // full, its disk is, it is a replica, the file cannot grow), whether it takes one again: as much is written as
  // failed, a mebibyte at most, which nobody sees, and taken away. Errors as above.
  virtual base::Result<void> check() = 0;
};

struct StoreOptions {
  // A file, made where there is none; ":memory:", which ends with the process; or a Redis:
  // redis://[user:password@]host[:port][/database], rediss:// for TLS. User and password are percent-encoded.
  std::string path = ":memory:";
  base::Duration time_to_live = std::chrono::hours(24 * 30);
  uint64_t max_bytes = uint64_t{256} << 20;  // of all records in SQLite; of one conversation in Redis

  // Of a Redis alone.
  base::Duration deadline = std::chrono::milliseconds(500);  // of one call, its connecting included
  size_t max_connections = 16;                               // calls at one time; further ones wait for one to end
  std::string ca_file{};  // PEM, to verify a rediss:// server by; the system's authorities if empty

  // Of SQLite alone: how long a call waits for other processes that write.
  base::Duration lock_wait = std::chrono::seconds(5);

  bool operator==(const StoreOptions&) const = default;
};

// A Redis that was lost is tried again after so long at most, and a file that another process kept locked after so
// long. Calls in between fail at once.
inline constexpr base::Duration longest_pause = std::chrono::seconds(2);

// The store that `options.path` names. A Redis need not be there yet: it is connected to when it is needed, and again
// after it was lost, after pauses that grow from 50 ms to longest_pause; calls within a pause fail at once.
// Errors: those of open_sqlite_store; `invalid_argument` for an address that is none; `io` for an unreadable ca_file.
base::Result<std::unique_ptr<Store>> open_store(const StoreOptions& options,
                                                const base::Clock& clock = base::SystemClock::instance());

// A store in SQLite: one file (with its -wal and -shm beside it), readable by its owner alone, which several processes
// may share. Errors: `corrupt` for a file that is damaged or no such store, `unsupported` for one that a newer version
// wrote, `io`; each names the file and what to do.
base::Result<std::unique_ptr<Store>> open_sqlite_store(const StoreOptions& options,
                                                       const base::Clock& clock = base::SystemClock::instance());

}  // namespace tidemill::session
