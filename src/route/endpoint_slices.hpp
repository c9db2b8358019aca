// The EndpointSlices of a Kubernetes service (discovery.k8s.io/v1), kept up to date from a list and a watch.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "route/backend_set.hpp"

namespace tidemill::route {

// Follows the API's rules for clients: what a list says replaces everything, a watch goes on from the list's resource
// version, every event and bookmark moves it on, and an expired one (410) means to list again.
//
// Not thread-safe.
class EndpointSlices {
 public:
  // Which port of the slices to use: its name, its number, or empty for the first.
  explicit EndpointSlices(std::string port) : port_(std::move(port)) {}

  // An EndpointSliceList. Errors: corrupt; then nothing has changed.
  base::Result<void> replace(const base::json::value& list);

  enum class Applied {
    changed,   // endpoints() may differ
    bookmark,  // only the resource version moved
    expired,   // the watch cannot go on from its version: list again
  };
  // One event of a watch. Errors: corrupt, and unavailable with the server's own words for an error other than 410.
  base::Result<Applied> apply(const base::json::value& event);

  // All endpoints with an address and the port wanted. Those that are not ready or are being terminated are there, but
  // not ready. A pod's UID is the instance; one that has addresses of both families is there with that of IPv4.
  std::vector<Endpoint> endpoints() const;
  // The ports that there are where no slice with endpoints has the one that is wanted: "http (8080), metrics (9090)".
  // Empty: one has it, or there are no endpoints.
  std::string ports_instead() const;
  // What to begin a watch with.
  const std::string& resource_version() const { return resource_version_; }

 private:
  struct Slice {
    std::vector<Endpoint> endpoints;
    std::string other_ports;  // as ports_instead()
  };
  base::Result<Slice> read(const base::json::object& slice) const;

  std::string port_;
  std::string resource_version_;
  std::map<std::string, Slice> slices_;  // by name
};

// Is this an answer (status 410, or a Status object that says so) that a resource version has expired?
bool says_expired(const base::json::value& status);

}  // namespace tidemill::route
