// What one of several processes may do at a time, for as long as it says that it still does: who is killed meanwhile
// holds the others up for as long as a lease lives, and no longer.
#pragma once

#include <span>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace tidemill::session {

struct Lease {
  std::string key;     // what it is of: any bytes, and of no tenant
  std::string holder;  // a name that no other has or had
};

// Thread-safe; calls may block on a disk or the network, up to the store's deadline. Errors are those of SharedState.
// Time is the store's own, so nothing that must not be done by two at once should hang on a lease alone: who holds one
// may have been asleep for longer than it lives.
class Leases {
 public:
  virtual ~Leases() = default;

  // Whether it is the holder's now, for `lives` from now on: it was nobody's, or the holder's already. False: another
  // has it, of which nothing is changed, or the holder has ended it, who takes it again under a new name.
  virtual base::Result<bool> take_lease(const Lease& lease, base::Duration lives) = 0;
  // Those that are their holders' still live for `lives` from now on. So do those that are nobody's: they have lapsed,
  // or were lost (a Redis that is full may drop what lives shortest). What another has got stays with him. None of them
  // is to be ended meanwhile.
  virtual base::Result<void> keep_leases(std::span<const Lease> leases, base::Duration lives) = 0;
  // It is nobody's from now on, if it was the holder's. What was sent before and comes later, as to a store that was
  // frozen, does not bring it back.
  virtual base::Result<void> end_lease(const Lease& lease) = 0;
};

}  // namespace tidemill::session
