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

// KEYS: the key of `once` and the counters. ARGV: how long `once` counts in ms (0: there is none), then for each
// counter its amount and how long it lives in ms. Returns the counters as text, since Lua's numbers are doubles.
const RedisScript& add_script();

// KEYS: the key of `once` and the buckets. ARGV: how long `once` counts in ms (0: there is none), the time in us since
// 1970, whether debts are allowed (1 or 0), then for each bucket its capacity, its rate per second and the amount.
// Returns whether it was taken (1 or 0), and the levels as text. The arithmetic is that of bucket.hpp.
const RedisScript& take_script();

// KEYS: the blob. ARGV: the version it must have, the value. Returns the new version, or 0.
const RedisScript& replace_script();

}  // namespace tidemill::session
