// Who the backends are: those that the configuration names, and those that DNS names and Kubernetes services have now.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include "base/result.hpp"
#include "gateway/discovery_dns.hpp"
#include "gateway/discovery_kubernetes.hpp"
#include "gateway/gateway_options.hpp"
#include "gateway/service.hpp"

namespace tidemill::gateway {

// A [[gateway.discover]], checked.
struct BackendSource {
  DiscoverOptions options;
  std::string scheme;  // of the backends' URLs
  std::variant<DnsOptions, KubernetesOptions> watch;
};

// Every [[gateway.discover]]. Errors, with the key as `param`: invalid_argument; unavailable (no `api_server` is given,
// and this is no pod that would know one).
base::Result<std::vector<BackendSource>> all_sources(const GatewayOptions& options);

// Keeps the fleet at what the configuration and its sources say. A backend that they still name stays, with all that is
// known of it; one that goes gets no further requests and finishes those that it has; another instance at an old
// address (a pod's UID) is a new backend. What is named comes before what is found at the same address, and of several
// sources that find one address the first says how to speak to it.
//
// Thread-safe. To be stopped before the executor's context is destroyed, since strands may not outlive it, and
// destroyed when its threads have ended.
class Roster {
 public:
  Roster(Service& service, asio::any_io_executor executor, Resolve resolve);

  // Names backends, and begins to follow sources. One that only differs in what it says of its backends goes on with
  // what it has found.
  void set(std::vector<BackendOptions> named, std::vector<BackendSource> sources);
  // Follows no source any longer. The backends stay as they are.
  void stop();

 private:
  struct Followed {
    uint64_t id = 0;
    BackendSource source;
    std::vector<route::Endpoint> found;
    asio::any_io_executor strand;
    std::shared_ptr<asio::cancellation_signal> stop;
  };

  Followed follow(BackendSource source);
  static void unfollow(const std::vector<Followed>& gone);
  void take(uint64_t id, std::vector<route::Endpoint> endpoints);
  void apply();
  bool is_named(const std::string& address) const;

  Service& service_;
  const asio::any_io_executor executor_;
  const Resolve resolve_;
  std::mutex mutex_;  // guards what follows
  std::vector<BackendOptions> named_;
  std::vector<Followed> followed_;
  uint64_t next_id_ = 1;
};

}  // namespace tidemill::gateway
