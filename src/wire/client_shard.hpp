// What a pool has on one thread: connections by origin, and the addresses of names. Private to the room.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "base/result.hpp"
#include "wire/client_connection.hpp"
#include "wire/client_pool.hpp"
#include "wire/wait_point.hpp"

namespace tidemill::wire {

class ClientShard;

// The connections to one origin.
struct ClientOrigin {
  std::shared_ptr<const Url> to;                        // its target means nothing
  const Proxy* proxy = nullptr;                         // that they go through; of the shard's rules
  std::vector<std::unique_ptr<ClientConnection>> idle;  // the one used last is at the back
  size_t places_taken = 0;                              // connections that exist or are being made
  std::deque<WaitPoint*> waiting;                       // for a place or an idle connection, in order
};

// The right to one connection of an origin: given back by its destructor.
class ClientPlace {
 public:
  ClientPlace(std::shared_ptr<ClientShard> shard, ClientOrigin& origin);
  ~ClientPlace();
  ClientPlace(const ClientPlace&) = delete;
  ClientPlace& operator=(const ClientPlace&) = delete;

  // Keeps the connection for the next request, if the pool still wants one.
  void keep(std::unique_ptr<ClientConnection> connection);
  ClientOrigin& origin() { return origin_; }

 private:
  std::shared_ptr<ClientShard> shard_;
  ClientOrigin& origin_;
  bool kept_ = false;
};

// Not thread-safe, but for `close` and `idle`. Owned by its context's `ClientShards`.
class ClientShard : public std::enable_shared_from_this<ClientShard> {
 public:
  ClientShard(asio::io_context& context, uint64_t pool, PoolOptions options, TlsContext tls);
  ~ClientShard();

  // A place and, if `reuse` allows it, a connection that waits for a request; null: make a fresh one. Waits for either
  // until the deadline. `proxy`: which the options have for `to`.
  struct Checkout {
    std::unique_ptr<ClientPlace> place;
    std::unique_ptr<ClientConnection> connection;
  };
  // An idle one, where there is one and nobody waits.
  std::optional<Checkout> check_out_now(const Url& to, const Proxy* proxy);
  asio::awaitable<base::Result<Checkout>> check_out(const Url& to, const Proxy* proxy, bool reuse,
                                                    base::SteadyTime deadline, Cancellation* cancellation);
  // A fresh one.
  asio::awaitable<base::Result<std::unique_ptr<ClientConnection>>> connect(ClientOrigin& origin,
                                                                           base::SteadyTime deadline,
                                                                           Cancellation* cancellation);

  // From any thread: no connection is kept from now on.
  void close();
  bool closed() const { return closed_; }
  size_t idle() const { return idle_count_; }
  uint64_t pool() const { return pool_; }
  const PoolOptions& options() const { return options_; }

 private:
  friend class ClientPlace;
  friend class ClientShards;
  struct Name {
    std::vector<asio::ip::tcp::endpoint> endpoints;  // without ports
    boost::system::error_code error;
    base::SteadyTime until{};
    bool asking = false;
    std::vector<WaitPoint*> waiting;
  };
  using Endpoints = std::vector<asio::ip::tcp::endpoint>;

  ClientOrigin& origin_of(const Url& to, const Proxy* proxy);
  std::unique_ptr<ClientConnection> take_idle(ClientOrigin& origin);
  void wake_next(ClientOrigin& origin) const;
  asio::awaitable<base::Result<Endpoints>> resolve(const Url& to, base::SteadyTime deadline,
                                                   Cancellation* cancellation);
  static asio::awaitable<void> ask(std::shared_ptr<ClientShard> shard, std::string host);
  void drop_idle();
  void sweep();

  asio::io_context& context_;
  const uint64_t pool_;
  const PoolOptions options_;
  const TlsContext tls_;
  Deadlines& deadlines_;
  Deadlines::Entry sweep_;
  std::unordered_map<std::string, std::unique_ptr<ClientOrigin>> origins_;
  std::string key_;  // reused
  std::unordered_map<std::string, Name> names_;
  std::atomic<size_t> idle_count_ = 0;
  std::atomic<bool> closed_ = false;
};

// The shards of one context, at most one for each pool.
class ClientShards : public asio::execution_context::service {
 public:
  using key_type = ClientShards;
  inline static asio::execution_context::id id;

  explicit ClientShards(asio::execution_context& context);

  // The pool's, or null. On the context's thread.
  ClientShard* find(uint64_t pool) const;
  void add(std::shared_ptr<ClientShard> shard);

 private:
  void shutdown() override;

  std::vector<std::shared_ptr<ClientShard>> shards_;
};

}  // namespace tidemill::wire
