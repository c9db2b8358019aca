#include "session/redis_store.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include <fmt/core.h>

#include "session/redis_pool.hpp"
#include "session/redis_scripts.hpp"
#include "session/refused_writes.hpp"
#include "session/state_checks.hpp"

namespace tidemill::session {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr const char* exchanges_key = "tidemill:exchanges";
constexpr const char* probe_key = "tidemill:probe";  // written to find out whether anything can be
constexpr uint64_t most_probed = uint64_t{1} << 20;
constexpr std::chrono::seconds exchanges_remembered = std::chrono::hours(24 * 7);
constexpr std::chrono::seconds ended_leases_remembered(15);

std::string millis(base::Duration duration) {
  return std::to_string(std::max<int64_t>(std::chrono::ceil<std::chrono::milliseconds>(duration).count(), 1));
}

std::string record_key(std::string_view tenant, std::string_view id) {
  return fmt::format("tidemill:record:{}:{}:{}", tenant.size(), tenant, id);
}

std::string blob_key(std::string_view key) {
  return fmt::format("tidemill:blob:{}", key);
}

std::string counter_key(std::string_view key) {
  return fmt::format("tidemill:counter:{}", key);
}

std::string lease_key(std::string_view key) {
  return fmt::format("tidemill:lease:{}", key);
}

std::string bucket_key(std::string_view key) {
  return fmt::format("tidemill:bucket:{}", key);
}

// What the scripts take of one.
void append(RedisCommand& words, const CounterAdd& addition) {
  words.push_back(std::to_string(addition.amount));
  words.push_back(millis(addition.lives));
}

void append(RedisCommand& words, const BucketTake& take) {
  words.push_back(fmt::format("{:.17g}", take.capacity));
  words.push_back(fmt::format("{:.17g}", take.per_second));
  words.push_back(fmt::format("{:.17g}", take.amount));
}

// Of a Redis that takes none, for whichever reason: the next write would fail too.
bool refuses_writes(const Error& error) {
  return error.code() == ErrorCode::exhausted || error.code() == ErrorCode::unavailable ||
         error.code() == ErrorCode::io;
}

class RedisStore final : public Store {
 public:
  RedisStore(RedisAddress address, std::optional<TlsContext> tls, const StoreOptions& options, const base::Clock& clock)
      : pool_(std::move(address), std::move(tls), options.deadline, options.max_connections, clock),
        options_(options),
        clock_(clock) {}

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
  // The reply to one command; an error reply is an Error.
  Result<RedisReply> one(const RedisCommand& command, bool repeatable);
  // Carries out commands of which none may fail, nor any of a transaction among them.
  Result<void> all_of(const std::vector<RedisCommand>& commands);
  // `words`: the number of keys, keys, arguments.
  Result<RedisReply> run(const RedisScript& script, RedisCommand words, bool repeatable);
  Error strange() const;
  // What became of a write, of records that take `bytes`: notes that the Redis takes none, until check() finds that it
  // does.
  template <typename Value>
  Result<Value> written(Result<Value> outcome, uint64_t bytes = 0) {
    if (!outcome && refuses_writes(outcome.error())) refused_.note(bytes);
    return outcome;
  }
  Result<int64_t> number(const RedisReply& reply) const;
  Result<double> level(const RedisReply& reply) const;
  std::string micros_now() const { return std::to_string(base::unix_nanos(clock_.wall_now()) / 1000); }

