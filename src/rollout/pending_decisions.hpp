// Decisions whose outcome is not known yet.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/json.hpp"
#include "base/result.hpp"
#include "rollout/bandit.hpp"

namespace tidemill::rollout {

// The last decisions, by id, so that feedback may come late. Thread-safe. A feedback that reaches another gateway finds
// nothing here: keep decisions in the shared store as well (to_json), or have the id carry the gateway's.
class PendingDecisions {
 public:
  explicit PendingDecisions(size_t most = size_t{1} << 16) : most_(most) {}

  // The oldest goes where there is no room. `other_id`: by which it is known as well, or empty. By either id the latest
  // one is known; an earlier one stays as long as there is an id that is its alone.
  void put(std::string_view id, const Decision& decision, std::string_view other_id = {});
  // Errors: not_found (never made here, or too long ago).
  base::Result<Decision> find(std::string_view id) const;
  struct Taken {
    std::string id;  // under which it was put
    Decision decision;
  };
  // Like `find`, once for each decision: a quality must not be learned twice. Errors: also invalid_argument, the second
  // time.
  base::Result<Taken> take_for_feedback(std::string_view id);

 private:
  struct Entry {
    std::string id;
    std::string other_id;
    Decision decision;
    bool taken = false;
  };
  base::Result<std::list<Entry>::iterator> at(std::string_view id) const;
  bool is_known_by(std::string_view id, const Entry& entry) const;
  void drop_oldest();
  void give_up(std::string_view id);

  const size_t most_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // the oldest first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_id_;
};

base::json::value to_json(const Decision& decision);
// Errors: invalid_argument; unsupported for another version's features.
base::Result<Decision> decision_from_json(const base::json::value& value);

}  // namespace tidemill::rollout
