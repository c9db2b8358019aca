// The store in a Redis (6 or later, or what speaks its protocol and runs its scripts; not a cluster, since calls touch
// several keys at once).
//
// Keys: "tidemill:record:<length of tenant>:<tenant>:<id>", and "tidemill:counter:", "tidemill:bucket:",
// "tidemill:lease:" and "tidemill:blob:" with the caller's key. What has a time to live ends by Redis's own clock. The
// hash "tidemill:exchanges" has the last exchange of each gateway, with the time at which it came; it has no time to
// live, so that no maxmemory-policy of the volatile kind forgets it while what it stands for is kept.
#pragma once

#include <memory>

#include "session/session_store.hpp"

namespace tidemill::session {

// `options.path` is the URL. Errors as of open_store.
base::Result<std::unique_ptr<Store>> open_redis_store(const StoreOptions& options, const base::Clock& clock);

}  // namespace tidemill::session
