// The front-door role: one HTTP server before any number of model servers. docs/gateway.md tells its users' side.
//
//   TM_TRY(auto gateway, Gateway::start(options));
//   ... on SIGHUP ...   TM_CHECK(gateway->reload(options));
//   ... on SIGTERM ...  gateway->stop(options.drain_timeout);
//
// It keeps no state that matters: what a request needs to be taken up elsewhere is in the request's own coroutine, and
// dies with its client's connection.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "gateway/companion.hpp"
#include "gateway/discovery_dns.hpp"
#include "gateway/gateway_options.hpp"

namespace tidemill::gateway {

// Thread-safe.
class Gateway {
 public:
  // Binds, listens, and begins to look at the backends; /ready says 503 until one is. `clock` must outlive the gateway.
  // Errors: the address (taken, or not of this machine), the TLS files, a backend's URL, the access log, the
  // trace exporter's endpoint, what a [[gateway.discover]] names. `resolve` finds the addresses of DNS names; the
  // system's if empty. What `companion` names must outlive the gateway: /metrics has its metrics too (of those that
  // both have, the gateway's), and /debug/traces its spans.
  static base::Result<std::unique_ptr<Gateway>> start(const GatewayOptions& options,
                                                      const base::Clock& clock = base::SystemClock::instance(),
                                                      Resolve resolve = {}, Companion companion = {});
  // Stops at once.
  ~Gateway();

  uint16_t port() const;
  std::string url() const;  // "http://127.0.0.1:8080"; https with TLS

  // Looks at all backends now, and returns when what they say is known. Not from a handler. After stop(), nothing.
  void look();

  // Takes new options while requests run; those go on with what they began with. Backends that stay the same keep what
  // is known of them, and routes that stay the same what they have learned. The TLS files are read again, for
  // connections made from now on. Address, threads, names of the TLS files, limits of connections and the trace
  // exporter stay as they were, and the log says so if others are asked for. On an error nothing changes, but for TLS
  // files that were found good. While it drains it may still be told of backends; after stop(): unavailable.
  base::Result<void> reload(const GatewayOptions& options);

  // Stops admitting: /ready and new requests get 503, with x-tidemill-unready; what was admitted goes on. Returns at
  // once. Idempotent.
  void drain();
  // Drains, waits up to `limit` for what runs, then cuts what is left, closes the socket and ends the threads. True if
  // nothing had to be cut. Idempotent.
  bool stop(base::Duration limit);
  // From now on stop(), also one that waits already, gives what runs no more time: clients are told, and it returns.
  // Returns at once. Idempotent.
  void hurry();

 private:
  struct Impl;
  explicit Gateway(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidemill::gateway
