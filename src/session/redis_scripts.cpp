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

const RedisScript& add_script() {
  static const RedisScript script(R"lua(
local repeated = ARGV[1] ~= '0' and redis.call('EXISTS', KEYS[1]) == 1
if ARGV[1] ~= '0' and not repeated then redis.call('SET', KEYS[1], 1, 'PX', ARGV[1]) end
local values = {}
for i = 2, #KEYS do
  if not repeated then
    redis.call('INCRBY', KEYS[i], ARGV[2 * i - 2])
    redis.call('PEXPIRE', KEYS[i], ARGV[2 * i - 1])
  end
  values[i - 1] = redis.call('GET', KEYS[i]) or '0'
end
return values
)lua");
  return script;
}

const RedisScript& take_script() {
  static const RedisScript script(R"lua(
local repeated = ARGV[1] ~= '0' and redis.call('EXISTS', KEYS[1]) == 1
local now, in_debt = tonumber(ARGV[2]), ARGV[3] == '1'
local buckets, enough = {}, true
for i = 2, #KEYS do
  local b = {capacity = tonumber(ARGV[3 * i - 2]), rate = tonumber(ARGV[3 * i - 1]), amount = tonumber(ARGV[3 * i])}
  local kept = redis.call('HMGET', KEYS[i], 'level', 'filled')
  local filled = tonumber(kept[2] or now)
  b.level = tonumber(kept[1] or b.capacity) + math.max(now - filled, 0) * 1e-6 * b.rate
  b.level = math.min(b.level, b.capacity)
  b.filled = math.max(filled, now)
  enough = enough and b.level + 1e-6 >= b.amount
  buckets[i] = b
end
local takes = not repeated and (in_debt or enough)
if takes and ARGV[1] ~= '0' then redis.call('SET', KEYS[1], 1, 'PX', ARGV[1]) end
local answer = {(takes or repeated) and 1 or 0}
for i = 2, #KEYS do
  local b = buckets[i]
  if takes then
    b.level = math.max(math.min(b.level - b.amount, b.capacity), -b.capacity)
    redis.call('HSET', KEYS[i], 'level', string.format('%.17g', b.level), 'filled', string.format('%.0f', b.filled))
    redis.call('PEXPIRE', KEYS[i], string.format('%.0f', math.ceil((b.capacity - b.level) / b.rate * 1000) + 1000))
  end
  answer[i] = string.format('%.17g', b.level)
end
return answer
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
