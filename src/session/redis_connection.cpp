#include "session/redis_connection.hpp"

#include <utility>

#include <fmt/core.h>

namespace tidemill::session {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

void append(std::string& out, const RedisCommand& command) {
  std::vector<const char*> words;
  std::vector<size_t> sizes;
  for (const std::string& word : command) {
    words.push_back(word.data());
    sizes.push_back(word.size());
  }
  char* text = nullptr;
  const int size = redisFormatCommandArgv(&text, static_cast<int>(words.size()), words.data(), sizes.data());
  if (size > 0) out.append(text, static_cast<size_t>(size));
  redisFreeCommand(text);
}

RedisReply converted(const redisReply& reply) {
  RedisReply made;
  switch (reply.type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
      made.kind = RedisReply::Kind::text;
      made.text.assign(reply.str, reply.len);
      break;
    case REDIS_REPLY_ERROR:
      made.kind = RedisReply::Kind::error;
      made.text.assign(reply.str, reply.len);
      break;
    case REDIS_REPLY_INTEGER:
      made.kind = RedisReply::Kind::number;
      made.number = reply.integer;
      break;
    case REDIS_REPLY_ARRAY:
      made.kind = RedisReply::Kind::list;
      for (size_t i = 0; i < reply.elements; ++i)
        made.items.push_back(converted(*reply.element[i]));
      break;
    default:
      break;
  }
  return made;
}

}  // namespace

Error redis_error(std::string_view reply, std::string_view where) {
  const auto says = [&](std::string_view word) { return reply.starts_with(word); };
  if (reply.find("OOM command not allowed") != std::string_view::npos) {
    return {ErrorCode::exhausted,
            fmt::format("{} is full: raise its maxmemory, or choose a maxmemory-policy that makes room", where)};
  }
  if (says("NOAUTH") || says("WRONGPASS") || says("NOPERM") || says("ERR invalid password") || says("ERR AUTH")) {
    return {ErrorCode::unavailable,
            fmt::format("{} refuses the user or the password of its address: {}", where, reply)};
  }
  for (const char* passing : {"LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS",
                              "ERR max number of clients"}) {
    if (says(passing)) return {ErrorCode::unavailable, fmt::format("{} does not serve now: {}", where, reply)};
  }
  if (says("MISCONF")) return {ErrorCode::io, fmt::format("{} cannot write to its disk: {}", where, reply)};
  return {ErrorCode::internal, fmt::format("{} answers: {}", where, reply)};
}

Result<std::unique_ptr<RedisConnection>> RedisConnection::open(const RedisAddress& address, const TlsContext* tls,
                                                               Deadline deadline) {
  auto socket = Socket::connect(address.host, address.port, tls, deadline);
  if (!socket) {
    return Error(ErrorCode::unavailable, fmt::format("{}: {}", address.name(), socket.error().message()));
  }
  std::unique_ptr<RedisConnection> made(new RedisConnection(std::move(*socket), address.name()));
  TM_CHECK(made->greet(address, deadline));
  return made;
}

Result<void> RedisConnection::greet(const RedisAddress& address, Deadline deadline) {
  std::vector<RedisCommand> commands;
  if (!address.password.empty()) {
    commands.push_back(address.user.empty() ? RedisCommand{"AUTH", address.password}
                                            : RedisCommand{"AUTH", address.user, address.password});
  }
  commands.push_back({"SELECT", std::to_string(address.database)});
  std::unique_ptr<RedisFailure> failure;
  for (const RedisReply& reply : exchange(commands, deadline, failure)) {
    if (reply.is_error()) return Error(ErrorCode::unavailable, redis_error(reply.text, where_).message());
  }
  if (failure) return std::move(failure->error);
  return {};
}

std::vector<RedisReply> RedisConnection::exchange(const std::vector<RedisCommand>& commands, Deadline deadline,
                                                  std::unique_ptr<RedisFailure>& failure) {
  std::string out;
  for (const RedisCommand& command : commands)
    append(out, command);
  const auto fail = [&](const Error& error, bool sent) {
    failure = std::make_unique<RedisFailure>(
        RedisFailure{{ErrorCode::unavailable, fmt::format("{}: {}", where_, error.message())}, sent});
    return std::vector<RedisReply>();
  };
  // Redis carries out no command that has not arrived whole, and no transaction without its EXEC.
  if (auto sent = socket_.send(out, deadline); !sent) return fail(sent.error(), false);
  std::vector<RedisReply> replies;
  while (replies.size() < commands.size()) {
    auto reply = receive(deadline);
    if (!reply) return fail(reply.error(), true);
    replies.push_back(std::move(*reply));
  }
  return replies;
}

Result<RedisReply> RedisConnection::receive(Deadline deadline) {
  while (true) {
    void* raw = nullptr;
    if (redisReaderGetReply(reader_.get(), &raw) != REDIS_OK) {
      return Error(ErrorCode::unavailable, fmt::format("it does not speak Redis's protocol ({}): is it a Redis?",
                                                       static_cast<const char*>(reader_->errstr)));
    }
    if (raw != nullptr) {
      RedisReply reply = converted(*static_cast<const redisReply*>(raw));
      freeReplyObject(raw);
      return reply;
    }
    TM_TRY(const std::string bytes, socket_.receive(deadline));
    redisReaderFeed(reader_.get(), bytes.data(), bytes.size());
  }
}

}  // namespace tidemill::session
