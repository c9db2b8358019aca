// What goes first where a conversation is too long for the context: the oldest parts, and none without what belongs to
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "base/json.hpp"

namespace tidemill::serve {

// The parts of a conversation in the order in which they go. A turn is what a user says with all that follows; of each,
// the calls of tools go first, one by one, each with its result; then the rest of it. A result goes with its call also
// where the user has said something between the two. Of the last turn all stays but its calls, and of those the last
// one. What the system says stays. Answers that come to stand one behind the other become one, of a line for each.
class Shortening {
 public:
  // `messages` as wire::GenerateRequest has them; they must outlive this.
  explicit Shortening(const base::json::array& messages);

  size_t parts() const { return parts_.size(); }
  // The conversation without its `count` oldest parts.
  base::json::array without(size_t count) const;

  // What those are.
  struct Dropped {
    int64_t turns = 0;
    int64_t calls = 0;  // of turns that stayed
  };
  Dropped dropped(size_t count) const;

 private:
  struct Part {
    size_t turn_end;  // the message behind the turn
    size_t caller;    // a call: its message, its place there, and its result's message (or no_result)
    size_t call;
    size_t result;
    bool whole_turn;
  };
  static constexpr size_t no_result = static_cast<size_t>(-1);

  // A call's message and its place there.
  using CallPlace = std::pair<size_t, size_t>;

  void find_results();
  void add_calls(size_t begin, size_t end);

  const base::json::array& messages_;
  std::map<CallPlace, size_t> results_;  // the message that answers a call, which may be of a later turn
  std::vector<Part> parts_;
};

}  // namespace tidemill::serve
