// Who the backends are: what several sources say, merged into one set.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace tidemill::route {

struct Endpoint {
  std::string address = {};   // "host:port"; IPv6 in brackets. Its identity.
  bool ready = true;          // the source says that it takes requests
  std::string instance = {};  // changes when another instance takes the address (a pod's UID); empty: unknown
  bool operator==(const Endpoint&) const = default;
};

// Sources (a static list, a DNS name, an EndpointSlice) replace what they said before, whole. An address that several
// sources name is one backend: ready if any of them says so.
//
// Not thread-safe.
class BackendSet {
 public:
  // Returns true if the merged set changed. An empty list takes away all that the source said.
  bool update(std::string_view source, std::vector<Endpoint> endpoints);
  bool remove(std::string_view source) { return update(source, {}); }

  // Sorted by address, each once.
  const std::vector<Endpoint>& merged() const { return merged_; }
  // Counts changes of the merged set.
  uint64_t generation() const { return generation_; }

 private:
  std::map<std::string, std::vector<Endpoint>, std::less<>> sources_;
  std::vector<Endpoint> merged_;
  uint64_t generation_ = 0;
};

// "host:port", "[v6]:port", or an http(s) URL of them without a path; the port may be left out where `default_port` is
// not 0. Errors: invalid_argument, naming the text.
base::Result<std::string> parse_address(std::string_view text, uint16_t default_port = 0);

}  // namespace tidemill::route
