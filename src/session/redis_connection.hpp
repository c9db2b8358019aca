// One connection to a Redis: commands out, replies in, many at once.
#pragma once

#include <cstdint>
#include <hiredis/hiredis.h>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "session/redis_address.hpp"
#include "session/socket.hpp"

namespace tidemill::session {

using RedisCommand = std::vector<std::string>;

struct RedisReply {
  enum class Kind { nothing, text, number, list, error };
  Kind kind = Kind::nothing;
  std::string text;  // of an error too
  int64_t number = 0;
  std::vector<RedisReply> items;

  bool is_error() const { return kind == Kind::error; }
};

// What a reply of the kind `error` means: `exhausted` (the Redis is full), `unavailable` (it is loading, read only, or
// refuses the password), `io` (its disk), else `internal`. `where` names the Redis.
base::Error redis_error(std::string_view reply, std::string_view where);

// What went wrong on the way, and whether the commands may have been carried out all the same.
struct RedisFailure {
  base::Error error;
  bool sent = false;
};

// One thread at a time; of no use after a failure.
class RedisConnection {
 public:
  // Connects, proves who it is, and selects the database. Errors: `unavailable`, naming the Redis.
  static base::Result<std::unique_ptr<RedisConnection>> open(const RedisAddress& address, const TlsContext* tls,
                                                             Deadline deadline);

  // Sends all commands at once and returns as many replies, in order. nullptr, and a failure, if the connection fails.
  std::vector<RedisReply> exchange(const std::vector<RedisCommand>& commands, Deadline deadline,
                                   std::unique_ptr<RedisFailure>& failure);
  // Whether an idle connection still stands.
  bool is_quiet() const { return socket_.is_quiet(); }

 private:
  struct FreeReader {
    void operator()(redisReader* reader) const { redisReaderFree(reader); }
  };
  RedisConnection(Socket socket, std::string where)
      : socket_(std::move(socket)), reader_(redisReaderCreate()), where_(std::move(where)) {}

  base::Result<void> greet(const RedisAddress& address, Deadline deadline);
  base::Result<RedisReply> receive(Deadline deadline);

  Socket socket_;
  std::unique_ptr<redisReader, FreeReader> reader_;
  std::string where_;
};

}  // namespace tidemill::session
