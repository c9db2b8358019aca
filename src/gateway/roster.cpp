#include "gateway/roster.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <exception>
#include <optional>
#include <set>
#include <utility>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <fmt/format.h>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "gateway/poller.hpp"
#include "route/backend_set.hpp"

namespace tidemill::gateway {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

Error wrong(std::string_view key, std::string what) {
  return Error(ErrorCode::invalid_argument, fmt::format("gateway.discover.{}: {}", key, what))
      .with_param(fmt::format("gateway.discover.{}", key));
}

std::optional<std::string> variable(std::string_view name) {
  const char* value = std::getenv(std::string(name).c_str());
  return value == nullptr ? std::nullopt : std::optional<std::string>(value);
}

// 0 if it is none.
uint16_t port_number(std::string_view text) {
  uint16_t port = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), port);
  return fault == std::errc() && end == text.data() + text.size() ? port : uint16_t{0};
}

Result<BackendSource> dns_source(const DiscoverOptions& o) {
  const uint16_t port = port_number(o.port);
  if (!o.port.empty() && port == 0) {
    return wrong("port",
                 fmt::format("'{}' is no port of servers behind a DNS name; write a number from 1 to 65535", o.port));
  }
  auto address = route::parse_address(o.dns, port);
  if (!address) return wrong("dns", address.error().message());
  const size_t colon = address->rfind(':');
  return BackendSource{.options = o,
                       .scheme = o.https || o.dns.starts_with("https://") ? "https" : "http",
                       .watch = DnsOptions{.host = address->substr(0, colon),
                                           .port = port_number(std::string_view(*address).substr(colon + 1)),
                                           .interval = o.interval}};
}

Result<BackendSource> kubernetes_source(const DiscoverOptions& o) {
  const size_t slash = o.kubernetes.find('/');
  const bool two = slash != std::string::npos;
  const std::string name_space = two ? o.kubernetes.substr(0, slash) : "";
  const std::string service = two ? o.kubernetes.substr(slash + 1) : o.kubernetes;
  if (service.empty() || service.find('/') != std::string::npos || (two && name_space.empty())) {
    return wrong("kubernetes", fmt::format("'{}' names no service; write namespace/service", o.kubernetes));
  }
  KubernetesOptions watch;
  if (o.api_server.empty()) {
    auto found = in_pod(service, o.port, variable);
    if (!found) {
      return std::move(found)
          .error()
          .wrap("gateway.discover.kubernetes without api_server")
          .with_param("gateway.discover.kubernetes");
    }
    watch = std::move(*found);
  } else {
    if (!two) return wrong("kubernetes", "outside of the cluster write namespace/service");
    const auto url = wire::Url::parse(o.api_server);
    if (!url) return wrong("api_server", url.error().message());
    if (!url->https) return wrong("api_server", "the token would go in the clear; write https://host:port");
    watch.api_server = o.api_server;
    while (watch.api_server.ends_with('/'))
      watch.api_server.pop_back();
    watch.service = service;
    watch.port = o.port;
  }
  if (two) watch.name_space = name_space;
  if (!o.token_file.empty()) watch.token_file = o.token_file;
  if (!o.ca_file.empty()) watch.ca_file = o.ca_file;
  watch.seed = base::random_u64();
  return BackendSource{.options = o, .scheme = o.https ? "https" : "http", .watch = std::move(watch)};
}

const std::string& name_of(const BackendSource& source) {
  return source.options.dns.empty() ? source.options.kubernetes : source.options.dns;
}

// They look for the same, whatever they say of what they find.
bool same_watch(const DiscoverOptions& a, const DiscoverOptions& b) {
  return a.dns == b.dns && a.kubernetes == b.kubernetes && a.port == b.port && a.api_server == b.api_server &&
         a.token_file == b.token_file && a.ca_file == b.ca_file && a.interval == b.interval;
}

BackendOptions found_backend(const BackendSource& source, const route::Endpoint& endpoint) {
  return {.url = fmt::format("{}://{}", source.scheme, endpoint.address),
          .name = endpoint.address,
          .models = source.options.models,
          .api_key = source.options.api_key,
          .resume = source.options.resume,
          .ready_path = source.options.ready_path,
          .instance = endpoint.instance};
}

}  // namespace

Result<std::vector<BackendSource>> all_sources(const GatewayOptions& options) {
  std::vector<BackendSource> sources;
  for (const DiscoverOptions& each : options.discover) {
    if (each.dns.empty() == each.kubernetes.empty()) {
      return wrong("dns",
                   "each [[gateway.discover]] has either dns = \"host:port\" or kubernetes = "
                   "\"namespace/service\"");
    }
    TM_CHECK(check_api_key(each.api_key, "gateway.discover.api_key"));
    TM_CHECK(check_ready_path(each.ready_path, "gateway.discover.ready_path"));
    TM_TRY(BackendSource source, each.dns.empty() ? kubernetes_source(each) : dns_source(each));
    sources.push_back(std::move(source));
  }
  return sources;
}

