// Backends that Kubernetes knows as the endpoints of a service, over its API server's watch.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "gateway/discovery.hpp"

namespace tidemill::gateway {

struct KubernetesOptions {
  std::string api_server;  // "https://10.96.0.1:443"
  std::string name_space;
  std::string service;
  std::string port;                  // of the endpoints: a name, a number, or empty for the first
  std::filesystem::path token_file;  // read again for every request, as Kubernetes renews it; empty: none is sent
  std::filesystem::path ca_file;     // PEM, read again with every list
  base::Duration watch_time = std::chrono::minutes(5);  // after which the server ends a watch and it is begun again
  // After a failure, or a watch that ended sooner than `shortest_watch`; doubled with every further one in a row, and
  // drawn from its upper half. One such watch may have brought news: after the first, the next begins at once.
  base::Duration shortest_pause = std::chrono::milliseconds(500);
  base::Duration longest_pause = std::chrono::seconds(30);
  uint64_t seed = 0;  // of the pauses
  base::Duration shortest_watch = std::chrono::seconds(1);
  const base::Clock* clock = &base::SystemClock::instance();  // by which watches are timed
};

// What a pod finds about its own cluster: KUBERNETES_SERVICE_HOST and _PORT, and the service account's folder with
// token, ca.crt and namespace. `environment` gives a variable's value. Errors: unavailable, naming what is missing.
base::Result<KubernetesOptions> in_pod(
    std::string service, std::string port,
    const std::function<std::optional<std::string>(std::string_view)>& environment,
    const std::filesystem::path& account = "/var/run/secrets/kubernetes.io/serviceaccount");

// Lists the service's EndpointSlices, then watches them, and tells the endpoints whenever they change, until the
// coroutine is cancelled. Whatever fails is logged and tried again; what was known stays until something newer is. An
// expired resource version (410) leads to a new list.
asio::awaitable<void> watch_kubernetes(KubernetesOptions options, Sleep sleep, OnEndpoints on_endpoints);

}  // namespace tidemill::gateway
