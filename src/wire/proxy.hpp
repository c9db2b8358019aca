// Which requests go through an HTTP proxy, and through which: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, read as
// curl reads them, but that it takes http_proxy in lower case alone. For clients that are given the rules; no other
// client looks at these variables.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/ip/address.hpp>

#include "base/result.hpp"
#include "wire/http_message.hpp"
#include "wire/url.hpp"

namespace tidemill::wire {

struct Proxy {
  Url address;                // of http
  std::string authorization;  // the value of Proxy-Authorization, a secret; empty: none
  std::string variable;       // that names it: "https_proxy"

  // "the proxy 10.0.0.1:3128 (https_proxy)"
  std::string text() const;
  // What an answer of the proxy means that is no tunnel to `to` and no server's: of 407 `invalid_argument`, saying what
  // to set; else `unavailable` where it may pass, and `not_found` where asking again is of no use.
  base::Error refusal(const HttpResponse& answer, const Url& to) const;
};

// Immutable, so thread-safe.
class ProxyRules {
 public:
  ProxyRules() = default;  // none

  // `variable` gives the value of an environment variable, or an empty text. Lower case (`https_proxy`) wins over upper
  // case, and the one for the scheme over ALL_PROXY. A value is http://[USER:PASSWORD@]HOST[:PORT], of which the scheme
  // may be left out; the port is 1080 unless it is given. NO_PROXY is a list, by commas or blanks: `*` for every host;
  // a name, also for all that end in it after a dot; an address, or a block of them (10.0.0.0/8); each with or without
  // a port. What is wrong with a value is said where it would be used.
  static ProxyRules from_environment(const std::function<std::string(const char*)>& variable);

  // Through which proxy a request goes; null: none. Good as long as these rules. `invalid_argument`: the variable that
  // names it is no address of a proxy.
  base::Result<const Proxy*> find(const Url& to) const;

 private:
  struct Exception {
    std::string host;                                 // a name; empty: every one
    std::optional<boost::asio::ip::address> address;  // of a block
    unsigned prefix_bits = 0;                         // of `address`
    uint16_t port = 0;                                // 0: any

    bool holds_for(const Url& to) const;
  };
  static std::optional<Exception> read_exception(std::string_view text);

  std::optional<base::Result<Proxy>> http_;
  std::optional<base::Result<Proxy>> https_;
  std::vector<Exception> exceptions_;
};

}  // namespace tidemill::wire
