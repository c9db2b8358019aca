// Tells whoever runs the gateway when the session store is lost, and when it is back.
#pragma once

#include "session/session_store.hpp"

namespace tidemill::gateway {

// One thread at a time. The store outlives it.
class StoreWatch {
 public:
  explicit StoreWatch(session::Store& store) : store_(store) {}

  // Asks the store whether it answers, and waits for it as long as its deadline says. One line in the log at each
  // change; at the first look only if it does not answer.
  void look();
  // The last look found that it does not.
  bool lost() const { return lost_; }

 private:
  session::Store& store_;
  bool lost_ = false;
};

}  // namespace tidemill::gateway
