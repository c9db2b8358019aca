// A model server of the same program, as with `tidemill up`.
#pragma once

#include "observe/metrics.hpp"
#include "observe/trace.hpp"

namespace tidemill::gateway {

// What the gateway shows of it beside its own. Null: nothing.
struct Companion {
  observe::Metrics* metrics = nullptr;
  const observe::Tracer* tracer = nullptr;
};

}  // namespace tidemill::gateway