  RedisPool pool_;
  RefusedWrites refused_;
  const StoreOptions options_;
  const base::Clock& clock_;
};

Error RedisStore::strange() const {
  return {ErrorCode::corrupt, fmt::format("{} holds something else under a key of Tidemill's: give Tidemill a database "
                                          "of its own",
                                          pool_.name())};
}

Result<int64_t> RedisStore::number(const RedisReply& reply) const {
  if (reply.kind == RedisReply::Kind::nothing) return int64_t{0};
  if (reply.kind == RedisReply::Kind::number) return reply.number;
  int64_t value = 0;
  const char* end = reply.text.data() + reply.text.size();
  if (reply.text.empty() || std::from_chars(reply.text.data(), end, value).ptr != end) return strange();
  return value;
}

Result<double> RedisStore::level(const RedisReply& reply) const {
  double level = 0;
  const char* end = reply.text.data() + reply.text.size();
  if (std::from_chars(reply.text.data(), end, level).ec != std::errc()) return strange();
  return level;
}

Result<RedisReply> RedisStore::one(const RedisCommand& command, bool repeatable) {
  TM_TRY(std::vector<RedisReply> replies, pool_.call({command}, repeatable));
  if (replies[0].is_error()) return redis_error(replies[0].text, pool_.name());
  return std::move(replies[0]);
}

Result<RedisReply> RedisStore::run(const RedisScript& script, RedisCommand words, bool repeatable) {
  words.insert(words.begin(), {"EVALSHA", script.sha1});
  TM_TRY(std::vector<RedisReply> replies, pool_.call({words}, repeatable));
  if (replies[0].is_error() && replies[0].text.starts_with("NOSCRIPT")) {  // a Redis that was restarted, or is new
    words[0] = "EVAL";
    words[1] = script.source;
    return one(words, repeatable);
  }
  if (replies[0].is_error()) return redis_error(replies[0].text, pool_.name());
  return std::move(replies[0]);
}

Result<void> RedisStore::check() {
  // PING is answered by one that is full, or a replica, too.
  if (!refused_.any()) {
    TM_CHECK(one({"PING"}, true));
    return {};
  }
  const std::string probe(refused_.probe_bytes(1, most_probed), '0');
  TM_CHECK(written(all_of({{"SET", probe_key, probe, "PX", "1000"}, {"DEL", probe_key}})));
  refused_.forget();
  return {};
}

Result<void> RedisStore::put(std::string_view tenant, std::span<const Record> records) {
  if (records.empty()) return {};
  TM_TRY(const uint64_t bytes, check_size(records, 0, options_.max_bytes, Keeps::response));
  std::vector<RedisCommand> commands;
  commands.push_back({"MULTI"});
  for (const Record& record : records) {
    commands.push_back({"SET", record_key(tenant, record.id), record.value, "PX", millis(options_.time_to_live)});
  }
  commands.push_back({"EXEC"});
  return written(all_of(commands), bytes);
}

Result<void> RedisStore::all_of(const std::vector<RedisCommand>& commands) {
  TM_TRY(const std::vector<RedisReply> replies, pool_.call(commands, true));
  for (const RedisReply& reply : replies) {  // what was wrong with a SET comes before the EXEC's refusal
    if (reply.is_error()) return redis_error(reply.text, pool_.name());
    for (const RedisReply& outcome : reply.items) {
      if (outcome.is_error()) return redis_error(outcome.text, pool_.name());
    }
  }
  return {};
}

Result<std::optional<std::string>> RedisStore::get(std::string_view tenant, std::string_view id) {
  TM_TRY(RedisReply reply, one({"GET", record_key(tenant, id)}, true));
  if (reply.kind == RedisReply::Kind::nothing) return std::optional<std::string>();
  return std::optional(std::move(reply.text));
}

Result<bool> RedisStore::put_if(std::string_view tenant, const Guard& guard, std::span<const Record> records) {
  TM_TRY(const uint64_t bytes, check_size(records, 0, options_.max_bytes, Keeps::conversation));
  RedisCommand words = {std::to_string(1 + records.size()), record_key(tenant, guard.id)};
  for (const Record& record : records)
    words.push_back(record_key(tenant, record.id));
  words.emplace_back(guard.begins);
  words.push_back(millis(options_.time_to_live));
  for (const Record& record : records)
    words.push_back(record.value);
  TM_TRY(const RedisReply reply, written(run(put_if_script(), std::move(words), false), bytes));
  return reply.number == 1;
}

Result<bool> RedisStore::remove(std::string_view tenant, std::string_view id) {
  TM_TRY(const RedisReply reply, one({"DEL", record_key(tenant, id)}, true));
  return reply.number > 0;
}

Result<std::vector<int64_t>> RedisStore::add(std::span<const CounterAdd> additions) {
  RedisCommand words = {std::to_string(additions.size())};
  for (const CounterAdd& addition : additions)
    words.push_back(counter_key(addition.key));
  for (const CounterAdd& addition : additions)
    append(words, addition);
  TM_TRY(const RedisReply reply, written(run(add_script(), std::move(words), false)));
  std::vector<int64_t> values;
  for (const RedisReply& item : reply.items) {
    TM_TRY(const int64_t value, number(item));
    values.push_back(value);
  }
  if (values.size() != additions.size()) return strange();
  return values;
}

Result<std::vector<int64_t>> RedisStore::read(std::span<const std::string> keys) {
  if (keys.empty()) return std::vector<int64_t>();
  RedisCommand command = {"MGET"};
  for (const std::string& key : keys)
    command.push_back(counter_key(key));
  TM_TRY(const RedisReply reply, one(command, true));
  std::vector<int64_t> values;
  for (const RedisReply& item : reply.items) {
    TM_TRY(const int64_t value, number(item));
    values.push_back(value);
  }
  if (values.size() != keys.size()) return strange();
  return values;
}

Result<Blob> RedisStore::read_blob(std::string_view key) {
  TM_TRY(RedisReply reply, one({"HMGET", blob_key(key), "version", "value"}, true));
  if (reply.items.size() != 2) return strange();
  TM_TRY(const int64_t version, number(reply.items[0]));
  return Blob{version, std::move(reply.items[1].text)};
}

Result<std::optional<int64_t>> RedisStore::replace_blob(std::string_view key, int64_t version, std::string_view value) {
  TM_CHECK(check_blob(key, value));
  TM_TRY(const RedisReply reply,
         written(run(replace_script(), {"1", blob_key(key), std::to_string(version), std::string(value)}, false)));
  if (reply.number == 0) return std::optional<int64_t>();
  return std::optional(reply.number);
}

Result<BucketLevels> RedisStore::take(std::span<const BucketTake> takes, TakeMode mode) {
  TM_CHECK(check_takes(takes));
  RedisCommand words = {std::to_string(takes.size())};
  for (const BucketTake& take : takes)
    words.push_back(bucket_key(take.key));
  words.push_back(micros_now());
  words.emplace_back(mode == TakeMode::in_debt ? "1" : "0");
  for (const BucketTake& take : takes)
    append(words, take);
  TM_TRY(const RedisReply reply, written(run(take_script(), std::move(words), false)));
  if (reply.items.size() != takes.size() + 1) return strange();
  BucketLevels levels{reply.items[0].number == 1, {}};
  for (size_t i = 1; i < reply.items.size(); ++i) {
    TM_TRY(const double now, level(reply.items[i]));
    levels.levels.push_back(now);
  }
  return levels;
}

Result<Exchanged> RedisStore::exchange(const Exchange& exchange) {
  TM_CHECK(check_takes(exchange.takes));
  const size_t counters = exchange.additions.size();
  RedisCommand words = {std::to_string(1 + counters + exchange.takes.size()), exchanges_key};
  for (const CounterAdd& addition : exchange.additions)
    words.push_back(counter_key(addition.key));
  for (const BucketTake& take : exchange.takes)
    words.push_back(bucket_key(take.key));
  words.insert(words.end(), {exchange.gateway, std::to_string(exchange.number),
                             std::to_string(exchanges_remembered.count()), micros_now(), std::to_string(counters)});
  for (const CounterAdd& addition : exchange.additions)
    append(words, addition);
  for (const BucketTake& take : exchange.takes)
    append(words, take);
  TM_TRY(const RedisReply reply, written(run(exchange_script(), std::move(words), true)));
  if (reply.items.size() != counters + exchange.takes.size()) return strange();
  Exchanged exchanged;
  for (size_t i = 0; i < counters; ++i) {
    TM_TRY(const int64_t value, number(reply.items[i]));
    exchanged.counters.push_back(value);
  }
  for (size_t i = counters; i < reply.items.size(); ++i) {
    TM_TRY(const double now, level(reply.items[i]));
    exchanged.levels.push_back(now);
  }
  return exchanged;
}

Result<bool> RedisStore::take_lease(const Lease& lease, base::Duration lives) {
  TM_TRY(const RedisReply reply,
         written(run(take_lease_script(), {"1", lease_key(lease.key), lease.holder, millis(lives)}, true)));
  return reply.number == 1;
}

Result<void> RedisStore::keep_leases(std::span<const Lease> leases, base::Duration lives) {
  if (leases.empty()) return {};
  RedisCommand words = {std::to_string(leases.size())};
  for (const Lease& lease : leases)
    words.push_back(lease_key(lease.key));
  words.push_back(millis(lives));
  for (const Lease& lease : leases)
    words.push_back(lease.holder);
  TM_CHECK(run(keep_leases_script(), std::move(words), true));
  return {};
}

Result<void> RedisStore::end_lease(const Lease& lease) {
  TM_CHECK(run(end_lease_script(), {"1", lease_key(lease.key), lease.holder, millis(ended_leases_remembered)}, true));
  return {};
}

}  // namespace

Result<std::unique_ptr<Store>> open_redis_store(const StoreOptions& options, const base::Clock& clock) {
  TM_TRY(RedisAddress address, parse_redis_url(options.path));
  std::optional<TlsContext> tls;
  if (address.tls) {
    TM_TRY(tls, TlsContext::create(options.ca_file));
  }
  return std::unique_ptr<Store>(std::make_unique<RedisStore>(std::move(address), std::move(tls), options, clock));
}

}  // namespace tidemill::session