Roster::Roster(Service& service, asio::any_io_executor executor, Resolve resolve)
    : service_(service), executor_(std::move(executor)), resolve_(std::move(resolve)) {}

void Roster::set(std::vector<BackendOptions> named, std::vector<BackendSource> sources) {
  const std::lock_guard lock(mutex_);
  named_ = std::move(named);
  std::vector<Followed> before = std::exchange(followed_, {});
  for (BackendSource& source : sources) {
    const auto kept = std::ranges::find_if(
        before, [&](const Followed& f) { return f.stop && same_watch(f.source.options, source.options); });
    if (kept == before.end()) {
      followed_.push_back(follow(std::move(source)));
      continue;
    }
    followed_.push_back(std::move(*kept));
    followed_.back().source = std::move(source);
  }
  unfollow(before);
  apply();
  if (named_.empty() && followed_.empty()) {
    base::log::warn(
        "there are no backends, so every request gets 503: name some with --backend, [[gateway.backend]] or "
        "[[gateway.discover]]");
  }
}

void Roster::stop() {
  const std::lock_guard lock(mutex_);
  unfollow(std::exchange(followed_, {}));
}

void Roster::unfollow(const std::vector<Followed>& gone) {
  for (const Followed& each : gone) {
    if (each.stop) asio::post(each.strand, [stop = each.stop] { stop->emit(asio::cancellation_type::terminal); });
  }
}

Roster::Followed Roster::follow(BackendSource source) {
  Followed followed{.id = next_id_++,
                    .source = std::move(source),
                    .found = {},
                    .strand = asio::make_strand(executor_),
                    .stop = std::make_shared<asio::cancellation_signal>()};
  OnEndpoints on_endpoints = [this, id = followed.id](std::vector<route::Endpoint> endpoints) {
    take(id, std::move(endpoints));
  };
  Sleep sleep = timer_sleep(followed.strand);
  const auto* dns = std::get_if<DnsOptions>(&followed.source.watch);
  auto watch = dns != nullptr
                   ? watch_dns(*dns, resolve_ ? resolve_ : system_resolve(followed.strand), sleep, on_endpoints)
                   : watch_kubernetes(std::get<KubernetesOptions>(followed.source.watch), sleep, on_endpoints);
  // The handler keeps the signal for as long as the coroutine may look at it.
  auto ended = [stop = followed.stop, name = name_of(followed.source)](std::exception_ptr failure) {
    if (failure) base::log::error("discovery: '{}' is no longer followed: an exception ended it", name);
  };
  asio::co_spawn(followed.strand, std::move(watch),
                 asio::bind_cancellation_slot(followed.stop->slot(), std::move(ended)));
  return followed;
}

void Roster::take(uint64_t id, std::vector<route::Endpoint> endpoints) {
  const std::lock_guard lock(mutex_);
  const auto followed = std::ranges::find(followed_, id, &Followed::id);
  if (followed == followed_.end()) return;  // a reload has ended it
  base::log::info("discovery: '{}' has {} backend{}", name_of(followed->source), endpoints.size(),
                  endpoints.size() == 1 ? "" : "s");
  followed->found = std::move(endpoints);
  apply();
}

bool Roster::is_named(const std::string& address) const {
  return std::ranges::any_of(named_, [&](const BackendOptions& named) {
    if (named.name == address) return true;
    const auto url = wire::Url::parse(named.url);
    if (!url) return false;
    const bool v6 = url->host.find(':') != std::string::npos;
    return address == (v6 ? fmt::format("[{}]:{}", url->host, url->port) : fmt::format("{}:{}", url->host, url->port));
  });
}

void Roster::apply() {
  route::BackendSet found;
  for (const Followed& followed : followed_)
    found.update(std::to_string(followed.id), followed.found);
  std::vector<BackendOptions> wanted = named_;
  std::set<std::string> unready;
  for (const route::Endpoint& endpoint : found.merged()) {
    if (is_named(endpoint.address)) continue;
    const auto finder = std::ranges::find_if(followed_, [&](const Followed& followed) {
      return std::ranges::find(followed.found, endpoint.address, &route::Endpoint::address) != followed.found.end();
    });
    wanted.push_back(found_backend(finder->source, endpoint));
    if (!endpoint.ready) unready.insert(endpoint.address);
  }

  const Fleet::Backends before = service_.fleet().backends();
  Fleet::Backends after;
  Fleet::Backends fresh;
  for (const BackendOptions& options : wanted) {
    const auto kept = std::ranges::find_if(before, [&](const auto& b) { return b->options() == options; });
    if (kept != before.end()) {
      after.push_back(*kept);
      continue;
    }
    fresh.push_back(std::make_shared<Backend>(options, service_.metrics()));
    after.push_back(fresh.back());
  }
  service_.fleet().replace(std::move(after), unready);
  for (auto& backend : fresh)
    start_polling(service_, executor_, std::move(backend));
}

}  // namespace tidemill::gateway
