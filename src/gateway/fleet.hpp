// The backends of a gateway, and which of them a request goes to.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "gateway/backend.hpp"

namespace tidemill::gateway {

// What the choice of a backend depends on.
struct Wanted {
  std::string model;      // empty: any
  uint64_t affinity = 0;  // equal for requests that should meet again: of one session, or with one prompt's start
  bool marking = false;   // none that is known to send streams without marks: they cannot take one up exactly
};

// Thread-safe.
class Fleet {
 public:
  using Backends = std::vector<std::shared_ptr<Backend>>;

  // Those that stay the same in a reload keep their state.
  void replace(Backends backends);
  Backends backends() const;
  bool contains(const Backend& backend) const;

  // A backend that serves the model, is available and is none of `tried`: the least loaded one, the affinity deciding
  // among nearly equals. If none is available, one that is not. not_found, param "model": no backend serves it, all
  // being known; unavailable: none that may serve it is left.
  base::Result<Backend::Lease> pick(const Wanted& wanted, const std::vector<const Backend*>& tried) const;

  // The models of all backends, each once, in order.
  std::vector<std::string> models() const;

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const Backends> backends_ = std::make_shared<const Backends>();
};

}  // namespace tidemill::gateway
