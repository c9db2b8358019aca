#include "session/redis_scripts.hpp"

#include <array>

#include <fmt/core.h>
#include <openssl/sha.h>

namespace tidemill::session {

RedisScript::RedisScript(std::string_view text) : source(text) {
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest{};
  SHA1(reinterpret_cast<const unsigned char*>(source.data()), source.size(), digest.data());
  for (const unsigned char byte : digest)
    sha1 += fmt::format("{:02x}", byte);
}

namespace {

constexpr std::string_view counters_and_buckets = R"lua(
local function add_to(key, amount, lives)
  redis.call('INCRBY', key, amount)
  redis.call('PEXPIRE', key, lives)
end
local function bucket_at(key, now, capacity, rate, amount)
  local kept = redis.call('HMGET', key, 'level', 'filled')
  local filled = tonumber(kept[2] or now)
  local level = tonumber(kept[1] or capacity) + math.max(now - filled, 0) * 1e-6 * rate
  return {key = key, capacity = capacity, rate = rate, amount = amount, level = math.min(level, capacity),
          filled = math.max(filled, now)}
end
local function take_from(b)
  b.level = math.max(math.min(b.level - b.amount, b.capacity), -b.capacity)
  redis.call('HSET', b.key, 'level', string.format('%.17g', b.level), 'filled', string.format('%.0f', b.filled))
  redis.call('PEXPIRE', b.key, string.format('%.0f', math.ceil((b.capacity - b.level) / b.rate * 1000) + 1000))
end
)lua";

std::string with_counters_and_buckets(std::string_view script) {
  return std::string(counters_and_buckets) + std::string(script);
}

}  // namespace

const RedisScript& add_script() {
  static const RedisScript script(with_counters_and_buckets(R"lua(
local values = {}
for i, key in ipairs(KEYS) do
  add_to(key, ARGV[2 * i - 1], ARGV[2 * i])
  values[i] = redis.call('GET', key)
end
return values
)lua"));
  return script;
}

const RedisScript& take_script() {
  static const RedisScript script(with_counters_and_buckets(R"lua(
local now, takes = tonumber(ARGV[1]), true
local buckets = {}
for i, key in ipairs(KEYS) do
  local b = bucket_at(key, now, tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2]))
  takes = takes and (ARGV[2] == '1' or b.level + 1e-6 >= b.amount)
  buckets[i] = b
end
local answer = {takes and 1 or 0}
for i, b in ipairs(buckets) do
  if takes then take_from(b) end
  answer[i + 1] = string.format('%.17g', b.level)
end
return answer
)lua"));
  return script;
}

// What is written first is the number: a Redis that is full refuses a script's first write, and nothing after that.
const RedisScript& exchange_script() {
  static const RedisScript script(with_counters_and_buckets(R"lua(
local gateway, number, remembered, now, counters = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local last = redis.call('HGET', KEYS[1], gateway)
local fresh = not last or tonumber(number) > tonumber(string.match(last, '^%d+'))
if fresh then
  local time = tonumber(redis.call('TIME')[1])
  redis.call('HSET', KEYS[1], gateway, number .. ' ' .. time)
  if not last then
    local all = redis.call('HGETALL', KEYS[1])
    for i = 2, #all, 2 do
      local at = tonumber(string.match(all[i], '%d+$'))
      if not at or at + remembered < time then redis.call('HDEL', KEYS[1], all[i - 1]) end
    end
  end
end
local answer = {}
for i = 1, counters do
  if fresh then add_to(KEYS[i + 1], ARGV[2 * i + 4], ARGV[2 * i + 5]) end
  answer[i] = redis.call('GET', KEYS[i + 1]) or '0'
end
local argument = 6 + 2 * counters
for i = counters + 1, #KEYS - 1 do
  local b = bucket_at(KEYS[i + 1], now, tonumber(ARGV[argument]), tonumber(ARGV[argument + 1]),
                      tonumber(ARGV[argument + 2]))
  argument = argument + 3
  if fresh then take_from(b) end
  answer[i] = string.format('%.17g', b.level)
end
return answer
)lua"));
  return script;
}

const RedisScript& put_if_script() {
  static const RedisScript script(R"lua(
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], ARGV[i + 1], 'PX', ARGV[2])
end
return 1
)lua");
  return script;
}

const RedisScript& take_lease_script() {
  static const RedisScript script(R"lua(
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] and string.sub(holder, 1, 6) ~= 'ended ' then return 0 end
if holder == 'ended ' .. ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
)lua");
  return script;
}

// A Redis that is full takes none again, which is no reason not to keep the others.
const RedisScript& keep_leases_script() {
  static const RedisScript script(R"lua(
for i, key in ipairs(KEYS) do
  local holder = redis.call('GET', key)
  if holder == ARGV[i + 1] then
    redis.call('PEXPIRE', key, ARGV[1])
  elseif not holder then
    redis.pcall('SET', key, ARGV[i + 1], 'PX', ARGV[1])
  end
end
return 1
)lua");
  return script;
}

// A Redis that is full takes what comes behind the DEL.
const RedisScript& end_lease_script() {
  static const RedisScript script(R"lua(
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 1 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], 'ended ' .. ARGV[1], 'PX', ARGV[2])
return 1
)lua");
  return script;
}

const RedisScript& replace_script() {
  static const RedisScript script(R"lua(
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if version ~= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', version + 1, 'value', ARGV[2])
return version + 1
)lua");
  return script;
}

}  // namespace tidemill::session
