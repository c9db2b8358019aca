// The model-server role: one model, one engine, one HTTP server.
//
//   TM_TRY(auto server, Server::start(options));                        // listens; /ready says "loading"
//   TM_TRY(auto model, LoadedModel::load(model_options(options, ...)));  // minutes, for a large one
//   TM_CHECK(server->serve(std::move(model)));                          // /ready says "ready"
//   ... until SIGTERM ...
//   const bool orderly = server->stop(options.drain_timeout);
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "engine/engine.hpp"
#include "observe/metrics.hpp"
#include "observe/trace.hpp"
#include "serve/loaded_model.hpp"
#include "serve/serve_options.hpp"

namespace tidemill::serve {

// Thread-safe.
class Server {
 public:
  // Binds, listens, and begins to answer: /health with 200, /ready and the API with 503 until serve(). `clock` must
  // outlive the server. Errors: the address (taken, or not of this machine), the endpoint of the trace exporter.
  static base::Result<std::unique_ptr<Server>> start(ServeOptions options,
                                                     const base::Clock& clock = base::SystemClock::instance());
  // Stops at once.
  ~Server();

  // Starts the engine on the model, computes what is to be preloaded, and opens the API. Once. Errors: `exhausted`
  // (memory for the KV cache), what the engine says of its options, and `cancelled` if `cancelled` says so meanwhile.
  base::Result<void> serve(std::unique_ptr<LoadedModel> model, const std::function<bool()>& cancelled = {});

  uint16_t port() const;
  std::string url() const;  // "http://127.0.0.1:8080"

  // After serve().
  const LoadedModel& model() const;
  engine::Engine& engine();
  // What it counts and what it has seen; for who shows them beside others of this process.
  observe::Metrics& metrics();
  const observe::Tracer& tracer();
  // Memory given to the KV cache, in bytes.
  int64_t kv_bytes() const;

  // Stops admitting: /ready and new requests get 503 with Retry-After, what was admitted goes on. Connections are still
  // accepted, so that clients hear the reason instead of being refused. Returns at once. Idempotent.
  void drain();
  // Drains, waits up to `limit` for what runs, then cuts what is left, closes the socket and ends the threads. True if
  // nothing had to be cut. Idempotent.
  bool stop(base::Duration limit);
  // From now on stop(), also one that waits already, gives what runs no more time, and keeps no prefixes: clients are
  // told, and it returns. Returns at once. Idempotent.
  void hurry();

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidemill::serve
