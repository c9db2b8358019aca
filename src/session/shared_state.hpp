// What gateways share beside conversations: counters, small blobs and token buckets. Every operation is atomic, and
// costs one round trip where the store is on the network.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace tidemill::session {

struct CounterAdd {
  std::string key;
  int64_t amount = 0;    // may be negative
  base::Duration lives;  // the counter ends this long after its last addition
};

// A bucket holds at most `capacity` and gains `per_second`; it starts full. Both come with each call, so that a change
// of configuration needs no migration.
struct BucketTake {
  std::string key;
  double capacity = 0;    // over 0
  double per_second = 0;  // over 0
  double amount = 0;      // negative gives back
};

enum class TakeMode {
  if_enough,  // from all of the buckets, or from none
  in_debt,    // from all of them; a level may fall below 0, but not below -capacity
};

struct BucketLevels {
  bool taken = false;
  std::vector<double> levels;  // one for each bucket, in order, after what was taken
};

// What one gateway tells of what it used, and asks of what all of them have.
struct Exchange {
  std::string gateway;  // a name that no other process has or had
  int64_t number = 0;   // over that of the gateway's exchange before, which must have been answered
  std::vector<CounterAdd> additions;
  std::vector<BucketTake> takes;  // in debt; each key once
};

struct Exchanged {
  std::vector<int64_t> counters;  // as of `add`
  std::vector<double> levels;     // as of `take`
};

struct Blob {
  int64_t version = 0;  // 0: there is none
  std::string value;
};

// Thread-safe; calls may block on a disk or the network (up to the store's deadline), so they belong on no connection's
// thread. Keys are any bytes, and of no tenant.
//
// Errors: `unavailable` (the store is down; nothing was done), `timeout` (the answer is lost: it may have been done, or
// may be yet), `exhausted` (the store is full), `io`, `corrupt`, `too_large` (a blob over max_blob_bytes),
// `invalid_argument` (a bucket without a rate).
class SharedState {
 public:
  static constexpr size_t max_blob_bytes = size_t{16} << 20;

  virtual ~SharedState() = default;

  // The counters after the additions, in order. A counter that does not exist is 0.
  virtual base::Result<std::vector<int64_t>> add(std::span<const CounterAdd> additions) = 0;
  virtual base::Result<std::vector<int64_t>> read(std::span<const std::string> keys) = 0;

  virtual base::Result<Blob> read_blob(std::string_view key) = 0;
  // Writes `value` if the blob still has `version`, and returns the new version; nullopt: it has another by now. Blobs
  // do not end, and make no room for conversations.
  virtual base::Result<std::optional<int64_t>> replace_blob(std::string_view key, int64_t version,
                                                            std::string_view value) = 0;

  // Each key once. Buckets fill by the wall clock of the caller that sees the latest time, so that clocks which differ
  // by a second give a second's worth once, and no more.
  virtual base::Result<BucketLevels> take(std::span<const BucketTake> takes, TakeMode mode) = 0;

  // An exchange counts once, however often it is sent and however late one of those arrives: the store keeps the number
  // of each gateway's last exchange, and of one that is not above it changes nothing. Since a gateway sends the next
  // number only after the last was answered, that one number tells all repetitions; it is written in the same step as
  // what it stands for, so that both are there or neither. It is forgotten after a week without an exchange.
  virtual base::Result<Exchanged> exchange(const Exchange& exchange) = 0;
};

}  // namespace tidemill::session
