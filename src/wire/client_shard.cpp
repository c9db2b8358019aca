#include "wire/client_shard.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include "wire/as_result.hpp"
#include "wire/proxy_tunnel.hpp"

namespace tidemill::wire {

namespace {

using asio::ip::tcp;
using base::Error;
using base::ErrorCode;
using base::Result;
using base::SteadyTime;

constexpr auto sweep_interval = std::chrono::seconds(1);

Error was_cancelled(const Url& to) {
  return {ErrorCode::cancelled, fmt::format("the request to {} was cancelled", to.authority())};
}

// In a list of those that wait, for as long as it lives.
template <typename List>
class Queued {
 public:
  Queued(List& list, WaitPoint& event) : list_(list), event_(event) { list.push_back(&event); }
  ~Queued() { std::erase(list_, &event_); }
  Queued(const Queued&) = delete;
  Queued& operator=(const Queued&) = delete;

 private:
  List& list_;
  WaitPoint& event_;
};

}  // namespace

// ---- places

ClientPlace::ClientPlace(std::shared_ptr<ClientShard> shard, ClientOrigin& origin)
    : shard_(std::move(shard)), origin_(origin) {
  ++origin_.places_taken;
}

ClientPlace::~ClientPlace() {
  if (!kept_) --origin_.places_taken;
  if (!origin_.waiting.empty()) origin_.waiting.front()->notify();
}

void ClientPlace::keep(std::unique_ptr<ClientConnection> connection) {
  if (shard_->closed_ || origin_.idle.size() >= shard_->options_.max_idle) return;
  connection->idle_since = Deadlines::now();
  if (shard_->idle_count_++ == 0) shard_->sweep_.set(connection->idle_since + sweep_interval);
  origin_.idle.push_back(std::move(connection));
  kept_ = true;
}

// ---- the shard

ClientShard::ClientShard(asio::io_context& context, uint64_t pool, PoolOptions options, TlsContext tls)
    : context_(context),
      pool_(pool),
      options_(std::move(options)),
      tls_(std::move(tls)),
      deadlines_(Deadlines::of(context)),
      sweep_(
          deadlines_, [](void* self) { static_cast<ClientShard*>(self)->sweep(); }, this) {}

ClientShard::~ClientShard() = default;

ClientOrigin& ClientShard::origin_of(const Url& to, const Proxy* proxy) {
  key_.assign(to.https ? "s" : "p").append(to.host);
  key_ += ':';
  key_ += std::to_string(to.port);
  auto& origin = origins_[key_];
  if (!origin) {
    origin = std::make_unique<ClientOrigin>();
    origin->to = std::make_shared<const Url>(to);
    origin->proxy = proxy;
  }
  return *origin;
}

std::unique_ptr<ClientConnection> ClientShard::take_idle(ClientOrigin& origin) {
  while (!origin.idle.empty()) {
    auto connection = std::move(origin.idle.back());
    origin.idle.pop_back();
    --origin.places_taken;
    --idle_count_;
    if (connection->silent()) return connection;
  }
  return nullptr;
}

void ClientShard::wake_next(ClientOrigin& origin) const {
  const bool free = origin.places_taken < options_.max_connections || !origin.idle.empty();
  if (free && !origin.waiting.empty()) origin.waiting.front()->notify();
}

std::optional<ClientShard::Checkout> ClientShard::check_out_now(const Url& to, const Proxy* proxy) {
  ClientOrigin& origin = origin_of(to, proxy);
  if (!origin.waiting.empty()) return std::nullopt;
  Checkout checkout{.place = nullptr, .connection = take_idle(origin)};
  if (!checkout.connection) return std::nullopt;
  checkout.place = std::make_unique<ClientPlace>(shared_from_this(), origin);
  return checkout;
}

asio::awaitable<Result<ClientShard::Checkout>> ClientShard::check_out(const Url& to, const Proxy* proxy, bool reuse,
                                                                      SteadyTime deadline, Cancellation* cancellation) {
  ClientOrigin& origin = origin_of(to, proxy);
  WaitPoint event(deadlines_);
  bool waited = false;
  while (true) {
    const bool is_next = waited || origin.waiting.empty();
    Checkout checkout;
    if (is_next && reuse) checkout.connection = take_idle(origin);
    // A fresh connection takes the place of one that only waits.
    if (is_next && !checkout.connection && origin.places_taken >= options_.max_connections && !origin.idle.empty()) {
      origin.idle.erase(origin.idle.begin());
      --origin.places_taken;
      --idle_count_;
    }
    if (is_next && (checkout.connection || origin.places_taken < options_.max_connections)) {
      checkout.place = std::make_unique<ClientPlace>(shared_from_this(), origin);
      // Several may have become free before the first of those that wait came to run.
      wake_next(origin);
      co_return checkout;
    }
    if (cancellation != nullptr) {
      cancellation->set([&event] { event.notify(); });
      if (cancellation->cancelled()) co_return was_cancelled(to);
    }
    {
      const Queued queued(origin.waiting, event);
      waited = co_await event.wait_until(deadline);
    }
    if (cancellation != nullptr && cancellation->cancelled()) {
      wake_next(origin);
      co_return was_cancelled(to);
    }
    if (!waited) {
      co_return Error(ErrorCode::exhausted, fmt::format("all {} connections to {} were in use for too long",
                                                        options_.max_connections, to.authority()));
    }
  }
}

asio::awaitable<Result<std::unique_ptr<ClientConnection>>> ClientShard::connect(ClientOrigin& origin,
                                                                                SteadyTime deadline,
                                                                                Cancellation* cancellation) {
  const Url& dialed = origin.proxy != nullptr ? origin.proxy->address : *origin.to;
  const auto said = [&origin](Error error) {
    return origin.proxy == nullptr ? error : std::move(error).wrap(origin.proxy->text());
  };
  auto endpoints = co_await resolve(dialed, deadline, cancellation);
  if (!endpoints) co_return said(std::move(endpoints).error());
  auto connection = std::make_unique<ClientConnection>(context_, origin.to);
  if (cancellation != nullptr) cancellation->set([raw = connection.get()] { raw->hang_up(); });
  auto connected = co_await connection->connect(dialed, *endpoints, deadline);
  if (!connected) co_return said(std::move(connected).error());
  if (!origin.to->https) co_return connection;
  if (origin.proxy != nullptr) {
    auto opened = co_await open_tunnel(*connection, *origin.proxy, options_.max_header_bytes, deadline);
    if (!opened) co_return std::move(opened).error();
  }
  auto secured = co_await connection->secure(tls_, deadline);
  // What answers may be the proxy still, or someone whom it lets in between.
  if (!secured) co_return said(std::move(secured).error());
  co_return connection;
}

// ---- names

asio::awaitable<Result<ClientShard::Endpoints>> ClientShard::resolve(const Url& to, SteadyTime deadline,
                                                                     Cancellation* cancellation) {
  boost::system::error_code not_an_address;
  const auto address = asio::ip::make_address(to.host, not_an_address);
  if (!not_an_address) co_return Endpoints{tcp::endpoint(address, to.port)};
  Name& name = names_[to.host];  // never removed while this shard lives
  if (name.until <= Deadlines::now()) {
    if (!std::exchange(name.asking, true)) {
      asio::co_spawn(context_, ask(shared_from_this(), to.host), asio::detached);
    }
    WaitPoint event(deadlines_);
    const Queued queued(name.waiting, event);
    if (cancellation != nullptr) cancellation->set([&event] { event.notify(); });
    while (name.asking) {
      if (cancellation != nullptr && cancellation->cancelled()) co_return was_cancelled(to);
      const bool notified = co_await event.wait_until(deadline);
      if (!notified) {
        co_return Error(ErrorCode::timeout, fmt::format("cannot resolve {}: it took too long", to.authority()));
      }
    }
  }
  if (name.error) {
    co_return Error(ErrorCode::unavailable, fmt::format("cannot resolve {}: {}", to.authority(), name.error.message()));
  }
  Endpoints endpoints = name.endpoints;
  for (auto& endpoint : endpoints)
    endpoint.port(to.port);
  co_return endpoints;
}

// Asks the system's resolver, for all who wait.
asio::awaitable<void> ClientShard::ask(std::shared_ptr<ClientShard> shard, std::string host) {
  tcp::resolver resolver(shard->context_);
  auto [error, found] = co_await resolver.async_resolve(host, "", as_result);
  Name& name = shard->names_[host];
  name.asking = false;
  name.error = error;
  name.endpoints.clear();
  for (const auto& entry : found)
    name.endpoints.push_back(entry.endpoint());
  // A name that does not resolve is asked for again by the next request.
  name.until = error ? SteadyTime{} : Deadlines::now() + shard->options_.name_lifetime;
  for (WaitPoint* const event : name.waiting)
    event->notify();
}

// ---- what is idle

// Closes what has been idle for too long, and what its server has closed.
void ClientShard::sweep() {
  const SteadyTime time = Deadlines::now();
  for (auto& [key, origin] : origins_) {
    const size_t closed = std::erase_if(origin->idle, [&](const auto& connection) {
      return time - connection->idle_since >= options_.max_idle_time || !connection->silent();
    });
    origin->places_taken -= closed;
    idle_count_ -= closed;
    for (size_t i = 0; i < std::min(closed, origin->waiting.size()); ++i)
      origin->waiting[i]->notify();
  }
  std::erase_if(origins_,
                [](const auto& entry) { return entry.second->places_taken == 0 && entry.second->waiting.empty(); });
  if (idle_count_ != 0) sweep_.set(time + sweep_interval);
}

void ClientShard::drop_idle() {
  for (auto& [key, origin] : origins_) {
    origin->places_taken -= origin->idle.size();
    idle_count_ -= origin->idle.size();
    origin->idle.clear();
  }
}

void ClientShard::close() {
  if (closed_.exchange(true)) return;
  asio::post(context_, [self = shared_from_this()] { self->drop_idle(); });
}

// ---- the context's shards

ClientShards::ClientShards(asio::execution_context& context) : asio::execution_context::service(context) {
  (void)Deadlines::of(context);  // before this, so that it ends after it
}

ClientShard* ClientShards::find(uint64_t pool) const {
  for (const auto& shard : shards_) {
    if (shard->pool() == pool) return shard.get();
  }
  return nullptr;
}

void ClientShards::add(std::shared_ptr<ClientShard> shard) {
  std::erase_if(shards_, [](const auto& known) { return known->closed() && known.use_count() == 1; });
  shards_.push_back(std::move(shard));
}

void ClientShards::shutdown() {
  for (const auto& shard : shards_) {
    shard->closed_ = true;
    shard->drop_idle();
  }
}

}  // namespace tidemill::wire
