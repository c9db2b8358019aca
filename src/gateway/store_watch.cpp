#include "gateway/store_watch.hpp"

#include <utility>

#include "base/log.hpp"

namespace tidemill::gateway {

void StoreWatch::look() {
  const auto answered = store_.check();
  const bool was_lost = std::exchange(lost_, !answered);
  if (was_lost == lost_) return;
  if (lost_) {
    base::log::error("the session store cannot be used, and requests that need it get 503 until it can: {}",
                     answered.error().to_string());
  } else {
    base::log::info("the session store is back");
  }
}

}  // namespace tidemill::gateway
