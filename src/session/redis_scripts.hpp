// What Redis is to do as one step, in its own language.
#pragma once

#include <string>
#include <string_view>

namespace tidemill::session {

struct RedisScript {
  explicit RedisScript(std::string_view source);

  std::string source;
  std::string sha1;  // by which Redis knows a script that it has seen
};

// KEYS: the counters. ARGV: for each its amount and how long it lives in ms. Returns the counters as text, since Lua's
// numbers are doubles.
const RedisScript& add_script();

// KEYS: the buckets. ARGV: the time in us since 1970, whether debts are allowed (1 or 0), then for each bucket its
// capacity, its rate per second and the amount. Returns whether it was taken (1 or 0), and the levels as text. The
// arithmetic is that of bucket.hpp.
const RedisScript& take_script();

// KEYS: a hash of the last exchanges, the counters, the buckets. ARGV: the gateway, the number of its exchange, for how
// many s the hash remembers, the time in us since 1970, how many of the keys are counters, then for each counter and
// each bucket what the scripts above take. Returns the counters, then the levels, as text.
const RedisScript& exchange_script();

// KEYS: the record that must begin in a certain way, the records to write. ARGV: that beginning, how long the records
// live in ms, their values. Returns whether they were written (1 or 0).
const RedisScript& put_if_script();

// A lease that was ended is kept for a while as "ended " and who ended it, so that a command of his that comes late, by
// a connection that was given up, does not bring it back.

// KEYS: the lease. ARGV: its holder, how long it lives in ms. Returns whether it is the holder's now (1 or 0).
const RedisScript& take_lease_script();

// KEYS: the leases. ARGV: how long they live in ms, the holder of each.
const RedisScript& keep_leases_script();

// KEYS: the lease. ARGV: its holder, for how many ms it is known to have ended.
const RedisScript& end_lease_script();

// KEYS: the blob. ARGV: the version it must have, the value. Returns the new version, or 0.
const RedisScript& replace_script();

}  // namespace tidemill::session
