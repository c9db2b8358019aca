// Which of a route's versions answers a request: by header, else by weight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace tidemill::rollout {

struct WeightedVersion {
  std::string name;
  double weight = 1;  // relative to the others'; 0: chosen by header alone
};

// Requests whose header `header` has the value `value` (any value, if nullopt) go to `version`.
struct HeaderRule {
  std::string header;  // compared by HeaderLookup, that is, without regard to case
  std::optional<std::string> value;
  std::string version;
};

struct SplitOptions {
  std::string salt = {};  // the route's name; two routes with different salts split the same keys independently
  std::vector<WeightedVersion> versions = {};  // 1 to 64, names unique, one weight above 0 at least
  std::vector<HeaderRule> headers = {};        // the first that fits decides
};

// The value of a request's header, or nullopt.
using HeaderLookup = std::function<std::optional<std::string_view>(std::string_view name)>;

// An immutable split, to be replaced as a whole when the configuration changes. Thread-safe.
//
// A key's version depends on the key, the salt, the versions' names and their weights, so that a session stays where it
// is, on every gateway. It is chosen by weighted rendezvous hashing (Thaler and Ravishankar, 1998, with the logarithmic
// weights of Schindelhauer and Schomaker, 2005:
// the least -ln(u) / weight wins, u being the hash of key and version): raising one version's weight moves keys to it
// alone, taking one away moves its keys alone, and never more than the change of shares asks for.
class Split {
 public:
  // Errors: invalid_argument, which names the version or rule at fault.
  static base::Result<Split> create(SplitOptions options);

  // An index into versions(). `key` is what is sticky: a session's id, or the request's own id where nothing is.
  size_t choose(std::string_view key, const HeaderLookup& headers = {}) const;
  // The version of the first rule that fits; nullopt: none does.
  std::optional<size_t> by_header(const HeaderLookup& headers) const;
  const std::vector<WeightedVersion>& versions() const { return options_.versions; }

 private:
  explicit Split(SplitOptions options);

  struct Rule {
    std::string header;
    std::optional<std::string> value;
    size_t version;
  };

  SplitOptions options_;
  std::vector<Rule> rules_;
  std::vector<uint64_t> salts_;  // by version
};

}  // namespace tidemill::rollout
