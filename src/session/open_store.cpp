#include "session/redis_address.hpp"
#include "session/redis_store.hpp"
#include "session/session_store.hpp"

namespace tidemill::session {

base::Result<std::unique_ptr<Store>> open_store(const StoreOptions& options, const base::Clock& clock) {
  TM_CHECK(check_location(options.path));
  return is_redis_url(options.path) ? open_redis_store(options, clock) : open_sqlite_store(options, clock);
}

}  // namespace tidemill::session
