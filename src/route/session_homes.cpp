#include "route/session_homes.hpp"

namespace tidemill::route {

std::optional<Backend> SessionHomes::find(uint64_t session) const {
  for (const auto* table : {&newer_, &older_}) {
    if (const auto found = table->find(session); found != table->end()) return found->second;
  }
  return std::nullopt;
}

void SessionHomes::set(uint64_t session, Backend backend) {
  older_.erase(session);
  newer_[session] = backend;
  if (newer_.size() < half_) return;
  older_ = std::exchange(newer_, {});
}

}  // namespace tidemill::route
